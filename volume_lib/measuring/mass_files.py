"""The integrated mass of a volume, in the file of the workflow's step."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

from volume_lib import storage
from volume_lib.integration.minima import numbers_of
from volume_lib.integration.record import Mass
from volume_lib.records import ADDITIONAL, Sweep
from volume_lib.storage.files import save_torch
from volume_lib.storage.weights import weights_digest
from volume_lib.volume.mass import RayMass


def save_mass(path: Path, mass: Mass | None, sweep: Sweep, threshold: float, rays: RayMass) -> None:
    """Write an integrated mass as the ``mass.json`` ``path``, its chains beside it; no file without one.

    ``rays``: the same by the rays of ``sweep`` under the reference ``init``; left out for another.
    """
    chains = storage.mass_state_path(path, ADDITIONAL, sweep.value)
    if mass is None or mass.state is None:
        chains.unlink(missing_ok=True)  # of what is overwritten
    elif isinstance(mass.state, dict):
        save_torch(chains, mass.state)
    elif mass.state.absolute() != chains.absolute():  # read from another folder
        with storage.atomic_write(chains) as temporary:
            shutil.copyfile(mass.state, temporary)
    if mass is None:
        path.unlink(missing_ok=True)
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
    """What :func:`save_mass` wrote, with the file of its chains if that is there; None without a mass."""
    if not path.exists():
        return None
    found = storage.load_masses(path)
    mass = Mass.from_dict(found["records"][0])
    chains = storage.mass_state_path(path, found["key"], found["key_values"][0])
    return replace(mass, state=chains) if chains.exists() else mass
