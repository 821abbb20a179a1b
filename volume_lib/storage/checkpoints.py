"""Weights that were trained elsewhere: read from whatever a checkpoint calls them, and run nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from volume_lib.errors import InputError
from volume_lib.storage.readers import load_torch, read

if TYPE_CHECKING:
    from torch import Tensor

_NAMES = ("state_dict", "model_state_dict", "model_state", "model", "weights", "net")
_PREFIXES = ("module.", "_orig_mod.")
"""What data-parallel and compiled models put before each name."""


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Name → tensor from a ``.pt`` file: a ``state_dict``, or a dictionary that holds one under a usual name.

    Raises InputError where the file cannot be read safely (a whole pickled model is code, not weights) or
    holds no weights.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: does not exist; give the checkpoint's file")
    content = read(path, load_torch, "torch.save(model.state_dict(), …)")
    candidates = [content]
    if isinstance(content, dict):
        candidates = [content[name] for name in _NAMES if isinstance(content.get(name), dict)] or [content]
    state = candidates[0]
    if not isinstance(state, dict) or not state:
        raise InputError(f"{path}: holds no weights; torch.save(model.state_dict(), …) writes them")
    for name, value in state.items():
        if not isinstance(name, str) or not torch.is_tensor(value):
            raise InputError(
                f"{path}: {name!r} is a {type(value).__name__}, no tensor; save model.state_dict() alone"
            )
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)


def is_foreign(path: str | Path) -> bool:
    """Whether a model's file is sound and was not written by this version's training or the last one's."""
    try:
        content = read(Path(path), load_torch, "")
    except InputError:
        return False  # damaged
    return not (isinstance(content, dict) and "data_digest" in content)


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
