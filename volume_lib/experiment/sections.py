"""The sections of an ``experiment.yaml``: names, types and defaults of each notebook's parameters.

What a function of the package takes is declared with that function, and inherited here. Names and defaults
are those of the notebooks' ``parameters`` cells, where people read what they mean.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from volume_lib.integration.section import IntegrateSettings
from volume_lib.problems.section import DataSettings, DatasetType
from volume_lib.records import LABEL_NOISE
from volume_lib.section import Count, Natural, Positive, Section, Seed, Thresholds, plain
from volume_lib.sweep.section import PerturbSettings
from volume_lib.training.section import TrainSettings
from volume_lib.volume.section import VolumeSettings


def _levels_of_checkpoints(value: Any) -> Any:
    """Whole numbers or their digits → paths, with digits for keys: what a notebook's cell keeps."""
    if value is None:
        return None
    if not isinstance(value, dict) or not value:
        raise ValueError("must hold levels and files, such as {0: a.pt}")
    for key in value:
        if isinstance(key, bool) or not str(key).isdecimal() or str(int(key)) != str(key):
            raise ValueError(f"{key!r} is no level; write {{0: a.pt}}")
    return {str(key): path for key, path in value.items()}


def _whole_plain(value: Any) -> Any:
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        plain(value)
    return value


Seeds = Annotated[list[Seed], Field(min_length=1)]
PlainValues = Annotated[dict[str, Any], BeforeValidator(_whole_plain), AfterValidator(plain)]
Checkpoints = Annotated[dict[str, str] | None, BeforeValidator(_levels_of_checkpoints)]


class Runs(Section):
    """Which seeds: run ``i`` has the i-th of each."""

    model_seeds: Seeds = [0]
    data_seeds: Seeds = [0]

    @model_validator(mode="after")
    def _zipped(self) -> Runs:
        models, data = len(self.model_seeds), len(self.data_seeds)
        if models != data:
            raise ValueError(f"{models} model_seeds and {data} data_seeds: must be as many, they are zipped")
        if len(set(zip(self.model_seeds, self.data_seeds, strict=True))) < models:
            raise ValueError("the same pair of seeds twice: every run must differ")
        return self


DATASET_ARGUMENTS = ("data_seed", *DataSettings.model_fields)
"""The parameters of a training that :func:`volume_lib.problems.splits.make_dataset` takes."""


class Train(DataSettings, TrainSettings):
    """Train Low Test Models.ipynb: the samples of a run, and the training on them."""

    checkpoints: Checkpoints = None
    device: str = "auto"

    @model_validator(mode="after")
    def _one_label_noise(self) -> Train:
        if self.vary == LABEL_NOISE and (self.label_noise or self.dataset_type != "data"):
            raise ValueError("vary: label_noise varies on dataset_type data, with label_noise left at 0")
        used = self.dataset_quantities[0 if self.vary else -1]
        if (self.vary == LABEL_NOISE or self.label_noise) and not used:
            raise ValueError(
                "label_noise: replaces labels of additional samples; dataset_quantities has none"
            )
        return self

    @model_validator(mode="after")
    def _checkpoints_have_places(self) -> Train:
        points = self.values or self.dataset_quantities
        unknown = [key for key in self.checkpoints or {} if int(key) not in points]
        if unknown:
            raise ValueError(f"checkpoints: {unknown[0]} is not one of {points}")
        return self


class Perturb(PerturbSettings):
    """Random Perturbs.ipynb, and into how many ``shards`` a batch splits the directions of one run."""

    shards: Count = 1


class Volume(VolumeSettings):
    """Volume Estimation Pipeline.ipynb"""

    loss_thresholds: Thresholds | None = None


class Cutoff(Section):
    """Volume Cutoff.ipynb"""

    loss_threshold: Positive | None = None
    batch_size: Count = 1000


class Accuracy(Section):
    """Test Accuracy.ipynb"""

    batch_size: Count = 1000


class Integrate(IntegrateSettings):
    """Volume Integration.ipynb, a step that an experiment has where its file has this section.

    ``loss_thresholds``: None for those of the volumes.
    """

    loss_thresholds: Thresholds | None = None  # type: ignore[assignment]


class Analysis(Section):
    """analyze_experiments_data.ipynb; ``compare_with`` is a folder, seen from this experiment's.

    None: as :func:`volume_lib.analysis.choose` settles it.
    """

    loss_threshold: Positive | None = None
    dataset_type: DatasetType | None = None
    landscape: Natural | None = None
    quantity: Literal["log_exp_r_n", "log_volume", "log_exp_r_n_acc", "log_mass_rays", "log_mass"] | None = (
        None
    )
    spread: Literal["sd", "quartiles"] | None = None
    compare_with: str | None = None
    colour: Literal["test_acc", "test_loss", "train_loss"] | None = None
    failed: Literal["no volume", "leave out", "least volume"] | None = None
    key: str | None = None
    base_size: Count | None = None
