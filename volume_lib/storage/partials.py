"""What an interrupted sweep has of the model in hand: a file for each batch of directions, in order.

They lie in ``.partial/<what varies>_<value>/`` of the run's folder until the model's own files are whole.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from volume_lib.errors import InputError
from volume_lib.storage.files import save_npz
from volume_lib.storage.paths import PERTURB_NOTEBOOK
from volume_lib.storage.readers import load_npz, read


@dataclass(frozen=True)
class Partial:
    """What one batch of directions gave.

    ``rows`` (B,): positions of its directions in the sweep; ``norms`` (B,): of the unscaled directions.
    ``values``: for each landscape ``(3, T)``, coefficients, losses and accuracies of one ray after the other,
    with ``counts`` (K, B) points of each. ``lessons``: arrays (B,) by name, a tuple of text and numbers.
    ``limit``: the most directions that a batch had.
    """

    rows: np.ndarray
    norms: np.ndarray
    values: list[np.ndarray]
    counts: np.ndarray
    limit: int
    lessons: dict[tuple, np.ndarray] = field(default_factory=dict)


def save_partial(folder: Path, number: int, partial: Partial, made_from: str) -> None:
    """Write batch ``number``; ``made_from`` says what a sweep must agree on to go on from it."""
    arrays: dict[str, Any] = {
        "made_from": made_from,
        "rows": partial.rows,
        "norms": partial.norms,
        "values": np.concatenate(partial.values, axis=1),
        "counts": partial.counts,
        "limit": partial.limit,
        "names": json.dumps(list(partial.lessons)),
        "lessons": np.array(list(partial.lessons.values())).reshape(-1, len(partial.rows)),
    }
    save_npz(_path(folder, number), arrays)


def load_partials(folder: Path, made_from: str) -> list[Partial]:
    """The batches that a sweep of the same making left, from the first to the first that is not there.

    What lies behind them, is damaged or of another making is deleted.
    """
    found: list[Partial] = []
    with contextlib.suppress(InputError, KeyError, ValueError, TypeError):
        while True:
            found.append(_load(_path(folder, len(found)), made_from))
    for path in folder.glob("*.npz"):
        if path not in {_path(folder, number) for number in range(len(found))}:
            path.unlink(missing_ok=True)
    return found


def remove_partials(folder: Path) -> None:
    """The model's files are whole: what led to them goes."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # those of another model are still there
        folder.parent.rmdir()


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.npz"


def _load(path: Path, made_from: str) -> Partial:
    arrays = read(path, load_npz, PERTURB_NOTEBOOK)
    if str(arrays["made_from"]) != made_from:
        raise InputError(f"{path}: of another sweep")
    counts, values = arrays["counts"], arrays["values"]
    names = map(tuple, json.loads(str(arrays["names"])))
    return Partial(
        rows=arrays["rows"],
        norms=arrays["norms"],
        values=np.split(values, np.cumsum(counts.sum(axis=1))[:-1], axis=1),
        counts=counts,
        limit=int(arrays["limit"]),
        lessons=dict(zip(names, arrays["lessons"], strict=True)),
    )
