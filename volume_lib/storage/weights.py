"""A network's weights: whether they can be stored, as arrays, and back into a network of their size."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from volume_lib.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from volume_lib.problems.base import Problem

_SLACK, _ENTRIES = 1 << 24, 10_000


def check_storable(model: nn.Module) -> None:
    """Raise InputError, naming the first of ``model``'s weights that no file here can hold."""
    for name, value in model.state_dict().items():
        why = _why_not(value)
        if why:
            raise InputError(
                f"{type(model).__name__}: {name} is {why}: it cannot be stored; ordinary tensors of real "
                "numbers can"
            )


def _why_not(value: Any) -> str:
    import torch

    if not isinstance(value, torch.Tensor):
        return f"a {type(value).__name__}, not a tensor"
    if value.layout != torch.strided or value.is_nested:
        return "sparse or nested"
    if value.is_quantized or value.is_meta or value.is_complex():
        return "quantised" if value.is_quantized else "on no device" if value.is_meta else "complex"
    return ""


def arrays_of(model: nn.Module) -> dict[str, np.ndarray]:
    """The weights and buffers of ``model`` by name, as a sweep's file holds them.

    Floating-point types that numpy lacks (bfloat16, float8) become float32, which holds all their values.
    Raises InputError as :func:`check_storable` does.
    """
    check_storable(model)
    return {name: array_of(value) for name, value in model.state_dict().items()}


def array_of(weights: Any) -> np.ndarray:
    """Weights as an array; older files hold tensors."""
    if not hasattr(weights, "detach"):  # not asked of torch: arrays are read without it
        array = np.asarray(weights)
        if array.dtype.kind not in "biuf":
            raise ValueError("must be an array of real numbers")
        return array
    if _why_not(weights):
        raise ValueError("must be an ordinary tensor of real numbers")
    weights = weights.detach().cpu()
    try:
        return weights.numpy()
    except TypeError:
        return weights.float().numpy()


def weights_digest(state: Mapping[str, Any]) -> str:
    """What weights and buffers are, in 16 letters, whatever holds them (tensors, arrays) and names them."""
    parts = []
    for value in state.values():
        array = array_of(value)
        array = array.astype("<f8") if array.dtype.kind == "f" else array.astype("<i8")
        part = hashlib.blake2b(str(array.shape).encode(), digest_size=16)
        part.update(np.ascontiguousarray(array).data)
        parts.append(part.digest())
    return hashlib.blake2b(b"".join(sorted(parts)), digest_size=8).hexdigest()


class _TooLarge(Exception):
    """A network has far more weights than its file."""


@contextlib.contextmanager
def _limited(stored: int, names: int) -> Iterator[None]:
    """Within, a network that is built may have few more weights than are stored, or it is not built on.

    Each is counted before it is filled: memory that is only asked for costs nothing yet.
    """
    from torch.nn.modules import module as hooks
    from torch.nn.parameter import is_lazy

    left, entries = 4 * stored + _SLACK, 100 * names + _ENTRIES

    def count(_: Any, name: str, value: Any) -> None:
        nonlocal left, entries
        entries -= 1
        if value is not None and hasattr(value, "numel") and not is_lazy(value):
            left -= value.numel()
        if left < 0 or entries < 0:
            raise _TooLarge(f"at {name}")

    handles = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
        hooks.register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def rebuild(
    problem: Problem, kind: str, arguments: dict[str, Any], seed: int, state: dict[str, Tensor]
) -> nn.Module:
    """The network of class ``kind`` that has the weights ``state``, in eval mode on the CPU.

    Raises InputError where it cannot be built, is far larger than ``state``, or does not fit it; without
    the name of the file, which the caller knows.
    """
    what = f"{kind} with {str(arguments)[:200]}"
    try:
        with _limited(sum(value.numel() for value in state.values()), len(state)):
            model = problem.build_model(arguments, seed, kind)
    except InputError:
        raise
    except _TooLarge as error:
        raise InputError(f"its weights do not fit {what}, which is far larger") from error
    except Exception as error:  # a network of anybody's
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{what} cannot be built ({type(error).__name__}: {reason})") from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"its weights do not fit {what}: {reason}") from error
    return model.eval()
