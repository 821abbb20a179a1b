"""The sections of an ``experiment.yaml``: names, types and defaults of each notebook's parameters.

Names and defaults are those of the notebooks' ``parameters`` cells, where people read what they mean.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from volume_lib.training.rules import check_sam, check_varied


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _increasing(values: list) -> list:
    if any(b <= a for a, b in pairwise(values)):
        raise ValueError("must increase, each value above the last")
    return values


def _distinct(values: list) -> list:
    if len(set(values)) != len(values):
        raise ValueError("must all be different")
    return values


def _plain(value: Any, where: str = "") -> Any:
    """``value``, if it is the same after a journey through JSON and a notebook's cell."""
    if isinstance(value, dict):
        for key, entry in value.items():
            place = f"{where}.{key}".lstrip(".")
            if not isinstance(key, str):
                raise ValueError(f'{place}: the key {key!r} must be text; write "{key}"')
            _plain(entry, place)
    elif isinstance(value, list):
        for i, entry in enumerate(value):
            _plain(entry, f"{where}[{i}]")
    elif not (value is None or isinstance(value, bool | int | float | str)):
        raise ValueError(f"{where}: a {type(value).__name__} must be written as text or numbers")
    return value


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
        _plain(value)
    return value


Count = Annotated[int, Field(strict=True, ge=1)]
Natural = Annotated[int, Field(strict=True, ge=0)]
Seed = Annotated[int, Field(strict=True, ge=0, le=2**64 - 1)]
Positive = Annotated[float, BeforeValidator(_no_bool), Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, BeforeValidator(_no_bool), Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(_no_bool), Field(gt=0, le=1)]
Levels = Annotated[list[Natural], Field(min_length=1), AfterValidator(_increasing)]
Counts = Annotated[list[Count], Field(min_length=1), AfterValidator(_increasing)]
Thresholds = Annotated[list[Positive], Field(min_length=1), AfterValidator(_distinct)]
DatasetType = Literal["data", "poison", "noise"]
Seeds = Annotated[list[Seed], Field(min_length=1)]
PlainValues = Annotated[dict[str, Any], BeforeValidator(_whole_plain), AfterValidator(_plain)]
Checkpoints = Annotated[dict[str, str] | None, BeforeValidator(_levels_of_checkpoints)]
LARGEST_SEED = 2**63
"""Of directions: files hold their seeds as signed 64-bit numbers."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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


class Imbalance(Section):
    labels: Annotated[list[int | float | str], Field(min_length=1), AfterValidator(_plain)]
    ratio: Annotated[float, BeforeValidator(_no_bool), Field(ge=0, le=1)]


class Train(Section):
    """Train Low Test Models.ipynb"""

    base_data_size: Count = 10
    dataset_quantities: Levels = [0, 20, 70, 190]
    dataset_type: DatasetType = "data"
    test_size: Count | None = None
    base_imbalance: Imbalance | None = None
    additional_imbalance: Imbalance | None = None
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
    checkpoints: Checkpoints = None
    device: str = "auto"

    @model_validator(mode="after")
    def _together(self) -> Train:
        points = self.values or self.dataset_quantities
        unknown = [key for key in self.checkpoints or {} if int(key) not in points]
        if unknown:
            raise ValueError(f"checkpoints: {unknown[0]} is not one of {points}")
        check_varied(self.vary, self.values, self.epochs, self.target_train_loss)
        check_sam(self.sam_rho, self.sam_adaptive)
        return self


class Perturb(Section):
    """Random Perturbs.ipynb, and into how many ``shards`` a batch splits the directions of one run."""

    num_directions: Count = 500
    loss_thresholds: Thresholds = [0.1]
    acc_threshold: Share | None = None
    search: Literal["crossing", "grid"] = "crossing"
    scaling: Literal["filter", "none", "curvature"] = "filter"
    perturbation_seed: Natural = 0
    landscape_levels: Levels | None = None
    all_pairs: bool = False
    max_coefficient: Positive | None = None
    device: str = "auto"
    memory_budget: Positive | None = None
    shards: Count = 1

    @model_validator(mode="after")
    def _seeds_fit(self) -> Perturb:
        if self.perturbation_seed + self.num_directions > LARGEST_SEED:
            raise ValueError(
                f"perturbation_seed {self.perturbation_seed} and num_directions {self.num_directions}: their "
                "sum must not pass 2^63"
            )
        return self


class Volume(Section):
    """Volume Estimation Pipeline.ipynb"""

    loss_thresholds: Thresholds | None = None
    acc_threshold: Share | None = None
    top_k: Count | None = 10
    bootstrap: Count = 1000
    subset_sizes: Counts | None = None


class Cutoff(Section):
    """Volume Cutoff.ipynb"""

    loss_threshold: Positive | None = None
    batch_size: Count = 1000


class Accuracy(Section):
    """Test Accuracy.ipynb"""

    batch_size: Count = 1000


class Analysis(Section):
    """analyze_experiments_data.ipynb; ``compare_with`` is a folder, seen from this experiment's.

    None: as :func:`volume_lib.analysis.choose` settles it.
    """

    loss_threshold: Positive | None = None
    dataset_type: DatasetType | None = None
    landscape: Natural | None = None
    quantity: Literal["log_exp_r_n", "log_volume", "log_exp_r_n_acc"] | None = None
    spread: Literal["sd", "quartiles"] | None = None
    compare_with: str | None = None
    failed: Literal["no volume", "leave out", "least volume"] | None = None
    key: str | None = None
    base_size: Count | None = None
