"""The settings of a training: declared here, read by ``train_models`` and by the ``train`` section."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from volume_lib.section import Count, Counts, NotNegative, Positive, Section


class TrainSettings(Section):
    """How models are trained, and what varies between them besides their data."""

    epochs: Count = 3000
    batch_size: Count = 200
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    learning_rate: Positive = 0.003
    weight_decay: NotNegative = 0.0
    lr_schedule: Literal["cosine", "linear"] | None = None
    target_train_loss: Positive | None = 0.01
    sam_rho: NotNegative = 0.0
    sam_adaptive: bool = False
    vary: Literal["batch_size", "epochs"] | None = None
    values: Counts | None = None

    @model_validator(mode="after")
    def _together(self) -> TrainSettings:
        if (self.vary is None) != (self.values is None):
            raise ValueError(
                "vary and values: give both (what varies between the models, and its values) or none"
            )
        if self.vary == "epochs" and self.values:
            if self.values[-1] > self.epochs:
                raise ValueError(
                    f"values: {self.values[-1]} is beyond the end of the training, epochs {self.epochs}"
                )
            if self.target_train_loss is not None:
                raise ValueError("target_train_loss: has no meaning where epochs vary; set it to null")
        if self.sam_adaptive and not self.sam_rho:
            raise ValueError("sam_adaptive: needs a sam_rho above 0")
        return self

    def recorded(self) -> dict[str, str | float | bool | None]:
        """What a model's file says of its training: all but what varies, which the file says as its value."""
        return self.model_dump(include=TrainSettings.model_fields.keys() - {"vary", "values", self.vary})
