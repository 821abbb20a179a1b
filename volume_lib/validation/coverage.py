"""How often an integration's interval contains what is known, over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from volume_lib.integration.record import Mass
from volume_lib.validation.masses import Region
from volume_lib.volume.words import Table


@dataclass(frozen=True)
class Coverage:
    """Integrations of one region from several seeds against its exact log mass (nats).

    ``low``, ``high``, ``forward``, ``backward``, ``seconds``, ``gradients``: (S,), one entry for each seed.
    ``rays``: the same quantity by rays.
    """

    name: str
    region: str
    n: int
    exact: float
    error: float
    rays: float
    low: np.ndarray
    high: np.ndarray
    forward: np.ndarray
    backward: np.ndarray
    seconds: np.ndarray
    gradients: np.ndarray

    @property
    def contained(self) -> int:
        """In how many seeds the interval contains the exact value, within three of its own errors."""
        slack = 3 * self.error + 1e-9 * abs(self.exact)
        return int(((self.low - slack <= self.exact) & (self.exact <= self.high + slack)).sum())

    @property
    def missed(self) -> float:
        """Nats that rays miss."""
        return self.exact - self.rays

    @property
    def gap(self) -> float:
        """Nats between the passes, in the median over seeds."""
        return float(np.median(np.abs(self.forward - self.backward)))

    @property
    def off(self) -> float:
        """Nats between the middle of the passes and the exact value, the largest over seeds."""
        return float(np.abs((self.forward + self.backward) / 2 - self.exact).max())

    @property
    def width(self) -> float:
        """Of the interval, in the median over seeds."""
        return float(np.median(self.high - self.low))


def cover(
    region: Region,
    which: str = "visible",
    *,
    seeds: Sequence[int] = range(20),
    gradients: int = 20_000,
    directions: int = 500,
    chains: int = 8,
    after: Callable[[Mass], object] = lambda mass: None,
) -> Coverage:
    """Integrate ``region`` from each of ``seeds`` with so many ``gradients`` of one chain, and by rays once.

    ``after`` is called with every record.
    """
    found = []
    for seed in seeds:
        mass = region.integrate(
            which, gradients=gradients, chains=chains, seed=seed, progress=False, device="cpu"
        )
        after(mass)
        found.append((*mass.interval, mass.forward, mass.backward, mass.seconds, mass.gradients))
    rays = region.by_rays(directions).log_mass
    columns = np.array(found).T
    return Coverage(region.name, which, region.n, region.exact[which], region.error, rays, *columns)


def coverage_table(every: Sequence[Coverage]) -> Table:
    """One row for each region: what is known, by rays, both passes and the interval of the first seed."""
    header = ("region", "exact", "by rays", "rays miss", "from the minimum", "and back", "interval")
    return Table(
        header,
        [
            (
                f"{found.name}, {found.region}",
                f"{found.exact:,.1f}",
                f"{found.rays:,.1f}",
                f"{found.missed:,.1f}",
                f"{found.forward[0]:,.1f}",
                f"{found.backward[0]:,.1f}",
                f"{found.low[0]:,.1f} … {found.high[0]:,.1f}",
            )
            for found in every
        ],
    )
