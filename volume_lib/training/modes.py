"""Before a training: what the network does differently while it is trained, and what that asks of the loop.

Batch normalisation and dropout act in train mode only. Such a network is stepped in train mode, alone, and
every number that is recorded of it is taken in eval mode, whose statistics come from training batches only.
What cannot be trained, or not be had back from its file, is refused here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from volume_lib.abilities import changes_inputs, fitting, give_copies
from volume_lib.calls import few, first_line, undisturbed
from volume_lib.errors import InputError
from volume_lib.preflight import preflight
from volume_lib.problems.base import Problem
from volume_lib.training.stacks import Stack


@dataclass(frozen=True)
class Mode:
    """How a network is to be trained.

    ``modal``: it acts differently in train mode; ``copies``: it changes its inputs, and gets copies.
    """

    modal: bool = False
    copies: bool = False


USUAL = Mode()
"""Of most networks: nothing to be minded."""


def check_training(
    problem: Problem,
    build: Callable[[], nn.Module],
    x: Tensor,
    y: Tensor,
    smallest_batch: int,
    evaluated: int,
    device: torch.device,
    name: str = "",
) -> Mode:
    """Ask the preflight of a fresh network, then whether a step can be taken, saved and had back.

    Args:
        build: gives the network as its seed makes it, on the CPU.
        x, y: training samples (N, …).
        smallest_batch: samples in the smallest batch that the training will meet.
        evaluated: samples in the largest batch that is evaluated.
        name: of the model, for messages.

    Raises:
        InputError: the network cannot be trained, or what training changes is not in its ``state_dict``.
    """
    model = build()
    found = preflight(
        model,
        x,
        y,
        loss=problem.per_sample_loss,
        accuracy=problem.correct,
        device=device,
        seconds=0,
        name=name,
    )
    model = model.to(device)
    with undisturbed(device):
        most = fitting(model, _of_size(x, evaluated).to(device))
        copies = found.abilities.copies or changes_inputs(model.eval(), most)
    if copies:
        give_copies(model)
    x, y = fitting(model, few(x).to(device)), few(y).to(device)
    with undisturbed(device, 0):
        stack = Stack.of([model.to(device)])
        modal = _is_modal(stack, x, y, problem, name)
        _step(stack, _of_size(x, smallest_batch), _of_size(y, smallest_batch), problem, name)
        _comes_back(stack, build(), x, y, problem, name)
    return Mode(modal, copies)


@torch.no_grad()
def stack_together(models: Sequence[nn.Module], x: Tensor) -> str | None:
    """Why these networks cannot be trained side by side; None if they can.

    ``x``: a few samples. Side by side, each must give what it gives alone: what differs between the networks
    beside their parameters (buffers of their own, say) is seen here.
    """
    with undisturbed(x.device):
        try:
            stack = Stack.of(models)
            with torch.enable_grad():
                outputs = stack.outputs(x.expand(len(models), *x.shape).clone())
                stack.differentiate(outputs.square().mean())
        except Exception as error:
            return first_line(error)
        for model, mine in zip(models, outputs.detach(), strict=True):
            alone = model(x.clone())
            size = alone.abs().max().item() if alone.numel() else 0.0
            if not torch.allclose(mine, alone, rtol=1e-3, atol=1e-4 * size + 1e-6, equal_nan=True):
                return "side by side it gives other numbers"
    return None


def seed_of_draws(seed: int) -> int:
    """The seed of what a network draws while it is trained, far from its own, which made its parameters."""
    return int.from_bytes(hashlib.blake2b(f"draws {seed}".encode(), digest_size=7).digest(), "big")


def buffers_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of what a pass in train mode may change beside the parameters."""
    return {name: value.detach().clone() for name, value in model.named_buffers()}


def restore(model: nn.Module, buffers: dict[str, Tensor]) -> None:
    """Set the buffers back to :func:`buffers_of`."""
    with torch.no_grad():
        for name, value in model.named_buffers():
            if name in buffers:
                value.copy_(buffers[name])


# ---- the questions


def _of_size(x: Tensor, size: int) -> Tensor:
    """The first ``size`` samples, which begin again where there are fewer."""
    return x.repeat(-(-size // len(x)), *[1] * (x.dim() - 1))[:size]


def _is_modal(stack: Stack, x: Tensor, y: Tensor, problem: Problem, name: str) -> bool:
    """Whether a pass in train mode draws, changes buffers, or gives other numbers than in eval mode."""
    model = stack.template
    with torch.no_grad():
        model.eval()
        usual = stack.outputs(x[None])
        model.train()
        before, state = buffers_of(model), torch.get_rng_state()
        try:
            other = stack.outputs(x[None])
        except Exception as error:
            raise InputError(
                f"{name}: the network does not run in train mode: {first_line(error)}"
            ) from error
        drew = not torch.equal(state, torch.get_rng_state())
        after = buffers_of(model)
        changed = any(not torch.equal(value, after[key]) for key, value in before.items())
        return drew or changed or not torch.equal(usual, other)


def _step(stack: Stack, x: Tensor, y: Tensor, problem: Problem, name: str) -> None:
    """One step of gradient descent in train mode, on the smallest batch."""
    stack.template.train()
    try:
        losses = problem.per_sample_loss(stack.outputs(x[None])[0], y)
        stack.differentiate(losses.mean())
    except Exception as error:
        what = "a batch of 1 sample" if len(x) == 1 else f"a batch of {len(x)} samples"
        raise InputError(
            f"{name}: the network does not train on {what}, the smallest that its batch_size leaves: "
            f"{first_line(error)}"
        ) from error
    if not stack.gradients.any():
        return
    with torch.no_grad():
        stack.parameters.sub_(stack.gradients, alpha=1e-3 / float(stack.gradients.norm()))


@torch.no_grad()
def _comes_back(stack: Stack, fresh: nn.Module, x: Tensor, y: Tensor, problem: Problem, name: str) -> None:
    """InputError where a fresh network with the ``state_dict`` of the trained one is another network."""
    stack.template.eval()
    here = problem.per_sample_loss(stack.outputs(x[None])[0], y)
    fresh.load_state_dict(stack.state_dict(0))
    there = problem.per_sample_loss(fresh.to(x.device).eval()(x.clone()), y)
    if not torch.allclose(here, there, rtol=1e-4, atol=1e-6, equal_nan=True):
        difference = (here - there).abs().max().item()
        raise InputError(
            f"{name}: what training changes is not all in its state_dict (reloaded, a loss differs by "
            f"{difference:.2g}); register it as a parameter or a persistent buffer"
        )
