"""Files of a user's in the folders of a run, whose names are like those of models and rays.

A copy kept as ``model_backup_5.pt``, notes in ``my_rays_3.npz``: of what varies, the name says otherwise than
the content. They are nobody's input: readers leave them out by name, and no step waits for them.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from volume_lib.records import ADDITIONAL
from volume_lib.storage import older
from volume_lib.storage.archives import Refused, open_regular
from volume_lib.storage.paths import MODEL_NAME, STEM, list_models
from volume_lib.storage.peek import peek_sweep, peek_torch


def own_models(folder: str | Path) -> list[Path]:
    """The model files of a ``models_and_data`` folder, less strays, by what varies and its value."""
    return [path for path in list_models(folder) if not is_stray(path)]


def is_stray(path: Path) -> bool:
    """Whether what is named as a model or as rays is none of the run's; damage is told by readers."""
    if path.is_dir():
        return True
    if found := re.fullmatch(MODEL_NAME, path.name):
        return _is_stray_model(path, found[1])
    found = re.fullmatch(rf"({STEM})\.npz", path.name)
    return found is not None and _is_stray_sweep(path, path.stem.rpartition("_")[0])


def _is_stray_model(path: Path, key: str) -> bool:
    if key == ADDITIONAL:
        return False
    said = peek_torch(path)
    if said is None:
        return False
    if "key" in said:
        return said["key"] != older.value_key({}, key)
    return not {"state_dict", "model_state"} & said.keys()


def _is_stray_sweep(path: Path, key: str) -> bool:
    if key == path.parent.name.rpartition("_")[0]:  # the landscape's own word
        return False
    said = peek_sweep(path)
    if said is not None:
        return "key" in said and said["key"] != older.value_key({}, key)
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return "wiggle_results.npy" not in archive.namelist()
    except (OSError, Refused, zipfile.BadZipFile):
        return False
