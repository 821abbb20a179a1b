"""Samples in whichever form they come: one tensor or several, arrays, memory-mapped files, data sets.

What the evaluators cut into landscapes and chunks is one tensor with the samples along its first axis. A
tensor, or an array whose numbers the network takes as they are, is that tensor itself, never copied: of a
memory-mapped file only the chunk at work is in memory. For everything else that tensor holds the samples'
*positions*, and :class:`Lookup` fetches them, chunk by chunk, when the network is called.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from volume_lib.errors import InputError

_WIDENED = {torch.uint16, torch.uint32, torch.uint64, torch.int16}
"""Whole numbers that files hold and layers do not take: they are looked up as int64."""


def parts(x: Any) -> list[Any]:
    """The tensors or arrays of a structure (tuple, list or mapping, nested)."""
    if isinstance(x, Mapping):
        return [part for value in x.values() for part in parts(value)]
    return [part for value in x for part in parts(value)] if isinstance(x, tuple | list) else [x]


def each(x: Any, change: Callable[[Any], Any]) -> Any:
    """The same structure with every part changed."""
    if isinstance(x, Mapping):
        return {key: each(value, change) for key, value in x.items()}
    if isinstance(x, tuple | list):
        return tuple(each(value, change) for value in x)
    return change(x)


class Lookup:
    """Samples that are fetched by their positions; shared, not copied, by copies of what holds it.

    ``resident``: whether they may be moved as a whole to the device that asks for them.
    """

    def __init__(self, content: Any, resident: bool = True) -> None:
        self.content, self.resident = content, resident
        self._moved: dict[torch.device, Any] = {}

    def __deepcopy__(self, memo: dict) -> Lookup:
        return self

    def take(self, positions: Tensor, dtype: torch.dtype | None = None) -> Any:
        """The samples at ``positions`` (B,), on their device; floating-point parts in ``dtype`` if given."""
        device = positions.device
        content = self._on(device) if self.resident else self.content
        where = _compact(positions, parts(content)[0].device)

        def fetch(part: Tensor) -> Tensor:
            chosen = part[where].to(device)
            if chosen.dtype in _WIDENED:
                return chosen.long()
            return chosen.to(dtype) if dtype is not None and chosen.is_floating_point() else chosen

        return each(content, fetch)

    def _on(self, device: torch.device) -> Any:
        if device not in self._moved:
            self._moved[device] = each(self.content, lambda part: part.to(device))
        return self._moved[device]


def _compact(positions: Tensor, device: torch.device) -> Tensor | slice:
    """Evenly spaced positions as a slice, which spares a copy; others as they are."""
    # (torch's stubs leave this module out)
    if torch._C._functorch.is_functorch_wrapped_tensor(positions):  # pyright: ignore[reportAttributeAccessIssue]
        return positions
    first, last = int(positions[0]), int(positions[-1])
    step = max(1, (last - first) // max(1, len(positions) - 1))
    if last >= first and torch.equal(positions.cpu(), torch.arange(first, last + 1, step)):
        return slice(first, last + 1, step)
    return positions.to(device)


def as_samples(x: Any, name: str) -> Any:
    """``x`` as tensors with one length, in its own structure and sharing its memory.

    Raises :class:`InputError` for what holds no numbers, and where the lengths differ.
    """
    if isinstance(x, torch.utils.data.DataLoader):
        raise InputError(f"{name}: a DataLoader shuffles and repeats; give its .dataset, or tensors")
    content = each(x, lambda part: _tensor(part, name))
    lengths = {len(part) if part.dim() else -1 for part in parts(content)}
    if lengths <= {0, -1} or len(lengths) > 1:
        told = ", ".join(str(tuple(part.shape)) for part in parts(content)) or "none"
        raise InputError(
            f"{name}: every part needs the same number of samples, at least 1, first; got {told}"
        )
    return content


def _tensor(value: Any, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, bool | int | float | str) or value is None:
        raise InputError(f"{name}: {value!r} is no tensor; give the samples along the first axis of one")
    try:
        with warnings.catch_warnings():  # of files that are mapped read-only; nothing here writes
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(np.asarray(value))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name}: {type(value).__name__} of no numbers that torch knows ({error})"
        ) from error


def direct(x: Any, dtype: torch.dtype, device: torch.device, budget: float) -> bool:
    """Whether ``x`` itself can be cut: one tensor, as the network takes it, that the budget holds."""
    if not isinstance(x, Tensor) or x.dtype in _WIDENED:
        return False
    # What is larger may be turned into float64, or moved, by chunks only.
    fits = x.numel() * x.element_size() <= budget / 2
    return fits and not (x.is_floating_point() and x.dtype != dtype)


def lookup(content: Any, device: torch.device, budget: float) -> Lookup:
    """``content``, kept where it is unless the device can hold it within half the budget."""
    size = sum(part.numel() * part.element_size() for part in parts(content))
    here = all(part.device.type == device.type for part in parts(content))
    return Lookup(content, resident=here or size <= budget / 2)


# ---- data sets


def collect(dataset: Any, budget: float) -> tuple[Any, Any]:
    """Inputs and targets of a map-style ``Dataset``, each sample asked for once.

    A sample is ``(x, y)``; a mapping is the inputs, its ``labels`` (if any) the targets; anything else the
    inputs alone. They are kept in memory up to half the budget, beyond it in a temporary file.
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise InputError("x: a data set needs a length and samples by number; an iterable one has neither")
    if len(dataset) == 0:
        raise InputError("x: the data set is empty")
    if isinstance(dataset, torch.utils.data.TensorDataset):
        tensors = dataset.tensors
        return (tensors[0], None) if len(tensors) == 1 else (_unwrap(tensors[:-1]), tensors[-1])
    first = each(dataset[0], torch.as_tensor)
    size = len(dataset) * sum(part.numel() * part.element_size() for part in parts(first))
    whole = each(first, lambda part: _room((len(dataset), *part.shape), part.dtype, size <= budget / 2))
    for number in range(len(dataset)):
        sample = each(dataset[number], torch.as_tensor)
        for place, part, example in zip(parts(whole), parts(sample), parts(first), strict=True):
            if part.shape != example.shape:
                raise InputError(
                    f"x: samples of one shape are needed; sample 0 has {tuple(example.shape)} and sample "
                    f"{number} {tuple(part.shape)}"
                )
            place[number] = part
    if isinstance(whole, dict):
        y = whole.pop("labels", None)
        return whole, y
    if isinstance(whole, tuple):
        return (whole[0], None) if len(whole) == 1 else (_unwrap(whole[:-1]), whole[-1])
    return whole, None


def _unwrap(several: tuple) -> Any:
    return several[0] if len(several) == 1 else tuple(several)


def _room(shape: tuple[int, ...], dtype: torch.dtype, in_memory: bool) -> Tensor:
    """An empty tensor, in memory or in a temporary file that goes with it."""
    if in_memory:
        return torch.empty(shape, dtype=dtype)
    file = tempfile.TemporaryFile(prefix="volume_lib_")  # noqa: SIM115 - the map keeps it open
    kind = torch.empty(0, dtype=dtype).numpy().dtype
    return torch.from_numpy(np.memmap(file, dtype=kind, mode="w+", shape=shape))


def filled(rows: Iterator[Tensor], size: int, budget: float) -> Tensor:
    """Chunks of rows as one tensor of ``size``: in memory up to half the budget, else in a file."""
    whole, start = None, 0
    for chunk in rows:
        if whole is None:
            needed = size * chunk[0].numel() * chunk.element_size()
            whole = _room((size, *chunk.shape[1:]), chunk.dtype, needed <= budget / 2)
        whole[start : start + len(chunk)] = chunk.cpu()
        start += len(chunk)
    assert whole is not None and start == size
    return whole
