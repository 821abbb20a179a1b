"""Which training settings go together: said once, for ``experiment.yaml`` and for ``train_models``."""

from __future__ import annotations

from collections.abc import Sequence

from volume_lib.errors import InputError


def check_varied(
    vary: str | None, values: Sequence[int] | None, epochs: int, target_train_loss: float | None
) -> None:
    """Raise :class:`InputError` unless what varies, each right by itself, fits the rest of the training."""
    if (vary is None) != (values is None):
        raise InputError(
            "vary and values: give both (what varies between the models, and its values) or none"
        )
    if vary != "epochs":
        return
    if values[-1] > epochs:
        raise InputError(f"values: {values[-1]} is beyond the end of the training, epochs {epochs}")
    if target_train_loss is not None:
        raise InputError("target_train_loss: has no meaning where epochs vary; set it to null")


def check_sam(sam_rho: float, sam_adaptive: bool) -> None:
    """Raise :class:`InputError` for adaptive sharpness-aware minimisation without its radius."""
    if sam_adaptive and not sam_rho:
        raise InputError("sam_adaptive: needs a sam_rho above 0")
