"""Networks whose training ended above the loss threshold have no volume; a rule says how they count.

- ``"no volume"``: as they are. Where a landscape's loss at the network is above the threshold its log volume
  is −inf: below all others in medians and tables of ranks, left out of means and rank correlations, and every
  figure says where they stand. In a smaller landscape, which it may fit, it has the volume measured there.
- ``"leave out"``: as if they had not been trained; nothing counts them.
- ``"least volume"``: with the least volume that any network of the experiment has in the same landscape, so
  that failing to train is a small volume and no missing one.
"""

from __future__ import annotations

import numpy as np

from volume_lib.errors import InputError, near_match
from volume_lib.records import plain_value

RULES = ("no volume", "leave out", "least volume")
_VOLUMES = ("log_exp_r_n", "log_volume", "log_exp_r_n_acc", "log_mass_rays", "log_mass")
_WORTH = ("ci_low", "ci_high", "resolution", "effective_directions", "num_censored", "log_mass_rays_low")
_WORTH += ("log_mass_rays_high", "log_mass_rays_directions", "log_mass_low", "log_mass_high")


def apply_rule(
    table: np.ndarray, loss_threshold: float, rule: str
) -> tuple[np.ndarray, list[tuple[str, float]]]:
    """The table by ``rule``, and the (run, minimum) that ended above the threshold.

    A network failed if its loss on the largest landscape that it is measured in, the nearest to its own
    training data, lies above the threshold.
    """
    if rule not in RULES:
        raise InputError(f'failed "{rule}": one of {", ".join(RULES)}{near_match(rule, RULES)}')
    failures = _failures(table, loss_threshold)
    table = table.copy()
    failed = np.array(
        [(row["run"], plain_value(row["minimum"])) in set(failures) for row in table], dtype=bool
    )
    if rule == "leave out":
        for column in (*_VOLUMES, *_WORTH):
            table[column][failed] = np.nan
    elif rule == "least volume":
        for landscape in np.unique(table["landscape"]):
            here = table["landscape"] == landscape
            for column in _VOLUMES:
                finite = table[column][here & np.isfinite(table[column]) & ~failed]
                if finite.size:
                    table[column][here & failed & ~np.isnan(table[column])] = finite.min()
    return table, failures


def _failures(table: np.ndarray, loss_threshold: float) -> list[tuple[str, float]]:
    last: dict[tuple[str, float], np.void] = {}
    for row in table:  # landscapes increase
        last[row["run"], plain_value(row["minimum"])] = row
    return [minimum for minimum, row in last.items() if row["train_loss"] > loss_threshold]
