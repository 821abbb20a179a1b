r"""The Gaussian reference ``N(0, diag σ²)`` on the moved parameters against which a mass is measured.

- ``"init"``: the model's own initialisation. σ of a tensor is the root mean square of its entries over fresh
  draws: from ``build`` (a function that makes a fresh model), or by ``reset_parameters`` of its modules, as
  PyTorch's own layers have it. A constant is its own root mean square: the weights of a layer norm, 1 at
  initialisation, have σ = 1. Zeros have none: such a tensor takes the width of the weight beside it in its
  module, and without one the width of all tensors together. What cannot be drawn afresh takes its trained
  root mean square. ``Reference.notes`` says for which tensors.
- ``"rms"``: one width for all, the root mean square of the trained parameters.
- a number, or a tensor (n,) of one's own.

The mean is 0 throughout, so that a reference knows nothing of the minimum it is asked about.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real

import torch
from torch import Tensor, nn

from volume_lib.errors import InputError, near_match

_DRAWN = 20_000
"""Numbers of a tensor that its width is measured from, at least, where it has them in 64 draws."""


@dataclass(frozen=True)
class Reference:
    """``sigma`` (n,) in the order of the moved parameters, ``name`` of its rule, ``widths`` by tensor where
    each has one, ``notes``: tensors whose width needed a rule of its own, and which."""

    name: str
    sigma: Tensor
    widths: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def make_reference(
    model: nn.Module,
    names: Sequence[str],
    reference: str | float | Tensor = "init",
    *,
    build: Callable[[], nn.Module] | None = None,
    seed: int = 0,
) -> Reference:
    """The reference for the parameters ``names`` of ``model``. Raises :class:`InputError` for an impossible
    one."""
    tensors = {name: model.get_parameter(name).detach() for name in names}
    count = sum(tensor.numel() for tensor in tensors.values())
    if isinstance(reference, Tensor):
        sigma = reference.detach().double().reshape(-1).cpu()
        if len(sigma) != count or not (torch.isfinite(sigma) & (sigma > 0)).all():
            raise InputError(
                f"reference: a tensor must hold {count:,} positive widths, one per moved parameter"
            )
        return Reference("own", sigma)
    if isinstance(reference, Real) and not isinstance(reference, bool):
        if not (reference > 0 and math.isfinite(reference)):
            raise InputError(f"reference {reference}: a width must be a positive number")
        return Reference("own", torch.full((count,), float(reference), dtype=torch.float64))
    if reference == "rms":
        width = math.sqrt(sum(float(t.double().square().sum()) for t in tensors.values()) / count)
        return Reference("rms", torch.full((count,), _positive(width), dtype=torch.float64))
    if reference != "init":
        known = near_match(str(reference), ["init", "rms"])
        raise InputError(f'reference "{reference}": must be init, rms, a number or a tensor{known}')
    widths, notes = _initial(model, tensors, build, seed)
    parts = [
        torch.full((tensor.numel(),), widths[name], dtype=torch.float64) for name, tensor in tensors.items()
    ]
    return Reference("init", torch.cat(parts), widths, tuple(notes))


def _initial(
    model: nn.Module, tensors: dict[str, Tensor], build: Callable[[], nn.Module] | None, seed: int
) -> tuple[dict[str, float], list[str]]:
    """Each tensor's width over fresh draws, and where another rule served."""
    squares, counts = dict.fromkeys(tensors, 0.0), dict.fromkeys(tensors, 0)
    drawn: set[str] = set(tensors) if build else _drawn_by_reset(model, set(tensors))
    smallest = min(tensor.numel() for tensor in tensors.values())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(max(1, min(64, _DRAWN // smallest))):
            fresh = build() if build else _reset(model)
            for name, tensor in tensors.items():
                try:
                    found = fresh.get_parameter(name).detach()
                except AttributeError:
                    found = None
                if found is None or found.shape != tensor.shape:
                    raise InputError(
                        f"build: its model has no parameter {name} of shape {tuple(tensor.shape)}"
                    )
                squares[name] += float(found.double().square().sum())
                counts[name] += tensor.numel()
    widths, notes = {}, []
    for name, tensor in tensors.items():
        if name in drawn:
            widths[name] = math.sqrt(squares[name] / counts[name])
        else:
            widths[name] = float(tensor.double().square().mean().sqrt())
            notes.append(f"{name}: not drawn afresh (no reset_parameters; give build=), its trained width")
    alive = [squares[name] for name in tensors if widths[name]]
    together = math.sqrt(sum(alive) / max(1, sum(counts[name] for name in tensors if widths[name])))
    for name in tensors:
        if not widths[name]:
            beside = widths.get(f"{name.rpartition('.')[0]}.weight".lstrip("."), 0.0)
            widths[name] = _positive(beside or together)
            notes.append(
                f"{name}: zeros at initialisation, the width of {'its weight' if beside else 'all tensors'}"
            )
    return widths, notes


def _resetters(model: nn.Module) -> list[tuple[str, nn.Module, str]]:
    found = []
    for name, module in model.named_modules():
        for attribute in ("reset_parameters", "_reset_parameters"):
            if callable(getattr(module, attribute, None)):
                found.append((name, module, attribute))
                break
    return found


def _drawn_by_reset(model: nn.Module, names: set[str]) -> set[str]:
    """Which parameters belong to modules that can reset them, under any of their names."""
    own = {id(p) for _, module, _ in _resetters(model) for p in module.parameters(recurse=False)}
    return {name for name in names if id(model.get_parameter(name)) in own}


def _reset(model: nn.Module) -> nn.Module:
    fresh = copy.deepcopy(model).cpu()
    for _, module, attribute in _resetters(fresh):
        getattr(module, attribute)()
    return fresh


def _positive(width: float) -> float:
    if not (width > 0 and math.isfinite(width)):
        raise InputError("reference: every parameter is 0, so no width can be measured; give a number")
    return width
