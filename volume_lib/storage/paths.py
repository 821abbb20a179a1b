"""Where the files of a run lie, and which notebook writes them."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from volume_lib.records import ADDITIONAL, plain_value
from volume_lib.storage.archives import Refused, open_regular

MODELS_AND_DATA = "models_and_data"
SHARDS = ".shards"
PARTIAL = ".partial"
TRAIN_NOTEBOOK = "Train Low Test Models.ipynb"
PERTURB_NOTEBOOK = "Random Perturbs.ipynb"
VOLUME_NOTEBOOK = "Volume Estimation Pipeline.ipynb"
CUTOFF_NOTEBOOK = "Volume Cutoff.ipynb"
ACCURACY_NOTEBOOK = "Test Accuracy.ipynb"
INTEGRATION_NOTEBOOK = "Volume Integration.ipynb"

_NUMBER = r"(0|[1-9][0-9]{0,17})"
_KEY = r"[A-Za-z]\w*"
_VALUE = r"(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?(?:e[+-][0-9]{2,3})?"
STEM = rf"{_KEY}_{_VALUE}"
"""What varies between models, and its value, in the names of files: ``additional_540``, ``sam_rho_0.05``."""
MODEL_NAME = rf"model_({_KEY})_({_VALUE})\.pt"
"""What a model's file is called: what varies, and its value."""


def run_name(model_seed: int, data_seed: int) -> str:
    """The name of a run's folder."""
    return f"model_{model_seed}_data_{data_seed}"


def run_seeds(run_dir: str | Path) -> tuple[int, int] | None:
    """Model seed and data seed of a run's folder; None if its name is not that of a run."""
    found = re.fullmatch(r"model_(\d+)_data_(\d+)", Path(run_dir).name)
    return (int(found[1]), int(found[2])) if found else None


def analysis_dir(experiment_dir: str | Path) -> Path:
    """The folder of the averages over all runs."""
    return Path(experiment_dir) / "analysis"


def shard_dir(run_dir: str | Path, index: int) -> Path:
    """Where part ``index`` of a run's sweep is kept until all parts are there."""
    return Path(run_dir) / SHARDS / str(index)


def partial_dir(run_dir: str | Path, dataset_type: str, key: str, value: int | float) -> Path:
    """Where the sweep of one model keeps its batches until its files are whole."""
    return Path(run_dir) / PARTIAL / _sweep_stem(dataset_type, key, value)


def model_path(folder: str | Path, key: str, value: int | float) -> Path:
    """The file of the model whose ``key`` (``"additional"``, ``"batch_size"`` …) has ``value``."""
    return Path(folder) / f"model_{key}_{value}.pt"


def sweep_dir(run_dir: str | Path, dataset_type: str, level: int) -> Path:
    """The folder of the loss landscape of base + ``level`` samples."""
    return Path(run_dir) / f"{dataset_type}_{level}"


def sweep_path(run_dir: str | Path, dataset_type: str, level: int, key: str, value: int | float) -> Path:
    """The file of one model in the landscape of ``level``."""
    return sweep_dir(run_dir, dataset_type, level) / f"{_sweep_stem(dataset_type, key, value)}.npz"


def _sweep_stem(dataset_type: str, key: str, value: int | float) -> str:
    return f"{dataset_type if key == ADDITIONAL else key}_{value}"


def results_dir(run_dir: str | Path, dataset_type: str, level: int, threshold: float) -> Path:
    """The folder of the volumes, and their figures, of one landscape and one loss threshold."""
    return sweep_dir(run_dir, dataset_type, level) / f"loss_{threshold_name(threshold)}"


def threshold_name(threshold: float) -> str:
    """The threshold in the names of files: as few digits as give the very number back (``0.1``, ``10``)."""
    short = f"{threshold:g}"
    return short if float(short) == threshold else repr(float(threshold))


def results_path(run_dir: str | Path, dataset_type: str, level: int, threshold: float) -> Path:
    return results_dir(run_dir, dataset_type, level, threshold) / "results.json"


def cutoffs_path(run_dir: str | Path) -> Path:
    return Path(run_dir) / "cutoffs" / "cutoffs.json"


def accuracies_path(run_dir: str | Path) -> Path:
    return Path(run_dir) / "test_accuracies.npz"


def list_models(folder: str | Path) -> list[Path]:
    """The model files of a ``models_and_data`` folder, by what varies and its value."""
    return _by_number(Path(folder), MODEL_NAME)


def list_sweeps(run_dir: str | Path, dataset_type: str | None = None) -> dict[int, list[Path]]:
    """Landscape level → its ``.npz`` files by model value; of one dataset type, or of all that are there."""
    kind = r"[a-z]+" if dataset_type is None else re.escape(dataset_type)
    levels: dict[int, list[Path]] = {}
    for folder in _by_number(Path(run_dir), rf"({kind})_{_NUMBER}"):
        files = _by_number(folder, rf"{STEM}\.npz")
        if files:
            levels.setdefault(int(value_of(folder.name)), []).extend(files)
    return dict(sorted(levels.items()))


def list_runs(experiment_dir: str | Path) -> list[Path]:
    """The run folders ``model_<m>_data_<d>`` of an experiment, by model seed, then data seed."""
    seeds = {path: run_seeds(path) for path in Path(experiment_dir).glob("*") if path.is_dir()}
    known = {path: pair for path, pair in seeds.items() if pair}
    return sorted(known, key=known.__getitem__)


def list_results(run_dir: str | Path) -> dict[tuple[str, int, float], Path]:
    """(dataset type, landscape level, loss threshold) → the ``results.json`` files of a run."""
    found = {}
    for path in Path(run_dir).glob("*/loss_*/results.json"):
        landscape = re.fullmatch(rf"([a-z]+)_{_NUMBER}", path.parent.parent.name)
        with contextlib.suppress(ValueError):
            threshold = _threshold(path)
            if landscape:
                found[landscape[1], int(landscape[2]), threshold] = path
    return dict(sorted(found.items()))


def _threshold(path: Path) -> float:
    """The threshold of a ``results.json``; older versions rounded it to six digits in the folder's name."""
    name = path.parent.name.removeprefix("loss_")
    with contextlib.suppress(OSError, Refused), open_regular(path) as file:
        recorded = re.search(rb'"loss_threshold": *([0-9.eE+-]+)', file.read(1 << 24))
        if recorded and name == f"{(exact := float(recorded[1])):g}":
            return exact
    return float(name)


def value_of(name: str) -> int | float:
    """The value at the end of a name, ``Model_540`` or ``sam_rho_0.05``, as :func:`model_path` wrote it."""
    text = name.rpartition("_")[2]
    return int(text) if text.isdecimal() else plain_value(float(text))


def _by_number(folder: Path, pattern: str) -> list[Path]:
    found = [path for path in folder.glob("*") if re.fullmatch(pattern, path.name)]
    return sorted(found, key=lambda path: (path.stem.rpartition("_")[0], value_of(path.stem)))
