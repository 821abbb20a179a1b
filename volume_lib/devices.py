"""Where to compute."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from volume_lib.errors import InputError


def resolve_device(device: str) -> torch.device:
    """``"auto"`` → the GPU if there is one, else the CPU; anything else as torch names it.

    Raises:
        InputError: torch does not know the device, or it is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f'device "{device}": not usable here ({reason}); use auto, cpu or cuda') from error


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Inside, tensors are float32 on the CPU where nothing else is said, whatever a user's file has set.

    What a seed means may not depend on global state. Also a decorator.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_default_device(device if device.type != "cpu" else None)


def processor_name(device: torch.device) -> str:
    """The GPU, or the processor and its threads: what measured seconds belong to."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    described = Path("/proc/cpuinfo")
    for line in described.read_text().splitlines() if described.exists() else ():
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    return f"{name}, {torch.get_num_threads()} threads"
