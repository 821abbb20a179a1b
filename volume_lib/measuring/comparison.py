"""Several volumes beside each other: a table, and which order is beyond doubt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from volume_lib.errors import InputError
from volume_lib.measuring.record import Volume
from volume_lib.volume import words


@dataclass(frozen=True)
class Comparison:
    """``table``, a row for each volume, and ``sentence``, what their order is worth."""

    table: words.Table
    sentence: str

    def __str__(self) -> str:
        return f"{self.table}\n\n{self.sentence}"

    def _repr_html_(self) -> str:
        return f"{self.table._repr_html_()}<p>{self.sentence}</p>"


def compare(volumes: Sequence[Volume] | Mapping[str, Volume]) -> Comparison:
    """Volumes of several models in a table, and which of them are ordered beyond doubt.

    ``volumes``: by name, or in a list (then they are called ``1``, ``2`` …). They must be comparable: of as
    many parameters, with one threshold, landscape size, loss and scaling; else :class:`InputError`.
    The order is that of ``log E[r^n]``, as in :func:`volume_lib.volume.words.describe_order`.
    """
    named = volumes if isinstance(volumes, Mapping) else {str(i): v for i, v in enumerate(volumes, start=1)}
    if not named:
        raise InputError("compare: give at least one volume")
    for what in ("n", "criterion", "threshold", "landscape", "loss_name", "scaling"):
        found = list(dict.fromkeys(_asked(volume, what) for volume in named.values()))
        if len(found) > 1:
            told = " and ".join(str(value) for value in found)
            raise InputError(f"compare: volumes of different {what} have no order; got {told}")
    every = list(named.values())
    results = {
        "names": list(named),
        "log_exp_r_n_values": [volume.log_exp_r_n for volume in every],
        "log_exp_r_n_ci": [volume.interval for volume in every],
        "log_exp_r_n_resolution": [volume.resolution for volume in every],
        "effective_directions": [volume.effective_directions for volume in every],
        "num_censored": [volume.num_censored for volume in every],
        "num_directions": [volume.num_directions for volume in every],
        "log_volume_values": [volume.log_volume for volume in every],
    }
    if not any(math.isnan(volume.log_mass_rays) for volume in every):
        results["log_mass_rays_values"] = [volume.log_mass_rays for volume in every]
    return Comparison(words.table(results), words.describe_order(results))


def _asked(volume: Volume, what: str) -> object:
    # what is asked for as a rise differs as a loss from model to model
    return volume.asked if what == "threshold" else getattr(volume, what)
