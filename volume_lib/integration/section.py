"""The settings of a run's integrations: declared here, read by ``integrate_minima`` and by the ``integrate``
section."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from volume_lib.section import Levels, Natural, Positive, Section, Thresholds


class IntegrateSettings(Section):
    """Which regions, against which reference, and how much effort for each minimum.

    ``landscape_levels``: landscapes in which every minimum is measured that has seen their data (None: the
    smallest alone). ``own_landscapes``: beside these, landscapes in which only the minimum of just their data
    is measured. ``gap`` None: as far as ``minutes`` reach.
    """

    loss_thresholds: Thresholds = [0.1]
    landscape_levels: Levels | None = None
    own_landscapes: Levels | None = None
    reference: Literal["init", "rms"] | Positive = "init"
    region: Literal["visible", "connected"] = "visible"
    minutes: Positive | None = 5.0
    gap: Positive | None = None
    chains: Annotated[int, Field(strict=True, ge=2)] = 8
    seed: Natural = 0
    device: str = "auto"

    @model_validator(mode="after")
    def _ends(self) -> IntegrateSettings:
        if self.minutes is None and self.gap is None:
            raise ValueError("minutes, gap: give one of them, or both; without any it never ends")
        return self

    def as_told(self) -> dict[str, Any]:
        """What ``mass.json`` says of them: what its numbers depend on, not how long they took."""
        named = isinstance(self.reference, str)
        return {
            "reference": self.reference if named else "own",
            "reference_width": None if named else self.reference,
            "region": self.region,
            "chains": self.chains,
            "seed": self.seed,
        }
