"""Losses and accuracies by name: ``(outputs, y) → (N,)``, one number for each sample, under ``vmap`` too.

=================  ============================================================  ===========
name               loss of a sample                                              unit
=================  ============================================================  ===========
``cross_entropy``  of its class, or the mean over its positions (tokens, pixels)  nats
``mse``            mean squared difference of its outputs from its targets       squared error
``bce``            mean binary cross-entropy of its labels; outputs are logits   nats
``kl``             KL(reference ‖ outputs), the mean over its positions          nats
=================  ============================================================  ===========

Positions whose class is :data:`IGNORED` do not count. The reference of ``kl`` are the model's own outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from volume_lib.errors import InputError

PerSample: TypeAlias = Callable[[Any, Any], Tensor]

IGNORED = -100
"""A class that stands for "no target here", as in ``torch.nn.functional.cross_entropy``."""


def cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy (N,) of logits, in nats.

    ``outputs`` (N, C) with classes (N,); positions with the classes last, (N, …, C), or as torch has them,
    (N, C, …), with classes (N, …); or, for ``y`` of the outputs' own shape, probabilities of the last axis.
    """
    if y.is_floating_point() and y.shape == outputs.shape:
        return _over_positions(-(y.to(outputs.dtype) * _log_softmax(outputs)).sum(-1))
    logits, counted, classes = _classes(outputs, y)
    picked = _log_softmax(logits).gather(-1, classes.unsqueeze(-1)).squeeze(-1)
    return _over_positions(-picked, counted)


def top1(outputs: Tensor, y: Tensor) -> Tensor:
    """The share (N,) of each sample's positions at which no logit is larger than the true class's."""
    if y.is_floating_point() and y.shape == outputs.shape:
        y = y.argmax(-1)
    logits, counted, classes = _classes(outputs, y)
    of_true_class = logits.gather(-1, classes.unsqueeze(-1)).squeeze(-1)
    return _over_positions((of_true_class == logits.amax(-1)).to(logits.dtype), counted)


def mse(outputs: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference (N,) over everything that belongs to a sample."""
    outputs, y = _aligned(outputs, y, "mse")
    return _over_positions((outputs - y).square())


def bce(outputs: Tensor, y: Tensor) -> Tensor:
    """Mean binary cross-entropy (N,) of a sample's labels, each 0 to 1; ``outputs`` are logits."""
    outputs, y = _aligned(outputs, y, "bce")
    return _over_positions(F.softplus(outputs) - outputs * y)


def labels_right(outputs: Tensor, y: Tensor) -> Tensor:
    """The share (N,) of each sample's labels on the right side: logit above 0 where the label is 1."""
    outputs, y = _aligned(outputs, y, "bce")
    return _over_positions(((outputs > 0) == (y > 0.5)).to(outputs.dtype))


def kl(outputs: Tensor, y: Any) -> Tensor:
    """KL divergence (N,) of the softmax over the last axis from that of the reference ``y``, in nats.

    ``y``: outputs (N, …, C), or with them the positions that count: ``{"outputs": …, "mask": (N, …)}``.
    """
    reference, counted = _reference(outputs, y)
    expected = _log_softmax(reference.to(outputs.dtype))
    probability = expected.exp()
    # A class that the reference rules out adds nothing, where its logarithm is infinite.
    terms = torch.where(probability > 0, probability * (expected - _log_softmax(outputs)), 0.0)
    divergence = terms.sum(-1)
    return _over_positions(divergence, counted)


def agreement(outputs: Tensor, y: Any) -> Tensor:
    """The share (N,) of each sample's positions whose largest output is the reference's."""
    reference, counted = _reference(outputs, y)
    return _over_positions((outputs.argmax(-1) == reference.argmax(-1)).to(outputs.dtype), counted)


LOSSES: dict[str, PerSample] = {"cross_entropy": cross_entropy, "mse": mse, "bce": bce, "kl": kl}
ACCURACIES: dict[str, PerSample] = {"cross_entropy": top1, "bce": labels_right, "kl": agreement}
"""What ``accuracy="auto"`` means for each loss; a regression has none."""
UNITS = {"cross_entropy": "nats", "mse": "squared error", "bce": "nats", "kl": "nats"}


def check_targets(name: str, outputs: Tensor, y: Tensor) -> None:
    """Raise :class:`InputError` for targets (N, …) that the loss ``name`` does not mean, naming the first.

    ``outputs``: of one sample or more. Targets may lie in a file: they are read in chunks.
    """
    classes = (
        outputs.shape[-1] if y.shape[1:] == outputs.shape[1:-1] else outputs.shape[min(1, outputs.dim() - 1)]
    )
    if name == "cross_entropy" and y.is_floating_point():
        name = "cross_entropy of probabilities"
    if name not in _MEANT:
        return
    told, wrong = _MEANT[name]
    none, step = name == "cross_entropy", max(1, (1 << 22) // max(1, y[:1].numel()))
    for start in range(0, len(y), step):
        part = y[start : start + step]
        bad = wrong(part, classes).reshape(len(part), -1).any(1)
        if bad.any():
            where = start + int(bad.nonzero()[0, 0])
            shown = y[where].flatten()[:6].tolist()
            raise InputError(f"y: sample {where}: {name} takes {told.format(classes - 1)}; got {shown}")
        none = none and bool((part == IGNORED).all())
    if none:
        raise InputError(f"y: every target is {IGNORED}, which stands for none")


_MEANT: dict[str, tuple[str, Callable[[Tensor, int], Tensor]]] = {
    "cross_entropy": (
        f"classes 0 to {{}} (or {IGNORED}: none)",
        lambda y, classes: ((y < 0) | (y >= classes)) & (y != IGNORED),
    ),
    "cross_entropy of probabilities": (
        "probabilities, whose sum is 1",
        lambda y, _: (y < 0).any(-1) | ~((y.double().sum(-1) - 1).abs() < 1e-2),
    ),
    "bce": ("labels, 0 to 1", lambda y, _: ~((y >= 0) & (y <= 1))),
    "mse": ("finite numbers", lambda y, _: ~torch.isfinite(y)),
}
"""Loss → what its targets are, and which are not."""


def _log_softmax(logits: Tensor) -> Tensor:
    shifted = logits - logits.detach().amax(-1, keepdim=True)
    # Nothing below exp(-80) adds to a sum of at least 1, and denormal numbers take 30 times as long.
    return shifted - shifted.clamp_min(-80).exp().sum(-1, keepdim=True).log()


def _over_positions(values: Tensor, counted: Tensor | None = None) -> Tensor:
    """Means (N,) over all axes but the first, of the positions that count; 0 where none does."""
    if values.dim() == 1:
        return values if counted is None else values * counted
    if counted is None:
        return values.flatten(1).mean(1)
    counted = counted.to(values.dtype).flatten(1)
    # not a product: a loss that is infinite where it does not count is still left out
    kept = torch.where(counted > 0, values.flatten(1), 0.0)
    return (kept * counted).sum(1) / counted.sum(1).clamp_min(1e-30)


def _classes(outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits with the classes last, which positions count, and their classes (0 where they do not)."""
    if y.is_floating_point() or y.is_complex():
        raise InputError(
            f"y: cross_entropy takes whole numbers (classes), or probabilities of the outputs' shape "
            f"{tuple(outputs.shape)}; got {_told(y)}"
        )
    last = y.shape == outputs.shape[:-1]
    second = outputs.dim() > 2 and y.shape == (*outputs.shape[:1], *outputs.shape[2:])
    if last and second:
        raise InputError(
            f"y: outputs {tuple(outputs.shape)} and y {tuple(y.shape)} do not say which axis holds the "
            "classes; give the loss as a function of (outputs, y)"
        )
    if not (last or second):
        raise InputError(f"y: outputs {_told(outputs)} and y {_told(y)} do not fit cross_entropy")
    counted = y != IGNORED
    return (outputs if last else outputs.movedim(1, -1)), counted, torch.where(counted, y, 0).long()


def _aligned(outputs: Tensor, y: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Both in one shape; an axis of length 1 at the end of either alone is dropped, nothing is broadcast."""
    if outputs.dim() == y.dim() + 1 and outputs.shape[-1] == 1:
        outputs = outputs.squeeze(-1)
    elif y.dim() == outputs.dim() + 1 and y.shape[-1] == 1:
        y = y.squeeze(-1)
    if outputs.shape != y.shape:
        raise InputError(f"y: {name} needs targets of the outputs' shape {_told(outputs)}; got {_told(y)}")
    return outputs, y.to(outputs.dtype)


def _reference(outputs: Tensor, y: Any) -> tuple[Tensor, Tensor | None]:
    reference, counted = (y["outputs"], y["mask"]) if isinstance(y, dict) else (y, None)
    if reference.shape != outputs.shape:
        raise InputError(f"kl: outputs {_told(outputs)} and reference {_told(reference)} differ in shape")
    return reference, counted


def _told(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
