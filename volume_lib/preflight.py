"""What the numbers assume of a network, a loss and data, asked before the hours are spent.

:func:`preflight` asks on a few samples, in seconds; training, sweeps and measurements begin with it. Where an
answer forbids the numbers it raises :class:`InputError`; where it only costs speed or digits, the computation
takes the other way and the record says so::

    the loss at the minimum is the same twice
    the inputs are unchanged: forward changes them in place, so that each call gets a copy
    ...

:mod:`volume_lib.abilities` is the part that evaluators ask themselves: what may be done with this network.
``docs/assumptions.md`` is the table of all assumptions.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from volume_lib.abilities import Abilities, abilities, fitting, give_copies, ready
from volume_lib.calls import (
    PerSample,
    call,
    each,
    few,
    first_line,
    on,
    outputs_of,
    per_sample,
    undisturbed,
)
from volume_lib.errors import InputError

FULL_PASS_SECONDS = 0.5
"""All samples are evaluated once, for the loss at the minimum, where that takes no longer than this."""
REPEATS, REPEAT_SECONDS = 47, 0.1
"""How often the loss is computed again, and after what time no more: 2 calls, 15 of a network that draws,
are always made."""


@dataclass(frozen=True)
class Preflight:
    """The answers, one line for each question; ``notes`` are those that a user did not count on."""

    answers: dict[str, str]
    notes: list[str]
    abilities: Abilities

    def __str__(self) -> str:
        return "\n".join(f"{question}: {answer}" for question, answer in self.answers.items())


def preflight(
    model: nn.Module,
    x: Any,
    y: Tensor,
    *,
    loss: PerSample,
    accuracy: PerSample | None = None,
    thresholds: Sequence[float] = (),
    device: torch.device | str = "cpu",
    moved: Sequence[str] | None = None,
    recorded_loss: float | None = None,
    seconds: float = FULL_PASS_SECONDS,
    name: str = "",
) -> Preflight:
    """Ask every question about ``model``, its trained weights in place, and the samples ``x``, ``y`` (N, …).

    Args:
        model: in whichever mode; asked as a copy, in eval mode.
        x: inputs: a tensor, or a tuple or dict of tensors, samples first; ``y``: their targets.
        loss, accuracy: ``(outputs, y) → (N,)``.
        thresholds: of the loss, whose crossings are to be found.
        device: where the work will be done.
        moved: names of the parameters that directions move, to be told.
        recorded_loss: the mean loss over ``x`` that the model's file records.
        seconds: that one pass over all samples may take; else the loss at the minimum is not computed.
        name: of the model, for messages.

    Raises:
        InputError: the network does not run on the samples or the device, its parameters or its loss at the
            minimum are not numbers, its loss is not the same twice, depends on the batch, or is not one
            number for each sample.
    """
    label = f"{name}: " if name else ""
    answers: dict[str, str] = {}
    model, stored = ready(model, label)
    x_few, y_few = few(x), few(y)
    _runs_on(model, x_few, device, label)
    model = model.to(device)
    x_few, y_few = fitting(model, on(x_few, device)), on(y_few, device)
    able = abilities(model, x, y_few, loss, accuracy, label)
    if able.copies:
        give_copies(model)
    losses = _losses(model, x_few, y_few, loss, label)
    answers["loss at the minimum, twice"] = _same_twice(model, x_few, y_few, loss, label)
    answers["inputs after a call"] = able.why.get("copies", "unchanged")
    answers["loss of each sample"] = _own_loss(model, x_few, y_few, loss, losses, label)
    if accuracy is not None:
        per_sample(accuracy, outputs_of(model, x_few), y_few, f"{label}accuracy")
    answers["NaN"] = "none"
    answers["several directions together"] = able.why.get("together", "yes")
    answers["float64"] = able.why.get("float64", "yes")
    answers["device"] = str(torch.device(device))
    answers["stored weights"] = stored or "as they are"
    if moved is not None:
        answers["parameters that move"] = listed(moved)
    mean = _mean_loss(model, x, y, loss, device, seconds, label)
    answers["loss at the minimum"] = _minimum(mean, thresholds)
    answers["recorded and computed loss"] = _as_recorded(mean, recorded_loss)
    answers["thresholds and rounding"] = _above_rounding(able, thresholds)
    usual = ("unchanged", "yes", "as they are", "below", "equal", "not", "above")
    told = ("inputs after a call", "several directions together", "float64", "stored weights")
    told += ("loss at the minimum", "recorded and computed loss", "thresholds and rounding")
    notes = [f"{label}{q}: {answers[q]}" for q in told if not answers[q].startswith(usual)]
    return Preflight(answers, notes, able)


# ---- the questions


def _runs_on(model: nn.Module, x: Any, device: torch.device | str, label: str) -> None:
    """InputError where a network runs on the CPU and not on ``device``."""
    device = torch.device(device)
    if device.type == "cpu":
        return
    try:
        with torch.no_grad(), undisturbed(device):
            moved = copy.deepcopy(model).to(device)
            call(moved, fitting(moved, each(on(x, device), torch.clone)))
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        raise InputError(
            f'{label}the network does not run on {device} ({first_line(error)}); use device="cpu", or '
            "register its tensors as buffers"
        ) from error


@torch.no_grad()
def _same_twice(model: nn.Module, x: Any, y: Tensor, loss: PerSample, label: str) -> str:
    device = y.device
    with undisturbed(device):
        before = _random_state(device)
        first = loss(outputs_of(model, x), y).double()
        draws = _random_state(device) != before
        # what is drawn, remembered or counted may matter rarely
        start = time.monotonic()
        for done in range(REPEATS):
            if done >= (15 if draws else 2) and time.monotonic() - start > REPEAT_SECONDS:
                break
            again = loss(outputs_of(model, x), y).double()
            difference = (again - first).abs().max().item()
            if difference > (0 if draws else 1e-5 * first.abs().max().item()):
                raise InputError(
                    f"{label}the loss is not the same twice: it differs by {difference:.2g} on one sample "
                    f"(of {first.abs().max().item():.2g}); a volume needs a network without noise"
                )
    return "the same"


@torch.no_grad()
def _own_loss(model: nn.Module, x: Any, y: Tensor, loss: PerSample, losses: Tensor, label: str) -> str:
    """A landscape is a mean over samples only if no sample's loss depends on which others are there."""
    if len(y) > 1:
        half = len(y) // 2
        alone = loss(outputs_of(model, each(x, lambda part: part[:half])), y[:half]).double()
        difference = (alone - losses[:half]).abs().max().item()
        if difference > 1e-3 * losses.abs().max().item() + 1e-5:
            raise InputError(
                f"{label}the loss of a sample depends on the others in its batch (it differs by "
                f"{difference:.2g}); use running statistics in eval mode, and compare outputs and "
                "targets of one shape"
            )
    return "its own"


def _minimum(mean: float | None, thresholds: Sequence[float]) -> str:
    if mean is None:
        return "not computed: a pass over all samples takes too long"
    above = sorted(value for value in thresholds if not mean <= value)
    if above:
        return f"{mean:.3g} is above the thresholds {', '.join(f'{v:g}' for v in above)}: no volume there"
    return f"below all thresholds ({mean:.3g})" if thresholds else f"above 0 ({mean:.3g})"


def _as_recorded(mean: float | None, recorded: float | None) -> str:
    if recorded is None or mean is None:
        return "not compared"
    if abs(mean - recorded) <= 1e-4 * abs(recorded) + 1e-6:
        return "equal"
    return (
        f"{mean:.4g} computed, {recorded:.4g} recorded: the record is not of these weights on these samples"
    )


def _above_rounding(able: Abilities, thresholds: Sequence[float]) -> str:
    low = [value for value in thresholds if able.too_coarse(value)]
    if not low:
        return "above rounding"
    named = ", ".join(f"{value:g}" for value in sorted(low))
    if able.float64:
        return f"{named} computed in float64: float32 rounds a sample's loss by {able.rounding:.1g}"
    share = able.rounding / min(low) / 2
    return (
        f"{named} near the rounding of a sample's loss in float32 ({able.rounding:.1g}), and float64 does "
        f"not run: radii are uncertain by up to {min(share, 1):.1%}"
    )


@torch.no_grad()
def _losses(model: nn.Module, x: Any, y: Tensor, loss: PerSample, label: str) -> Tensor:
    with undisturbed(y.device):
        losses = loss(outputs_of(model, x, label), y).double()
    if losses.isnan().any():
        where = int(losses.isnan().nonzero()[0, 0])
        raise InputError(f"{label}the loss is not a number (NaN), on sample {where} of the few")
    return losses


@torch.no_grad()
def _mean_loss(
    model: nn.Module,
    x: Any,
    y: Tensor,
    loss: PerSample,
    device: torch.device | str,
    seconds: float,
    label: str,
) -> float | None:
    """The mean loss over all samples; None where that takes longer than ``seconds``.

    A sample whose loss is not a number makes every mean over it NaN, which counts as above any threshold: no
    volume. That is never the network's, always the data's: refused, naming the sample.
    """
    size, total, start = len(y), 0.0, time.monotonic()
    step = 64
    with undisturbed(device):
        for a in range(0, size, step):
            part = slice(a, a + step)
            inputs = on(each(x, lambda values, part=part: values[part].clone()), device)
            inputs = fitting(model, inputs)
            losses = loss(call(model, inputs), on(y[part], device)).double()
            if losses.isnan().any():
                where = a + int(losses.isnan().nonzero()[0, 0])
                raise InputError(
                    f"{label}the loss of sample {where} is not a number (NaN); are there NaN in x or y?"
                )
            total += losses.sum().item()
            if (time.monotonic() - start) / min(a + step, size) * size > seconds and a:
                return None
    return total / size


def _random_state(device: torch.device) -> tuple:
    states = [
        torch.get_rng_state().numpy().tobytes(),
        random.getstate(),
        str(list(np.random.get_state())[1:]),
    ]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device).numpy().tobytes())
    return tuple(states)


def listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
