"""The settings of a sweep: declared here, read by ``run_sweep`` and by the ``perturb`` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from volume_lib.section import Count, Levels, Natural, Positive, Section, Share, Thresholds

MAX_SEED = 2**63
"""Seeds of directions lie below: files hold them as signed 64-bit numbers."""


class PerturbSettings(Section):
    """Which directions, in which landscapes, up to which losses, and how crossings are found."""

    num_directions: Count = 500
    loss_thresholds: Thresholds = [0.1]
    acc_threshold: Share | None = None
    search: Literal["crossing", "grid"] = "crossing"
    scaling: Literal["none", "filter", "curvature"] = "filter"
    perturbation_seed: Natural = 0
    landscape_levels: Levels | None = None
    all_pairs: bool = False
    max_coefficient: Positive | None = None
    xrtol_rest: Annotated[Positive, Field(ge=1e-6, le=0.1)] | None = None
    device: str = "auto"
    memory_budget: Positive | None = None

    @model_validator(mode="after")
    def _seeds_fit(self) -> PerturbSettings:
        if self.perturbation_seed + self.num_directions > MAX_SEED:
            raise ValueError(
                f"perturbation_seed {self.perturbation_seed} and num_directions {self.num_directions}: their "
                "sum must not pass 2^63"
            )
        return self
