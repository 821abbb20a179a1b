"""Networks called on what they take: a tensor, or a tuple or dictionary of tensors, samples first.

What goes wrong in a network or a loss is told in one line; nobody's random numbers are disturbed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from volume_lib.errors import InputError

PerSample = Callable[[Tensor, Tensor], Tensor]
"""``(outputs, y) → (N,)``: a loss or an accuracy of each sample."""

SAMPLES = 4
"""Samples that questions about a network are asked on."""


def call(model: nn.Module, x: Any) -> Any:
    if isinstance(x, dict):
        return model(**x)
    return model(*x) if isinstance(x, tuple | list) else model(x)


def outputs_of(model: nn.Module, x: Any, label: str = "") -> Tensor:
    try:
        return call(model, x)
    except Exception as error:
        shapes = ", ".join(f"{tuple(p.shape)} {str(p.dtype).removeprefix('torch.')}" for p in parts(x))
        raise InputError(
            f"{label}the network does not run on inputs {shapes}: {type(error).__name__}: {first_line(error)}"
        ) from error


def per_sample(function: PerSample, outputs: Any, y: Tensor, what: str) -> Tensor:
    """What a loss or an accuracy gives, (N,); InputError where it does not run or gives other things."""
    size = len(y)
    try:
        values = function(outputs, y)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{what}: does not run on outputs {_kind(outputs)} and targets {_kind(y)}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
    if shape != (size,):
        hint = '; is it a mean? use reduction="none"' if shape == () else ""
        raise InputError(
            f"{what}: must give one number for each sample, shape ({size},) here; got {shape}{hint}"
        )
    if values.is_complex():
        raise InputError(f"{what}: must give real numbers; got {_kind(values)}")
    return values


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return type(value).__name__


def few(x: Any) -> Any:
    """The first samples, at least two: a single one comes twice."""
    size = len(parts(x)[0])
    return each(x, (lambda part: part[:SAMPLES]) if size > 1 else (lambda part: torch.cat([part, part])))


def on(x: Any, device: torch.device | str) -> Any:
    return each(x, lambda part: part.to(device))


def each(x: Any, change: Callable[[Tensor], Any]) -> Any:
    if isinstance(x, dict):
        return {key: each(part, change) for key, part in x.items()}
    if isinstance(x, tuple | list):
        return type(x)(each(part, change) for part in x)
    return change(x)


def parts(x: Any) -> list[Tensor]:
    if isinstance(x, dict):
        x = list(x.values())
    return [part for value in x for part in parts(value)] if isinstance(x, tuple | list) else [x]


def doubled(values: Tensor) -> Tensor:
    """Inputs or targets in float64; indices and labels stay what they are."""
    return values.double() if values.is_floating_point() else values


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."


@contextmanager
def undisturbed(device: torch.device | str = "cpu", seed: int | None = None) -> Iterator[None]:
    """Leave the random states of torch, NumPy and Python as they were; inside, they begin at ``seed``."""
    device = torch.device(device)
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            if seed is not None:
                torch.default_generator.manual_seed(seed)
                if device.type == "cuda":
                    torch.cuda.manual_seed(seed)
                random.seed(seed)
                np.random.seed(seed % 2**32)
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def random_state(device: torch.device) -> list[Tensor]:
    """torch's random state, on the CPU and on ``device``."""
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_device]


def set_random_state(state: list[Tensor], device: torch.device) -> None:
    """Go back to what :func:`random_state` gave."""
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
