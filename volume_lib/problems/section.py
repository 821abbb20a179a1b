"""The settings of a run's samples: declared here, read by ``make_dataset`` and by the ``train`` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from volume_lib.section import Count, Levels, Number, Section, Seed, plain

DatasetType = Literal["data", "poison", "noise"]
NoiseMoments = Literal["channel", "global"]

NEEDS_DATA = "label_noise: is for dataset_type data; {} has labels of its own"
NEEDS_BASE = (
    "landscape_levels: minima that differ in label_noise share the labels of the base samples alone; give [0]"
)


class Imbalance(Section):
    """The share ``ratio`` of the samples carries one of these ``labels``."""

    labels: Annotated[list[int | float | str], Field(min_length=1), AfterValidator(plain)]
    ratio: Annotated[Number, Field(ge=0, le=1)]


class DataSettings(Section):
    """Which samples are base data, and what comes after them."""

    base_data_size: Count = 10
    dataset_quantities: Levels = [0, 20, 70, 190]
    dataset_type: DatasetType = "data"
    test_size: Count | None = None
    base_imbalance: Imbalance | None = None
    additional_imbalance: Imbalance | None = None
    additional_seed: Seed | None = None
    noise_moments: NoiseMoments = "channel"
    label_noise: Annotated[Number, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _noise(self) -> DataSettings:
        if self.label_noise and self.dataset_type != "data":
            raise ValueError(NEEDS_DATA.format(self.dataset_type))
        if self.noise_moments == "global" and self.dataset_type != "noise":
            raise ValueError(f"noise_moments: dataset_type {self.dataset_type} has no noise; leave it out")
        if self.dataset_type == "noise" and self.additional_imbalance is not None:
            raise ValueError(
                "additional_imbalance: noise has random labels; leave it out or use another dataset_type"
            )
        return self
