"""What may be done with a network: what evaluators ask before they choose their way.

Whether its inputs survive a call, whether several directions go through it together (``vmap``), whether it
runs in float64. Each has a way around, which gives the same numbers with less speed or fewer digits.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from volume_lib.calls import (
    SAMPLES,
    PerSample,
    call,
    doubled,
    each,
    few,
    first_line,
    on,
    outputs_of,
    parts,
    per_sample,
    undisturbed,
)
from volume_lib.errors import InputError
from volume_lib.parameters import copied

BATCH_ELEMENTS = 2**21
"""Activations (numbers) that one batch of samples holds at the network's widest layer: 8 MB, which a shared
cache holds. Smaller batches lose more in calls than they gain by a nearer cache."""
FLOAT32_ROUNDING = 1e-3
"""Largest part of a threshold that the rounding of one sample's loss may be. It moves a radius by half as
much where few samples decide, and by a thirtieth of that in the mean over a thousand."""


@dataclass(frozen=True)
class Abilities:
    """What evaluators may do with a network; ``why`` has the reasons of what they may not."""

    copies: bool = False
    """``forward`` changes its inputs in place: each call is to get a copy."""
    together: bool = True
    """Several sets of parameters go through the network, the loss and the accuracy in one call (``vmap``)."""
    float64: bool = True
    """Network and loss run in float64 and give float64."""
    width: int = 1
    """Numbers that the widest layer puts out for one sample."""
    rounding: float = 0.0
    """Root mean square of the rounding of one sample's loss in the network's own precision."""
    why: dict[str, str] = field(default_factory=dict)

    def too_coarse(self, threshold: float) -> bool:
        """Whether losses near ``threshold`` are lost in the rounding of the network's own precision."""
        return self.rounding > FLOAT32_ROUNDING * threshold


@torch.no_grad()
def abilities(
    model: nn.Module, x: Any, y: Tensor, loss: PerSample, accuracy: PerSample | None = None, label: str = ""
) -> Abilities:
    """What may be done with ``model``, a private copy in eval mode, on its device; nothing of it changes.

    Asked on the first few of the samples ``x``, ``y``; whether it changes them, on as many as are taken at
    once, too. Inputs may lie elsewhere, in another precision: those that are asked on are taken to it.

    Raises :class:`InputError` where it does not run at all, or its loss is not one number for each sample.
    """
    whole, why, device = x, {}, y.device
    x, y = fitting(model, on(few(x), device)), few(y)
    with undisturbed(device):
        with _sizes_of_outputs(model) as found:
            outputs = outputs_of(model, each(x, torch.clone), label)
        width = max(1, max(found) // len(y))
        size = batch_size(width, x)
        copies = changes_inputs(model, x)
        if not copies and len(parts(whole)[0]) > SAMPLES:
            copies = changes_inputs(model, fitting(model, on(each(whole, lambda p: p[:size]), device)))
        if copies:
            why["copies"] = "forward changes them in place, so that each call gets a copy"
            model = copy.deepcopy(model)
            give_copies(model)
        per_sample(loss, outputs, y, f"{label}loss")
        reason = _not_together(model, x, y, loss, accuracy)
        if reason:
            why["together"] = f"one at a time: not under vmap ({reason})"
        reason, rounding = _not_double(model, x, y, loss)
        if reason:
            why["float64"] = f"float32 only: not in float64 ({reason})"
    return Abilities(copies, "together" not in why, "float64" not in why, width, rounding, why)


def ready(model: nn.Module, label: str = "") -> tuple[nn.Module, str]:
    """A copy in eval mode that can be computed with, and what its weights were turned into ("": nothing).

    Half precision is not enough to find a crossing: such weights, as they are stored, are taken to float32.
    """
    for key, value in model.named_parameters():
        if not torch.isfinite(value).all():
            raise InputError(f"{label}parameter {key}: holds NaN or infinity; train again, or mend its file")
    try:
        model = copied(model).eval()
    except RuntimeError as error:
        raise InputError(
            f"{label}the network cannot be copied ({first_line(error)}); it may keep no tensors of a "
            "forward pass"
        ) from error
    halves = {p.dtype for p in model.parameters() if p.is_floating_point() and p.element_size() < 4}
    if not halves:
        return model, ""
    names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in halves))
    return model.float(), f"computed in float32 from the stored {names}"


def fitting(model: nn.Module, x: Any) -> Any:
    """Inputs as the network takes them: floating-point ones in its own precision where it refuses theirs."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)

    def cast(part: Tensor) -> Tensor:
        return part.to(dtype) if part.is_floating_point() else part

    if not any(part.is_floating_point() and part.dtype != dtype for part in parts(x)):
        return x
    try:
        with torch.no_grad(), undisturbed(parts(x)[0].device):
            call(model, each(few(x), torch.clone))
        return x
    except (RuntimeError, TypeError, ValueError):
        return each(x, cast)


@torch.no_grad()
def changes_inputs(model: nn.Module, x: Any) -> bool:
    """Whether ``model`` changes the inputs of a call, asked with a copy of ``x``."""
    given = each(x, torch.clone)
    call(model, given)
    return not _equal(x, given)


@torch.no_grad()
def widest_activation(model: nn.Module, x: Any) -> int:
    """Numbers that the widest layer puts out for one sample."""
    with _sizes_of_outputs(model) as found:
        call(model, each(x, lambda part: part[:1].clone()))
    return max(found)


@contextmanager
def _sizes_of_outputs(model: nn.Module) -> Iterator[list[int]]:
    """The numbers that each layer puts out in a call, of all samples together."""
    found = [1]

    def note(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            found.append(output.numel())

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def samples_together(width: int) -> int:
    """Samples of one batch, for a network whose widest layer puts out ``width`` numbers for each."""
    return max(16, BATCH_ELEMENTS // width)


def batch_size(width: int, x: Any) -> int:
    """How many samples to ask of a batch: as evaluators take at once, where copies of them are small."""
    return samples_together(max(width, *(part[0].numel() for part in parts(x))))


def give_copies(model: nn.Module) -> None:
    """Let ``model`` work on a copy of its inputs at every call; ``model.gets_copies`` says so."""

    def on_copies(_model: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return each(args, _clone), each(kwargs, _clone)

    model.register_forward_pre_hook(on_copies, with_kwargs=True)
    model.__dict__["gets_copies"] = True  # a mark: no parameter, no module


def _not_together(
    model: nn.Module, x: Any, y: Tensor, loss: PerSample, accuracy: PerSample | None
) -> str | None:
    """Why several sets of parameters cannot go through together; None if they can, to rounding."""
    own = {key: value.detach() for key, value in model.named_parameters()}
    stacked = {
        key: torch.stack([value, value * 1.01 if value.is_floating_point() else value])
        for key, value in own.items()
    }

    def one(parameters: dict[str, Tensor]) -> tuple[Tensor, ...]:
        outputs = call(_Functional(model, parameters), x)
        values = loss(outputs, y)
        return (values,) if accuracy is None else (values, accuracy(outputs, y))

    with undisturbed(y.device):
        try:
            together = vmap(one)(stacked)[0]
        except Exception as error:
            return first_line(error)
        alone = [one({key: value[row] for key, value in stacked.items()})[0] for row in range(2)]
    return None if _close(together, torch.stack(alone)) else "other numbers"


def _not_double(model: nn.Module, x: Any, y: Tensor, loss: PerSample) -> tuple[str | None, float]:
    """Why network and loss do not run in float64 (None: they do), and the rounding of one sample's loss."""
    single = loss(outputs_of(model, x), y)
    if single.dtype == torch.float64:
        return None, 0.0
    eps = torch.finfo(single.dtype).eps if single.is_floating_point() else 0.0
    floor = eps * max(1.0, single.abs().max().item())
    try:
        twin = copy.deepcopy(model).double()
        outputs = call(twin, each(x, doubled))
        double = loss(outputs, doubled(y))
    except Exception as error:
        return first_line(error), floor
    if double.dtype != torch.float64 or outputs.dtype != torch.float64:
        return f"it gives {str(outputs.dtype).removeprefix('torch.')}", floor
    if not _close(single, double):
        return "other numbers", floor
    return None, max((double - single).square().mean().sqrt().item(), eps / 4)


# ---- small parts


class _Functional(nn.Module):
    """A network with other parameters in place of its own."""

    network: nn.Module
    parameters_: dict[str, Tensor]

    def __init__(self, model: nn.Module, parameters: dict[str, Tensor]) -> None:
        super().__init__()
        self.__dict__["network"], self.__dict__["parameters_"] = model, parameters

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return functional_call(self.network, self.parameters_, args, kwargs)


def _close(a: Tensor, b: Tensor) -> bool:
    a, b = a.double(), b.double()
    size = b[b.isfinite()].abs().max().item() if b.isfinite().any() else 0.0
    return torch.allclose(a, b, rtol=1e-3, atol=1e-5 + 1e-4 * size, equal_nan=True)


def _clone(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _equal(a: Any, b: Any) -> bool:
    return all(
        torch.equal(p, q) or bool(((p == q) | ((p != p) & (q != q))).all())
        for p, q in zip(parts(a), parts(b), strict=True)
    )
