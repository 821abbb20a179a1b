r"""What of a volume survives when a ReLU network is written with other weights.

Multiply weights and biases of one layer by a factor f > 0 and divide the weights of the next by it: as
``relu(f·h) = f·relu(h)``, the network computes what it did (Dinh et al. 2017, "Sharp minima can generalize
for deep nets"). The region below a threshold is carried along by the same linear map, so that its log volume
changes by exactly ``(n₁ − n₂)·log f``, with n₁ numbers of the first layer and n₂ weights of the second that
move; a probability under a fixed Gaussian changes by no such rule.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from volume_lib.errors import InputError
from volume_lib.measuring.entry import measure
from volume_lib.measuring.record import Volume
from volume_lib.progress import Bar


@dataclass(frozen=True)
class Rewritten:
    """The volumes of one network, written with the weights of each of ``factors`` (K,).

    ``volumes`` (K,); ``exact`` (K,): by how many nats the region's true log volume differs from that of
    factor 1. ``name``: which directions these are, for legends.
    """

    name: str
    factors: tuple[float, ...]
    volumes: tuple[Volume, ...]
    exact: tuple[float, ...]

    def changes(self, quantity: str) -> list[float]:
        """``quantity`` (``log_exp_r_n``, ``log_volume``, ``log_mass_rays``) less that of factor 1 (nats)."""
        values = [float(getattr(volume, quantity)) for volume in self.volumes]
        first = values[self.factors.index(1)]
        return [value - first for value in values]


def rewrite(model: nn.Module, first: str, second: str, factor: float) -> nn.Module:
    """A copy of ``model`` that computes the same with other weights: ``first``'s times ``factor``, bias and
    all, ``second``'s weights divided by it.

    ``first``, ``second``: names of layers with nothing but ReLU and pooling between them. Raises InputError
    for a factor that is no positive number, or a layer that has no ``weight``.
    """
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
        raise InputError(f"factor {factor!r}: must be a positive number")
    made = copy.deepcopy(model)
    layers = dict(made.named_modules())
    for name in (first, second):
        if not isinstance(getattr(layers.get(name), "weight", None), nn.Parameter):
            having = [name for name, layer in layers.items() if hasattr(layer, "weight")]
            raise InputError(f"layer {name!r}: has no weights; there are {', '.join(having)}")
    with torch.no_grad():
        for parameter in layers[first].parameters(recurse=False):
            parameter.mul_(factor)
        layers[second].get_parameter("weight").div_(factor)
    return made


def measure_rewritten(
    model: nn.Module,
    x: Any,
    y: Any,
    factors: Sequence[float],
    *,
    layers: tuple[str, str],
    biases: bool = True,
    scaling: str = "filter",
    **settings: Any,
) -> Rewritten:
    """Measure ``model`` rewritten by each of ``factors``, 1 among them, along the directions of one seed.

    ``biases``: whether parameters of one dimension move; else they are held. ``settings`` are those of
    :func:`volume_lib.measure`. Raises InputError where 1 is missing, or for what these refuse.
    """
    if 1 not in factors:
        raise InputError(f"factors {list(factors)}: 1, the network as it is, must be among them")
    moved = [name for name, p in model.named_parameters() if p.requires_grad and (biases or p.dim() > 1)]
    sizes = {name: model.get_parameter(name).numel() for name in moved}
    gained = sum(n for name, n in sizes.items() if name.rpartition(".")[0] == layers[0])
    lost = sizes.get(f"{layers[1]}.weight", 0)
    volumes = [
        measure(
            rewrite(model, *layers, factor),
            x,
            y,
            parameters=moved,
            scaling=scaling,
            progress=False,
            **settings,
        )
        for factor in Bar(list(factors), unit="network")
    ]
    return Rewritten(
        f"{scaling}, {'all parameters' if biases else 'weights alone'}",
        tuple(factors),
        tuple(volumes),
        tuple((gained - lost) * math.log(factor) + 0.0 for factor in factors),
    )


def changes_of(several: Sequence[Rewritten], quantity: str) -> dict[str, list[float]]:
    """Way of measuring → the changes of ``quantity``, for the figures."""
    return {found.name: found.changes(quantity) for found in several}


def table(several: Sequence[Rewritten]) -> str:
    """One line for each network: changes of the radii's mean, of the log volume with the exact one, and of
    the log mass, in nats."""
    lines = [f"{'':28} {'factor':>8} {'log E[r^n]':>14} {'log volume':>14} {'exact':>14} {'log mass':>14}"]
    for found in several:
        columns = [found.changes(q) for q in ("log_exp_r_n", "log_volume", "log_mass_rays")]
        for i, factor in enumerate(found.factors):
            radii, volume, mass = (column[i] for column in columns)
            told = "".join(f" {change:14,.2f}" for change in (radii, volume, found.exact[i], mass))
            lines.append(f"{found.name:28} {factor:8g}{told}")
    return "\n".join(lines)
