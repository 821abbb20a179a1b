"""Which files each step of a run writes: what follows reads them, and cleaning up deletes them."""

from __future__ import annotations

import re
from pathlib import Path

from volume_lib.storage.paths import PARTIAL, SHARDS, STEM
from volume_lib.storage.strays import is_stray

_LANDSCAPE = r"(data|poison|noise)_\d+"
_PICTURE = r"\.(png|pdf)"
_PART = rf"{re.escape(SHARDS)}/\d+/"

_DATA = {
    "train": rf"models_and_data/(dataset|model_{STEM})\.pt",
    "perturb": rf"{_LANDSCAPE}/{STEM}\.npz",
    "volume": rf"{_LANDSCAPE}/loss_[\d.e+-]+/results\.json",
    "cutoff": r"cutoffs/cutoffs\.json",
    "accuracy": r"test_accuracies\.npz",
    "integrate": rf"{_LANDSCAPE}/loss_[\d.e+-]+/mass\.json",
    "analysis": r"(summary|rank_stability)\.csv",
}
_FIGURES = {
    "train": rf"models_and_data/(samples|[a-z]+_curves|test_loss|decision_boundary){_PICTURE}",
    "perturb": rf"{_LANDSCAPE}/ray_profiles{_PICTURE}|{_PART}{_LANDSCAPE}/{STEM}\.npz|"
    rf"({_PART})?{re.escape(PARTIAL)}/{STEM}/\d{{6}}\.npz",
    "volume": rf"{_LANDSCAPE}/loss_[\d.e+-]+/[a-z_]+{_PICTURE}|log_volumes_loss_[\d.e+-]+{_PICTURE}",
    "cutoff": rf"cutoffs/loss_curves{_PICTURE}",
    "accuracy": rf"test_accuracies{_PICTURE}",
    "integrate": rf"{_LANDSCAPE}/loss_[\d.e+-]+/mass_(states/{STEM}\.pt|[a-z_0-9]+{_PICTURE})",
    "analysis": rf"[a-z_]+{_PICTURE}|report\.html",
}


def list_outputs(folder: str | Path, step: str, *, figures: bool = False) -> list[Path]:
    """The files that ``step`` wrote in a run's folder (``analysis``: in the analysis folder), sorted.

    Data alone, or with their ``figures`` and what an interrupted sweep left, its parts and its batches.
    Files of other names are the user's, as are folders, pipes and strays (:mod:`volume_lib.storage.strays`):
    never listed.
    """
    folder = Path(folder)
    pattern = f"{_DATA[step]}|{_FIGURES[step]}" if figures else _DATA[step]
    depth = ("*", "*/*", "*/*/*", "*/*/*/*", f"{SHARDS}/*/*/*", f"{SHARDS}/*/*/*/*")
    found = (path for level in depth for path in folder.glob(level))
    named = (path for path in found if re.fullmatch(pattern, path.relative_to(folder).as_posix()))
    return sorted(path for path in named if path.is_file() and not is_stray(path))
