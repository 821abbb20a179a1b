"""The settings of a training: declared here, read by ``train_models`` and by the ``train`` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from volume_lib.errors import near_match
from volume_lib.records import ADDITIONAL, LABEL_NOISE, plain_value
from volume_lib.section import Count, NotNegative, Positive, Section, increasing, listed, tell

Value = Annotated[NotNegative, AfterValidator(plain_value)]
Values = Annotated[list[Value], BeforeValidator(listed), Field(min_length=1), AfterValidator(increasing)]

_MODEL = "model."


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
    vary: str | None = None
    values: Values | None = None

    @model_validator(mode="after")
    def _together(self) -> TrainSettings:
        if self.vary == LABEL_NOISE and self.values and self.values[-1] > 1:
            raise ValueError(f"values: label_noise: {self.values[-1]} must be 1 or less, a share of labels")
        if (self.vary is None) != (self.values is None):
            raise ValueError(
                "vary and values: give both (what varies between the models, and its values) or none"
            )
        if self.sam_adaptive and not self.sam_rho and self.vary != "sam_rho":
            raise ValueError("sam_adaptive: needs a sam_rho above 0")
        if self.vary is not None:
            _check_vary(self.vary)
        if self.vary == "epochs" and self.values:
            if self.values[-1] > self.epochs:
                raise ValueError(
                    f"values: {self.values[-1]} is beyond the end of the training, epochs {self.epochs}"
                )
            if self.target_train_loss is not None:
                raise ValueError("target_train_loss: has no meaning where epochs vary; set it to null")
        for value in self.values or ():
            try:
                self.at(value)
            except ValidationError as error:
                raise ValueError(f"values: {tell(error, TrainSettings)}") from error
        return self

    @property
    def argument(self) -> str | None:
        """The argument of the network that varies; None where none does."""
        return self.vary.removeprefix(_MODEL) if self.vary and self.vary.startswith(_MODEL) else None

    @property
    def key(self) -> str:
        """What tells the models apart, in the names of files: what varies, or their additional data."""
        return self.argument or self.vary or ADDITIONAL

    def at(self, value: float) -> TrainSettings:
        """The settings of the model that has this value of what varies."""
        own = self.model_dump(include=TrainSettings.model_fields.keys() - {"vary", "values"})
        if self.vary in own:
            own[self.vary] = value
        return TrainSettings(**own)

    def recorded(self) -> dict[str, str | float | bool | None]:
        """What a model's file says of its training: all but what varies, which the file says as its value."""
        return self.model_dump(include=TrainSettings.model_fields.keys() - {"vary", "values", self.vary})


NUMBERS = (
    *(name for name, field in TrainSettings.model_fields.items() if type(field.default) in (int, float)),
    LABEL_NOISE,
)
"""Settings that can vary: those that are numbers, and the share of wrong labels."""


def _check_vary(vary: str) -> None:
    argument = vary.removeprefix(_MODEL)
    if vary in NUMBERS or (
        argument != vary
        and argument.isidentifier()
        and argument not in (*TrainSettings.model_fields, ADDITIONAL)
    ):
        return
    raise ValueError(
        f"vary: {vary!r} is no number that could vary; one of {', '.join(NUMBERS)}, or an argument of the "
        f"network that is a number, as model.hidden_dims{near_match(vary, NUMBERS)}"
    )
