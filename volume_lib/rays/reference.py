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
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Real

import torch
from torch import Tensor, nn

from volume_lib.errors import InputError, near_match
from volume_lib.parameters import moved_names
from volume_lib.problems.base import Problem
from volume_lib.records import TrainedModel

_DRAWN = 20_000
"""Numbers of a tensor that its width is measured from, at least, where it has them in 64 draws."""
_MOST = 200_000_000
"""Numbers that may be drawn for it, where one draw is not more: tensors that large need no second one."""


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
        width = float(reference)
        if not (width > 0 and math.isfinite(width)):
            raise InputError(f"reference {reference}: a width must be a positive number")
        return Reference("own", torch.full((count,), width, dtype=torch.float64))
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


def fresh_models(problem: Problem, trained: TrainedModel, seed: int = 0) -> Callable[[], nn.Module]:
    """A function that makes fresh models of the same kind, each of another seed from ``seed`` on."""
    seeds = itertools.count(seed)

    def build() -> nn.Module:
        return problem.build_model(trained.model_kwargs, next(seeds), trained.model_class)

    return build


def init_widths(model: nn.Module, build: Callable[[], nn.Module] | None = None, seed: int = 0) -> list[float]:
    """As :func:`told_widths`; empty where there is no telling."""
    try:
        return told_widths(model, build, seed)
    except InputError:
        return []


def told_widths(model: nn.Module, build: Callable[[], nn.Module] | None = None, seed: int = 0) -> list[float]:
    """The widths of ``"init"`` of the moved tensors, in their order. InputError where there is no telling,
    as where ``build`` makes other networks."""
    names = moved_names(model)
    widths = make_reference(model, names, build=build, seed=seed).widths
    return [widths[name] for name in names]


def _initial(
    model: nn.Module, tensors: dict[str, Tensor], build: Callable[[], nn.Module] | None, seed: int
) -> tuple[dict[str, float], list[str]]:
    """Each tensor's width over fresh draws, and where another rule served."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        squares = _built(build, tensors) if build else _reset(model, tensors)
    widths, notes = {}, []
    for name, tensor in tensors.items():
        if name in squares:
            widths[name] = math.sqrt(squares[name])
        else:
            widths[name] = float(tensor.double().square().mean().sqrt())
            notes.append(f"{name}: not drawn afresh (no reset_parameters; give build=), its trained width")
    alive = {name: tensors[name].numel() for name in tensors if widths[name]}
    drawn = sum(squares.get(name, 0.0) * count for name, count in alive.items())
    together = math.sqrt(drawn / max(1, sum(alive.values())))
    for name in tensors:
        if not widths[name]:
            beside = widths.get(f"{name.rpartition('.')[0]}.weight".lstrip("."), 0.0)
            widths[name] = _positive(beside or together)
            notes.append(
                f"{name}: zeros at initialisation, the width of {'its weight' if beside else 'all tensors'}"
            )
    return widths, notes


def _draws(counts: Iterable[int]) -> int:
    """How many draws tensors of so many numbers need together: more for small ones, few for large ones."""
    counts = list(counts)
    return max(1, min(64, _DRAWN // max(1, min(counts)), _MOST // max(1, sum(counts))))


def _built(build: Callable[[], nn.Module], tensors: dict[str, Tensor]) -> dict[str, float]:
    """Mean squares of the tensors over fresh models."""
    squares, draws = dict.fromkeys(tensors, 0.0), _draws(tensor.numel() for tensor in tensors.values())
    for _ in range(draws):
        fresh = build()
        for name, tensor in tensors.items():
            try:
                found = fresh.get_parameter(name).detach()
            except AttributeError:
                found = None
            if found is None or found.shape != tensor.shape:
                raise InputError(f"build: its model has no parameter {name} of shape {tuple(tensor.shape)}")
            squares[name] += float(found.double().square().mean()) / draws
    return squares


def _reset(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, float]:
    """Mean squares of the tensors whose modules can reset them, each module drawn on its own."""
    names = {id(model.get_parameter(name)): name for name in tensors}
    squares: dict[str, float] = {}
    for module, attribute in _resetters(model):
        own = {key: names[id(p)] for key, p in module.named_parameters(recurse=False) if id(p) in names}
        if not own:
            continue
        fresh, total = copy.deepcopy(module).cpu(), dict.fromkeys(own.values(), 0.0)
        draws = _draws(tensors[name].numel() for name in total)
        for _ in range(draws):
            getattr(fresh, attribute)()
            for key, name in own.items():
                total[name] += float(fresh.get_parameter(key).detach().double().square().mean()) / draws
        squares |= total
    return squares


def _resetters(model: nn.Module) -> list[tuple[nn.Module, str]]:
    found = []
    for module in model.modules():
        for attribute in ("reset_parameters", "_reset_parameters"):
            if callable(getattr(module, attribute, None)):
                found.append((module, attribute))
                break
    return found


def _positive(width: float) -> float:
    if not (width > 0 and math.isfinite(width)):
        raise InputError("reference: every parameter is 0, so no width can be measured; give a number")
    return width
