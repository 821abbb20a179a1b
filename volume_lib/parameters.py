"""Which parameters of a network move, and their flat vector.

*Moved* are the parameters that a direction changes: by default those that require a gradient
(``requires_grad``) in the model as it is given. All others are *frozen* and stay where they are, in training,
sweeps and slices alike; buffers never move. :func:`choose` makes another choice from names, patterns or a
predicate. Moved parameters are flattened and concatenated in the order of ``model.named_parameters()``;
those that share their memory (tied weights) move together and count once.
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Callable, Iterable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from volume_lib.errors import InputError, near_match

Choice: TypeAlias = str | Iterable[str] | Callable[[str, nn.Parameter], bool]
"""Names or patterns (``"*.lora_*"``) of parameters, or a predicate of a name and the parameter."""


def tied_names(model: nn.Module) -> list[list[str]]:
    """All names of each parameter, in the order of ``named_parameters``; tied ones have several.

    Raises:
        InputError: two overlap in memory without being the same, so that neither moves alone, or one is not
            initialised.
    """
    groups: dict[tuple, list[str]] = {}
    extents: list[tuple[int, int, str, nn.Parameter]] = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if nn.parameter.is_lazy(parameter):
            raise InputError(f"parameter {name}: is not initialised yet; run the model once on its inputs")
        storage = parameter.untyped_storage().data_ptr()
        key: tuple = (id(parameter),)
        if storage and parameter.numel():
            offset, shape, strides = parameter.storage_offset(), parameter.shape, parameter.stride()
            key = (storage, offset, shape, strides, parameter.dtype)
            if key not in groups:
                span = 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
                start = storage + offset * parameter.element_size()
                extents.append((start, start + span * parameter.element_size(), name, parameter))
        groups.setdefault(key, []).append(name)
    extents.sort(key=lambda extent: extent[0])
    for i, (_, stop, name, parameter) in enumerate(extents):
        for start, _, other, another in extents[i + 1 :]:
            if start >= stop:
                break
            if _overlap(parameter, another):
                raise InputError(
                    f"parameters {name} and {other} overlap in memory without being the same tensor; "
                    "make them one parameter, or give each its own memory"
                )
    return list(groups.values())


def moved_names(model: nn.Module) -> list[str]:
    """Names of the parameters that directions move, in the order of ``named_parameters``.

    Raises:
        InputError: none requires a gradient, or one that does cannot be moved on its own (its numbers are
            not real, it is not initialised, or it overlaps another in memory without being the same).
    """
    needing = {name for name, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    names = [names[0] for names in tied_names(model) if needing.intersection(names)]
    if not names:
        raise InputError(
            f"{type(model).__name__}: no parameter requires a gradient, so none moves; "
            "set requires_grad, or name those that are to move (parameters=)"
        )
    for name in names:
        _check(name, model.get_parameter(name))
    return names


def frozen_names(model: nn.Module) -> list[str]:
    """Names of the parameters that stay where they are; of tied ones the first."""
    moved = set(moved_names(model))
    return [names[0] for names in tied_names(model) if names[0] not in moved]


def moved_shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Shapes of the moved parameters by name, in the order of :func:`moved_names`."""
    return {name: model.get_parameter(name).shape for name in moved_names(model)}


def num_moved(model: nn.Module) -> int:
    """``n``: how many numbers the moved parameters hold."""
    return sum(shape.numel() for shape in moved_shapes(model).values())


def describe_moved(model: nn.Module, most: int = 8) -> str:
    """Which parameters move and which do not, in one line; of each list at most ``most`` names."""
    parts = []
    for word, names in (("moved", moved_names(model)), ("frozen", frozen_names(model))):
        count = sum(model.get_parameter(name).numel() for name in names)
        shown = [*names[:most], f"and {len(names) - most} more"] if len(names) > most else names
        parts.append(f"{word}: {count:,} ({', '.join(shown)})" if names else f"{word}: none")
    return "; ".join(parts)


def choose(model: nn.Module, parameters: Choice) -> list[str]:
    """Names of the parameters that ``parameters`` asks for; of tied ones any name counts, and one is given.

    >>> choose(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), "1.*")
    ['1.weight', '1.bias']

    Raises:
        InputError: a name or pattern fits no parameter, or nothing is chosen.
    """
    groups = tied_names(model)
    known = [name for names in groups for name in names]
    if callable(parameters):
        wanted = {name for name in known if parameters(name, model.get_parameter(name))}
    else:
        wanted = set()
        for pattern in [parameters] if isinstance(parameters, str) else parameters:
            found = [name for name in known if name == pattern or fnmatch.fnmatchcase(name, str(pattern))]
            if not found:
                raise InputError(
                    f'parameters "{pattern}": {type(model).__name__} has none of that name'
                    f"{near_match(pattern, known)}; it has {', '.join(known[:20])}"
                )
            wanted.update(found)
    chosen = [names[0] for names in groups if wanted.intersection(names)]
    if not chosen:
        raise InputError(
            f"parameters: none of {type(model).__name__}'s is chosen; there are {', '.join(known)}"
        )
    for name in chosen:
        _check(name, model.get_parameter(name))
    return chosen


def copied(model: nn.Module, parameters: Choice | None = None) -> nn.Module:
    """A copy of ``model`` with the same moved parameters, or those that ``parameters`` chooses.

    Parameters that share their memory are one parameter in the copy, so that they go on moving together.
    """
    groups = tied_names(model)
    moved = set(moved_names(model) if parameters is None else choose(model, parameters))
    twin = copy.deepcopy(model)
    for names in groups:
        parameter = twin.get_parameter(names[0])
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.requires_grad_(names[0] in moved)
        for name in names[1:]:
            owner, _, attribute = name.rpartition(".")
            setattr(twin.get_submodule(owner), attribute, parameter)
    return twin


def flatten(model: nn.Module) -> Tensor:
    """The moved parameters of ``model`` as one detached vector, shape ``(n,)``."""
    return torch.cat([model.get_parameter(name).detach().reshape(-1) for name in moved_names(model)])


def unflatten(vector: Tensor, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Cut ``vector`` (shape ``(..., n)``) into named tensors of the given shapes, as views.

    Leading dimensions are kept: a batch of vectors gives a batch of every parameter.
    """
    sizes = [shape.numel() for shape in shapes.values()]
    pieces = vector.split(sizes, dim=-1)
    return {
        name: piece.unflatten(-1, shape) if shape else piece.squeeze(-1)
        for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
    }


@torch.no_grad()
def place(model: nn.Module, vector: Tensor, shapes: dict[str, torch.Size] | None = None) -> None:
    """Set the moved parameters of ``model`` to those of ``vector`` ``(n,)``, in place.

    ``shapes``: their :func:`moved_shapes`, where they are known already.
    """
    for name, value in unflatten(vector, shapes or moved_shapes(model)).items():
        model.get_parameter(name).copy_(value)


def _check(name: str, parameter: nn.Parameter) -> None:
    if not parameter.is_floating_point():
        raise InputError(
            f"parameter {name}: holds {str(parameter.dtype).removeprefix('torch.')} numbers; only real "
            "floating-point numbers move: leave it out of parameters=, or freeze it (requires_grad_(False))"
        )


def _overlap(first: nn.Parameter, second: nn.Parameter) -> bool:
    """Whether two parameters of one storage have an element in common."""
    marks = torch.zeros(first.untyped_storage().nbytes(), dtype=torch.bool)
    for parameter in (first, second):
        size = parameter.element_size()
        steps = [step * size for step in parameter.stride()]
        place = marks.as_strided(parameter.shape, steps, parameter.storage_offset() * size)
        if parameter is second:
            return bool(place.any())
        place.fill_(True)
    return False
