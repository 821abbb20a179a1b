"""What an integration hands back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Mass:
    """The log mass of a region, with what it is worth. All masses are in nats.

    ``log_mass``: the middle of the two passes; ``interval``: (low, high), both passes with 2.5 standard
    errors and what the spacing of the path's points leaves open; ``forward`` and ``backward``: the passes
    along the path (:mod:`~.outward` from the minimum, :mod:`~.inward` from the reference) and back,
    ``forward_error`` and ``backward_error`` their standard errors; ``gap``: how far apart they are.
    ``converged``: whether the gap is at most the one asked for (without one, the larger of 1 nat and 1 % of
    ``|log_mass|``), the interval no wider than twice that and 5 standard errors more, and the chains that
    began otherwise at the path's end (heated, or at the minimum) became like the others (``rhat`` there at
    most 1.2); ``reason``: which of these fails, or an empty string.

    ``rays``: the same quantity by rays, or None. ``path``: one entry per point of the path, as the forward
    pass came by, of ``k``, ``beta``, ``ceiling``, ``integrand`` and ``integrand_back`` (D), ``contribution``
    (nats), ``loss``, ``loss_back``, ``acceptance``, ``leaps``, ``rhat`` and ``ess`` (over both passes'
    samples). ``rhat`` and ``acceptance`` are the worst of them, ``ess`` the smallest. ``visible_share``: of
    the samples below the threshold at the path's end, how many a straight line from the minimum reaches.
    ``history``: one dict per round (``moves``, ``forward``, ``backward``, ``gradients``, ``seconds``), the
    last of which counts. ``gradients``: of one chain, all rounds; ``seconds``. ``state``: where its
    chains stand, or the file that says so; hand it (or this record) to ``integrate(resume=…)``.
    """

    log_mass: float
    interval: tuple[float, float]
    forward: float
    backward: float
    gap: float
    converged: bool
    reason: str
    reference: str
    region: str
    rays: float | None
    threshold: float
    num_params: int
    forward_error: float
    backward_error: float
    spacing: float
    rhat: float
    ess: float
    acceptance: float
    visible_share: float
    path: list[dict[str, float]]
    history: list[dict[str, float]]
    notes: tuple[str, ...]
    gradients: int
    seconds: float
    state: dict[str, Any] | Path | None = field(default=None, repr=False)

    def __str__(self) -> str:
        low, high = self.interval
        verdict = "converged" if self.converged else f"not converged: {self.reason}"
        lines = [
            f"log mass {self.log_mass:,.1f} nats ({low:,.1f} … {high:,.1f}), {self.region} region, "
            f"reference {self.reference}, loss ≤ {self.threshold:g}, n = {self.num_params:,}",
            f"forward {self.forward:,.1f} ± {self.forward_error:.1f}, backward {self.backward:,.1f} ± "
            f"{self.backward_error:.1f}, gap {self.gap:,.1f}; {verdict}",
            f"R-hat {self.rhat:.2f}, effective samples {self.ess:.0f}, acceptance {self.acceptance:.2f}, "
            f"visible {self.visible_share:.0%}; {self.gradients:,} gradients, {self.seconds:.0f} s",
        ]
        if self.rays is not None:
            lines.append(f"by rays {self.rays:,.1f}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Everything but ``state``, ready for strict JSON: what is not finite is None."""
        plain = {key: value for key, value in vars(self).items() if key != "state"}
        return _strict(plain)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Mass:
        """The record of :meth:`as_dict`, read back; what was not finite is NaN, and ``state`` None."""
        known = {f.name: _number_back(record[f.name]) for f in fields(cls) if f.name in record}
        known |= {"interval": tuple(known["interval"]), "notes": tuple(known["notes"])}
        return cls(**{**known, "rays": record["rays"]})


def _number_back(value: Any) -> Any:
    """As :func:`_strict` found it, NaN for None."""
    if isinstance(value, dict):
        return {key: _number_back(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_number_back(part) for part in value]
    return math.nan if value is None else value


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(part) for part in value]
    if isinstance(value, (np.floating, float)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
