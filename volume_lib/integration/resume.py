"""What an integration leaves behind, so that it can go on: plain containers, in a record or a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from volume_lib.errors import InputError
from volume_lib.integration.record import Mass
from volume_lib.integration.run import Walk
from volume_lib.storage.files import atomic_write
from volume_lib.storage.paths import INTEGRATION_NOTEBOOK
from volume_lib.storage.readers import load_torch, read

EVERY = 15.0
"""Seconds between two writes of the file, at least, and 20 times as long as the last write took."""


class NotResumable(InputError):
    """What was left behind is none of this integration."""


class Keeper:
    """Writes the state to ``file`` (None: nowhere) now and then, so that little is lost and little is
    written."""

    def __init__(self, file: Path | None) -> None:
        self.file, self.cost, self.last = file, 0.0, time.monotonic()

    def __call__(self, walk: Walk, identity: dict[str, Any], generator: torch.Generator, now: bool) -> None:
        began = time.monotonic()
        if self.file is None or not (now or began - self.last > max(EVERY, 20 * self.cost)):
            return
        with atomic_write(self.file, durable=False) as temporary:
            torch.save(state_of(walk, identity, generator), temporary)
        self.last = time.monotonic()
        self.cost = self.last - began


def state_of(walk: Walk, identity: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
    """Plain containers, tensors and numbers: the reader of every ``.pt`` file reads it back."""
    held = {}
    for key, value in vars(walk).items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value.copy())
        elif key in ("forward", "backward"):
            value = [torch.from_numpy(part) for part in value]
        held[key] = _plain(value)
    return {"walk": held, "identity": identity, "generator": generator.get_state()}


def _plain(value: Any) -> Any:
    """Numbers of numpy as Python's own, which a safe reader takes."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(part) for part in value)
    return value.item() if isinstance(value, np.generic) else value


def load(resume: Any, identity: dict[str, Any], generator: torch.Generator, place) -> Walk | None:
    """The walk that a record or a file holds; None where there is none yet.

    Raises :class:`NotResumable` for a file that cannot be read, and for a walk of another integration.
    """
    kept = isinstance(resume, Mass) and isinstance(resume.state, Path)
    resume = resume.state if isinstance(resume, Mass) else resume
    if isinstance(resume, (str, Path)):
        path = Path(resume)
        if not path.exists():
            if kept:
                raise NotResumable(f"resume: {path}, where its chains were kept, is gone")
            return None
        try:
            state = read(path, load_torch, INTEGRATION_NOTEBOOK)
        except InputError as error:
            raise NotResumable(f"resume: is no file of an integration: {error}") from error
    else:
        state = resume
    if state is None:
        return None
    if not isinstance(state, dict) or not all(
        isinstance(state.get(key), dict) for key in ("walk", "identity")
    ):
        raise NotResumable(
            f"resume {_named(resume)}: is no file of an integration (walk or identity is not there)"
        )
    for key, value in identity.items():
        if state["identity"].get(key) != value:
            raise NotResumable(f"resume: was measured with {key} {state['identity'].get(key)}, not {value}")
    try:
        held = {key: _at(place, value) for key, value in state["walk"].items() if value is not None}
        for key in ("grid", "betas", "curve"):
            held[key] = held[key].cpu().numpy()
        for key in ("forward", "backward"):
            held[key] = [part.cpu().numpy() for part in held[key]]
        walk = Walk(**held)
        generator.set_state(state["generator"].cpu())
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise NotResumable(
            f"resume {_named(resume)}: is no file of an integration ({type(error).__name__}: {error})"
        ) from error
    return walk


def _named(resume: Any) -> str:
    return str(resume) if isinstance(resume, (str, Path)) else type(resume).__name__


def _at(place: Any, value: Any) -> Any:
    """Every tensor of plain containers on the device at work."""
    if isinstance(value, (list, tuple)):
        return type(value)(_at(place, part) for part in value)
    return value.to(place) if isinstance(value, torch.Tensor) else value
