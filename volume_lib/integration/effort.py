"""How long an integration goes on: minutes, gradients or a gap, whichever is reached first."""

from __future__ import annotations

import math
import time

from volume_lib.errors import InputError
from volume_lib.integration.adaptation import PRECONDITIONERS
from volume_lib.integration.record import Mass
from volume_lib.integration.run import Options, Walk

ROUTES = ("auto", "inward", "outward")
MINUTES = 5.0
"""The budget where neither minutes, gap nor gradients are given; it ends early once converged."""


class Effort:
    """When to stop, and how many moves the next round may take."""

    def __init__(
        self, minutes: float | None, gap: float | None, gradients: int | None, began: float, spent: int
    ) -> None:
        self.free = minutes is None and gap is None and gradients is None
        self.gap, self.spent = gap, spent
        self.limit = None if gradients is None else spent + gradients
        limit = MINUTES if self.free else minutes
        self.deadline = math.inf if limit is None else began + 60 * limit

    def next_moves(self, walk: Walk, mass: Mass) -> int | None:
        """Moves of the next round, None to stop: a gap reached, or a budget that another round does not
        fit."""
        if (self.gap is not None and mass.gap <= self.gap) or (self.free and mass.converged):
            return None
        last = walk.history[-1]
        share = math.inf
        if self.limit is not None:
            share = (self.limit - walk.spent) / max(1, last["gradients"])
        share = min(share, (self.deadline - time.monotonic()) / max(1e-6, last["seconds"]))
        if share < 0.8:
            return None
        factor = 2.0 if share == math.inf else share * 0.9 if share < 6 else min(4.0, share / 4)
        return max(4, int(walk.moves * factor))


def check_effort(
    minutes: float | None,
    gap: float | None,
    gradients: int | None,
    chains: int,
    options: Options,
    threshold: float,
) -> None:
    for name, value in (
        ("minutes", minutes),
        ("gap", gap),
        ("gradients", gradients),
        ("threshold", threshold),
    ):
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} {value}: must be a positive number")
    if not isinstance(chains, int) or chains < 2:
        raise InputError(f"chains {chains}: must be a whole number, 2 or more")
    for name, known in (("preconditioner", PRECONDITIONERS), ("route", ROUTES)):
        if getattr(options, name) not in known:
            raise InputError(f'{name} "{getattr(options, name)}": must be one of {", ".join(known)}')
