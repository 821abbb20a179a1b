"""Targets by their kind: classes, labels of which several hold, values; and which others are wrong or random.

=============  =======================================================================================
``classes``    whole numbers, one or several for a sample
``one-hot``    rows of zeros and a single 1
``labels``     zeros and ones (or booleans), any number of them 1
``values``     any other floating-point numbers
=============  =======================================================================================
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from volume_lib.errors import InputError
from volume_lib.records import Data

_ROUNDS = 200


def kind_of(y: Tensor) -> str:
    """``classes``, ``one-hot``, ``labels`` or ``values``."""
    if y.dtype != torch.bool and not y.is_floating_point():
        return "classes"
    if not ((y == 0) | (y == 1)).all():
        return "values"
    one_hot = y.ndim == 2 and y.shape[1] > 1 and len(y) > 0 and bool((y.sum(1) == 1).all())
    return "one-hot" if one_hot else "labels"


def wrong(y: Tensor, num_classes: int, generator: torch.Generator) -> Tensor:
    """Targets (N, …) that all differ from ``y``, each uniform over what else it could be.

    Classes: over the other classes. One-hot and several labels: over the other rows of their kind. Values:
    over the targets of the other samples. InputError where there is nothing else.
    """
    kind = kind_of(y)
    if kind == "classes":
        shift = torch.randint(1, num_classes, y.shape, generator=generator)
        return ((y.long() + shift) % num_classes).to(y.dtype)
    if kind == "one-hot":
        return _one_hot(wrong(y.argmax(1), y.shape[1], generator), y)
    if kind == "labels":
        return _until_different(y, lambda: torch.randint(2, y.shape, generator=generator).to(y.dtype))
    return _until_different(y, lambda: y[torch.randint(len(y), (len(y),), generator=generator)])


def at_random(y_like: Tensor, num_classes: int, generator: torch.Generator) -> Tensor:
    """Targets of the shape, dtype and kind of ``y_like`` (N, …) that say nothing of their samples.

    Classes, one-hot and several labels: uniform. Values: those of ``y_like`` in another order.
    """
    kind = kind_of(y_like)
    if kind == "classes":
        return torch.randint(num_classes, y_like.shape, generator=generator).to(y_like.dtype)
    if kind == "one-hot":
        return _one_hot(torch.randint(y_like.shape[1], (len(y_like),), generator=generator), y_like)
    if kind == "labels":
        return torch.randint(2, y_like.shape, generator=generator).to(y_like.dtype)
    return y_like[torch.randperm(len(y_like), generator=generator)]


def checked(data: Data, num_classes: int | None = None) -> Data:
    """``data`` as everything else expects it: tensors, as many targets as inputs, none of them NaN.

    NumPy arrays become tensors and whole numbers of up to two dimensions int64. With ``num_classes`` the
    targets are classes for a cross-entropy: those given as floats, or as (N, 1), become int64 (N,).

    Raises:
        InputError: it names the part of the data and what is wrong with it.
    """
    parts = {name: _tensor(name, getattr(data, name)) for name in ("x_train", "y_train", "x_test", "y_test")}
    for part in ("train", "test"):
        inputs, targets = len(parts[f"x_{part}"]), len(parts[f"y_{part}"])
        if inputs != targets:
            raise InputError(f"load(): {inputs:,} inputs x_{part} but {targets:,} targets y_{part}")
        parts[f"y_{part}"] = _targets(f"y_{part}", parts[f"y_{part}"], num_classes)
    return Data(**parts)


def _tensor(name: str, values: object) -> Tensor:
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"load(): {name} is no tensor, and cannot become one: {error}") from error
    if tensor.ndim == 0:
        raise InputError(f"load(): {name} is one number; it must have samples as its first dimension")
    # a sum is NaN if an entry is, and takes no memory
    if tensor.is_floating_point() and tensor.sum().isnan() and tensor.isnan().any():
        where = int(tensor.isnan().flatten(1 if tensor.ndim > 1 else 0).nonzero()[0, 0])
        raise InputError(f"load(): {name} holds NaN, first in sample {where}")
    return tensor


def _targets(name: str, y: Tensor, num_classes: int | None) -> Tensor:
    whole = not y.is_floating_point() and not y.is_complex() and y.dtype != torch.bool
    if num_classes is None:
        return y.long() if whole and y.ndim <= 2 else y
    if y.is_floating_point() and not (y == y.round()).all():
        raise InputError(f"load(): {name} must hold classes, whole numbers from 0 to {num_classes - 1}")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    y = y.long()
    if len(y) and not (y.min() >= 0 and y.max() < num_classes):
        raise InputError(
            f"load(): {name} holds the classes {int(y.min())} to {int(y.max())}; num_classes {num_classes} "
            f"allows 0 to {num_classes - 1}"
        )
    return y


def _one_hot(classes: Tensor, like: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(classes, like.shape[1]).to(like.dtype)


def _until_different(y: Tensor, draw: Callable[[], Tensor]) -> Tensor:
    """Drawn again where it is what it was: uniform over the rest of what is drawn from."""
    found = y.clone()
    for _ in range(_ROUNDS):
        same = (found == y).flatten(1).all(1) if y.ndim > 1 else found == y
        if not same.any():
            return found
        found = torch.where(same.view(-1, *[1] * (y.ndim - 1)), draw(), found)
    raise InputError(
        "poison: some targets have no other that they could be taken for; use another dataset_type"
    )
