"""The integrated mass of a volume, in the file of the workflow's step."""

from __future__ import annotations

import math
from pathlib import Path

from volume_lib import storage
from volume_lib.integration.minima import numbers_of
from volume_lib.integration.record import Mass
from volume_lib.records import ADDITIONAL, Sweep
from volume_lib.storage.weights import weights_digest
from volume_lib.volume.mass import RayMass


def save_mass(path: Path, mass: Mass | None, sweep: Sweep, threshold: float, rays: RayMass) -> None:
    """Write an integrated mass as the ``mass.json`` ``path``; no file where there is none.

    ``rays``: the same by the rays of ``sweep`` under the reference ``init``; left out for another.
    """
    if mass is None:
        path.unlink(missing_ok=True)  # of what is overwritten
        return
    if mass.reference != "init":
        rays = RayMass(math.nan, (math.nan, math.nan), math.nan)
    row = {
        "key_values": sweep.value,
        "model_data_levels": sweep.model_trained_data,
        "weights_digests": weights_digest(sweep.state_dict),
        "records": mass.as_dict(),
        **numbers_of(mass, rays),
    }
    told = {
        "key": ADDITIONAL,
        "dataset_type": sweep.dataset_type,
        "loss_landscape_data_param": sweep.additional_data,
        "base_dataset_size": sweep.base_dataset_size,
        "num_params": sweep.num_params,
        "loss_threshold": threshold,
        "loss_unit": sweep.loss_unit,
        "samples_digest": "",  # the caller's own samples, which no file here holds
        "reference": mass.reference,
        "region": mass.region,
    }
    storage.save_masses(path, told | {key: [value] for key, value in row.items()})


def load_mass(path: Path) -> Mass | None:
    """What :func:`save_mass` wrote; None if there is no such file."""
    return Mass.from_dict(storage.load_masses(path)["records"][0]) if path.exists() else None
