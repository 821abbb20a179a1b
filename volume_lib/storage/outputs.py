"""Which files each step of a run writes: what follows reads them, and cleaning up deletes them."""

from __future__ import annotations

import re
from pathlib import Path

_LANDSCAPE = r"(data|poison|noise)_\d+"

_DATA = {
    "train": r"models_and_data/(dataset|model_[a-z_]+_\d+)\.pt",
    "perturb": rf"{_LANDSCAPE}/[a-z_]+_\d+\.npz",
    "volume": rf"{_LANDSCAPE}/loss_[\d.e+-]+/results\.json",
    "cutoff": r"cutoffs/cutoffs\.json",
    "accuracy": r"test_accuracies\.npz",
    "analysis": r"summary\.csv",
}
_FIGURES = {
    "train": r"models_and_data/(samples|training_curves|accuracy_curves|test_loss|decision_boundary)\.png",
    "perturb": rf"{_LANDSCAPE}/ray_profiles\.png|\.shards/\d+/{_LANDSCAPE}/[a-z_]+_\d+\.npz",
    "volume": rf"{_LANDSCAPE}/loss_[\d.e+-]+/[a-z_]+\.png|log_volumes_loss_[\d.e+-]+\.png",
    "cutoff": r"cutoffs/loss_curves\.png",
    "accuracy": r"test_accuracies\.png",
    "analysis": r"[a-z_]+\.(png|pdf)|report\.html",
}


def list_outputs(folder: str | Path, step: str, *, figures: bool = False) -> list[Path]:
    """The files that ``step`` wrote in a run's folder (``analysis``: in the analysis folder), sorted.

    Data alone, or with their ``figures`` and what an interrupted sweep in parts left. Files of other
    names are the user's, and never listed.
    """
    folder = Path(folder)
    pattern = f"{_DATA[step]}|{_FIGURES[step]}" if figures else _DATA[step]
    depth = ("*", "*/*", "*/*/*", ".shards/*/*/*")
    found = (path for level in depth for path in folder.glob(level))
    return sorted(path for path in found if re.fullmatch(pattern, path.relative_to(folder).as_posix()))
