"""Networks that did not fit: said at the end of the training, before a sweep finds no volume."""

from __future__ import annotations

from collections.abc import Sequence

from volume_lib.records import TrainedModel


def unfitted(
    models: Sequence[TrainedModel],
    target_train_loss: float | None = None,
    loss_thresholds: Sequence[float] | None = None,
) -> dict[str, float]:
    """Name and training loss of each model above every one of ``loss_thresholds``, or else above its target.

    Above all thresholds a minimum has no volume. With neither given, nothing can be told: empty.
    """
    limit = max(loss_thresholds) if loss_thresholds else target_train_loss
    if limit is None:
        return {}
    losses = {f"{found.key} {found.value}": found.train_loss[-1] for found in models}
    return {name: loss for name, loss in losses.items() if not loss <= limit}


def unfitted_line(
    models: Sequence[TrainedModel],
    target_train_loss: float | None = None,
    loss_thresholds: Sequence[float] | None = None,
) -> str | None:
    """What :func:`unfitted` found, in one line; None where all fit."""
    found = unfitted(models, target_train_loss, loss_thresholds)
    if not found:
        return None
    told = ", ".join(f"{name} (training loss {loss:.3g})" for name, loss in found.items())
    what = (
        f"above the largest loss threshold {max(loss_thresholds):g}: no volume there"
        if loss_thresholds
        else f"above target_train_loss {target_train_loss:g} at the end of the training"
    )
    return f"did not fit: {told}, {what}"
