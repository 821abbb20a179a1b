"""The user's model, loss and accuracy, as the evaluators take them: a network of one input, and a problem."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volume_lib.calls import per_sample
from volume_lib.errors import InputError, near_match
from volume_lib.measuring.samples import Lookup, parts
from volume_lib.problems.base import Problem
from volume_lib.problems.losses import ACCURACIES, LOSSES, UNITS, PerSample
from volume_lib.records import Data


class Network(nn.Module):
    """The model behind one tensor: inputs are fetched, several are spread, and the logits taken out.

    ``model(*x)`` for a tuple, ``model(**x)`` for a mapping; of what it returns the ``.logits`` where there
    are any.
    """

    def __init__(self, model: nn.Module, inputs: Lookup | None) -> None:
        super().__init__()
        self.model, self.inputs = model, inputs

    def forward(self, x: Tensor) -> Any:
        """Outputs for the samples ``x`` (N, …), or for those at the positions ``x`` (N,)."""
        return logits_of(call(self.model, x if self.inputs is None else self.inputs.take(x, self.dtype)))

    @property
    def dtype(self) -> torch.dtype:
        return precision(self.model)


def precision(model: nn.Module) -> torch.dtype:
    """Of the model's floating-point parameters."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def call(model: nn.Module, x: Any) -> Any:
    if isinstance(x, dict):
        return model(**x)
    return model(*x) if isinstance(x, tuple) else model(x)


def logits_of(outputs: Any) -> Any:
    """What the loss is of: ``outputs.logits`` or ``outputs["logits"]`` where there is one."""
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, dict) and "logits" in outputs:
        return outputs["logits"]
    return getattr(outputs, "logits", outputs)


class Given(Problem):
    """A loss and an accuracy that were given as functions; data and model are the caller's own.

    ``targets``: where the loss is to find them if ``y`` holds positions; ``nothing``: there are none.
    """

    name = "given"
    model_classes = {}  # noqa: RUF012
    num_classes = 0

    def __init__(
        self, loss: PerSample, accuracy: PerSample | None, unit: str, targets: Lookup | None, nothing: bool
    ) -> None:
        self._loss, self._accuracy, self._targets, self._nothing = loss, accuracy, targets, nothing
        self.loss_unit = unit

    def load(self, root: Path | None = None) -> Data:
        raise NotImplementedError("the data were given to measure")

    def default_model_kwargs(self, model_class: str) -> dict[str, Any]:
        raise NotImplementedError("the model was given to measure")

    def per_sample_loss(self, outputs: Any, y: Tensor) -> Tensor:
        return self._loss(outputs, self._found(y))

    def correct(self, outputs: Any, y: Tensor) -> Tensor:
        """The accuracy, NaN where there is none."""
        if self._accuracy is not None:
            return self._accuracy(outputs, self._found(y))
        return torch.full_like(y, torch.nan, dtype=torch.float32) if y.dim() == 1 else _nan(y)

    def _found(self, y: Tensor) -> Any:
        if self._nothing:
            return None
        return y if self._targets is None else self._targets.take(y)


def _nan(y: Tensor) -> Tensor:
    return torch.full_like(y.flatten(1)[:, 0], torch.nan, dtype=torch.float32)


def named_loss(loss: str | PerSample) -> tuple[PerSample, str, str]:
    """``(function, name, unit)`` of a loss by name, or of a function."""
    if callable(loss):
        return loss, getattr(loss, "__name__", type(loss).__name__), "loss"
    if loss not in LOSSES:
        raise InputError(
            f'loss "{loss}": must be one of {", ".join(LOSSES)}{near_match(loss, LOSSES)}, or a function '
            "(outputs, y) → (N,)"
        )
    return LOSSES[loss], loss, UNITS[loss]


def named_accuracy(accuracy: str | Callable | None, loss: str, wanted: bool) -> PerSample | None:
    """The accuracy as a function; ``wanted``: an accuracy threshold asks for one."""
    if callable(accuracy):
        return accuracy
    if accuracy not in (None, "auto"):
        raise InputError(f'accuracy {accuracy!r}: must be "auto", None, or a function (outputs, y) → (N,)')
    found = ACCURACIES.get(loss) if accuracy == "auto" or wanted else None
    if wanted and found is None:
        raise InputError(
            f"acc_threshold: loss {loss} has no accuracy of its own; give accuracy= as a function"
        )
    return found


def check_outputs(network: nn.Module, problem: Given, x: Tensor, y: Tensor, named: bool) -> None:
    """Raise :class:`InputError` unless network and loss give one number for each of two samples."""
    two = torch.cat([x[:1], x[-1:]]), torch.cat([y[:1], y[-1:]])
    with torch.no_grad():
        try:
            outputs = network(two[0])
        except InputError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"x: the model does not run on it ({type(error).__name__}: {reason})") from error
        if named and not isinstance(outputs, Tensor):
            raise InputError(
                f"model: returns a {type(outputs).__name__} without .logits; give the loss as a function of "
                "(outputs, y), or a model that returns one tensor"
            )
        for what, function in (("loss", problem.per_sample_loss), ("accuracy", problem.correct)):
            per_sample(function, outputs, two[1], what)
        if all(isinstance(part, Tensor) and len(part) == 2 for part in parts(outputs)):
            _check_apart(problem, outputs, two[1])


def _check_apart(problem: Given, outputs: Any, y: Tensor) -> None:
    """A sample's loss must not depend on its neighbours: landscapes are means over samples."""
    from volume_lib.measuring.samples import each

    together = problem.per_sample_loss(outputs, y)
    alone = problem.per_sample_loss(each(outputs, lambda part: part[:1]), y[:1])
    if not torch.allclose(together[:1], alone, rtol=1e-4, atol=1e-6, equal_nan=True):
        raise InputError(
            f"loss: the first sample's is {together[0].item():g} beside another and {alone[0].item():g} "
            "alone; each sample's must be its own"
        )
