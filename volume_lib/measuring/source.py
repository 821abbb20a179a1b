"""What was given to be measured, as the sweep takes it: a network of one input, a problem, two tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from volume_lib.abilities import batch_size, changes_inputs, give_copies, widest_activation
from volume_lib.errors import InputError
from volume_lib.measuring import samples
from volume_lib.measuring.network import (
    Given,
    Network,
    check_outputs,
    named_accuracy,
    named_loss,
    precision,
)
from volume_lib.parameters import Choice, copied, moved_names
from volume_lib.preflight import preflight
from volume_lib.problems.losses import PerSample, check_targets
from volume_lib.progress import Bar
from volume_lib.rays.reference import init_widths, told_widths
from volume_lib.rays.scaling import log_det
from volume_lib.records import Sweep
from volume_lib.sweep.evaluator import rays_of
from volume_lib.sweep.settings import SweepSettings
from volume_lib.sweep.walk import walk

_CHUNK_ELEMENTS = 2**22


class Source:
    """What the caller gave, as sweeps and integrations take it, kept for further work on it.

    ``network`` of the one input ``x``, ``problem`` with the loss, ``y``; ``model``: a private copy, inside
    the network; ``facts``: what a record tells of them.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Any,
        y: Any,
        loss: str | PerSample,
        accuracy: str | Callable | None,
        acc_threshold: float | None,
        parameters: Choice | None,
        device: torch.device,
        budget: float,
        build: Callable[[], nn.Module] | None = None,
    ) -> None:
        self.device, self.budget, self.build = device, budget, build
        function, name, unit = named_loss(loss)
        accurate = named_accuracy(accuracy, name, acc_threshold is not None)
        model, notes = _own(model, parameters)
        model = model.to(device)
        x, y = _inputs_and_targets(x, y, name, budget)
        direct = samples.direct(x, precision(model), device, budget)
        inputs = None if direct else samples.lookup(x, device, budget)
        self.x = x if direct else torch.arange(len(samples.parts(x)[0]))
        self.network: nn.Module = Network(model, inputs)
        if inputs is not None:  # copies of positions would not help
            notes += self._copies_of_inputs(model, inputs)
        if name == "kl":
            y = self._reference(x)
        self.y, targets = _targets(y, len(self.x), device, budget)
        self.problem = Given(function, accurate, unit, targets, y is None)
        ends = _ends(self.x, device), _ends(self.y, device)
        check_outputs(self.network, self.problem, *ends, not callable(loss))
        if direct and isinstance(self._outputs(slice(0, 1), model), Tensor):
            self.network = model  # as it is: it may declare a stem
        _check_targets(x, y, name)
        if isinstance(y, Tensor) and isinstance(found := self._outputs(slice(0, 1)), Tensor):
            check_targets(name, found, y)
        self.model = model
        self.facts = {
            "loss_name": name, "model": model, "notes": notes, "has_accuracy": accurate is not None,
            "log_mass_rays_widths": "reset_parameters" if build is None else "build",
        }  # fmt: skip
        # that a build does not fit is said before the work
        self.init_widths = init_widths(model) if build is None else told_widths(model, build)

    def ask(self, thresholds: Sequence[float]) -> None:
        """What the numbers assume, asked of a few samples; what a user may not count on becomes a note.

        Raises InputError where the network or the loss cannot be measured.
        """
        accuracy = self.problem.correct if self.facts["has_accuracy"] else None
        answers = preflight(
            self.network, self.x, self.y, loss=self.problem.per_sample_loss, accuracy=accuracy,
            thresholds=thresholds, device=self.device, moved=moved_names(self.model),
        )  # fmt: skip
        self.facts["notes"] = [*self.facts["notes"], *answers.notes]

    def _copies_of_inputs(self, model: nn.Module, inputs: samples.Lookup) -> list[str]:
        """Give the model copies of what is looked up if it changes its inputs; says so."""

        def first(number: int) -> Any:
            rows = torch.arange(min(number, len(self.x)), device=self.device)
            return samples.each(inputs.take(rows, precision(model)), torch.clone)

        try:
            few = first(2)
            most = batch_size(widest_activation(model, few), few)
            changed = changes_inputs(model, few) or changes_inputs(model, first(most))
        except Exception:  # that it does not run is told by check_outputs, in its words
            return []
        if not changed:
            return []
        give_copies(model)
        return ["inputs after a call: forward changes them in place, so that each call gets a copy"]

    def _outputs(self, part: slice, network: nn.Module | None = None) -> Any:
        with torch.no_grad():  # a copy, as a network may change what it is given
            return (network or self.network)(self.x[part].to(self.device, copy=True))

    def _chunks(self) -> list[slice]:
        widest = widest_activation(self.network, self.x[:1].to(self.device))
        step = max(1, _CHUNK_ELEMENTS // widest)
        return [slice(start, start + step) for start in range(0, len(self.x), step)]

    def _reference(self, x: Any) -> Any:
        """The model's own outputs, and where inputs say so which positions count."""
        try:
            outputs = self._outputs(slice(0, 1))
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"x: the model does not run on it ({type(error).__name__}: {reason})") from error
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
            kind = type(outputs).__name__
            raise InputError(f'loss "kl": needs one tensor of outputs; the model returns {kind}')
        rows = (self._outputs(part) for part in self._chunks())
        reference = samples.filled(rows, len(self.x), self.budget)
        mask = x.get("attention_mask") if isinstance(x, dict) else None
        if mask is None or mask.shape != reference.shape[:-1]:
            return reference
        return {"outputs": reference, "mask": mask}

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The model's state, as a sweep's file holds it."""
        return {name: _array(value) for name, value in self.model.state_dict().items()}

    def own_losses(self, sizes: Sequence[int]) -> dict[int, float]:
        """The model's own mean loss over the first samples."""
        values = [
            self.problem.per_sample_loss(self._outputs(part), self.y[part].to(self.device)).double().cpu()
            for part in self._chunks()
        ]
        losses = torch.cat(values)
        return {size: losses[:size].mean().item() for size in sizes}

    def sweep(
        self, group: Sequence[int], sizes: Sequence[int], settings: SweepSettings, budget: float, bar: Bar
    ) -> list[Sweep]:
        """One sweep for each landscape of ``group``, all along the same rays."""
        rays, limit = rays_of(
            self.problem, self.network, (self.x, self.y), group, settings, self.device, budget
        )
        walked = walk(rays, limit, settings, bar)
        state = self.weights
        moved = {"moved": moved_names(self.model), "init_widths": self.init_widths}
        made = []
        for k, size in enumerate(group):
            records = walked.records(k, settings.seeds)
            made.append(
                Sweep(
                    wiggle_results=records, additional_data=size - sizes[0],
                    model_trained_data=sizes[-1] - sizes[0], dataset_type="data", base_dataset_size=sizes[0],
                    test_loss=np.nan, test_accs=np.nan, train_loss=float(records[0]["loss"][0]),
                    num_params=len(rays.scale), state_dict=state, scaling=settings.scaling,
                    log_det_scaling=log_det(rays.scale), search=settings.search.name,
                    loss_thresholds=sorted(settings.loss_thresholds), acc_threshold=settings.acc_threshold,
                    value=sizes[-1] - sizes[0], loss_unit=self.problem.loss_unit, **moved,
                )
            )  # fmt: skip
        return made


def _own(model: nn.Module, parameters: Choice | None) -> tuple[nn.Module, list[str]]:
    """A private copy in eval mode and one precision, and what there is to say about that."""
    try:
        own = copied(model, parameters).eval()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        hint = "it may keep no tensors of a forward pass"
        raise InputError(f"model: cannot be copied ({reason}); {hint}") from error
    kinds = {p.dtype for p in own.parameters() if p.is_floating_point()}
    if len(kinds) == 1 and torch.finfo(next(iter(kinds))).bits >= 32:
        return own, []
    widest = torch.float64 if torch.float64 in kinds else torch.float32
    names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
    return own.to(widest), [f"computed in {str(widest).removeprefix('torch.')} from the stored {names}"]


def _inputs_and_targets(x: Any, y: Any, loss: str, budget: float) -> tuple[Any, Any]:
    """Both as tensors in their own structure, of one length."""
    if isinstance(x, list):
        raise InputError("x: a list is ambiguous; give one tensor, or a tuple of several inputs")
    if not isinstance(x, Tensor | np.ndarray | tuple | Mapping | torch.utils.data.DataLoader):
        x, found = samples.collect(x, budget)
        if y is not None and found is not None:
            raise InputError("y: the data set has targets of its own; give one of them")
        y = found if y is None else y
        y = None if loss == "kl" else y
    x = samples.as_samples(x, "x")
    if isinstance(x, dict) and "labels" in x:
        labels = x.pop("labels")
        y = labels if y is None and loss != "kl" else y
    if loss == "kl" and y is not None:
        raise InputError('y: loss "kl" compares with the model\'s own outputs and takes no targets')
    if y is None:
        if loss in ("cross_entropy", "mse", "bce"):
            raise InputError(f'y: loss "{loss}" needs targets')
        return x, None
    if isinstance(y, list):
        y = np.asarray(y)
    y = samples.as_samples(y, "y")
    if len(samples.parts(y)[0]) != len(samples.parts(x)[0]):
        number, needed = len(samples.parts(y)[0]), len(samples.parts(x)[0])
        raise InputError(f"y: {number} targets for {needed} samples; as many are needed")
    return x, y


def _targets(y: Any, size: int, device: torch.device, budget: float) -> tuple[Tensor, samples.Lookup | None]:
    """What the evaluators cut, and where it is looked up if that holds positions."""
    if y is None:
        return torch.zeros(size), None
    if isinstance(y, Tensor) and samples.direct(y, y.dtype, device, budget):
        return y, None
    return torch.arange(size), samples.lookup(y, device, budget)


def _ends(part: Tensor, device: torch.device) -> Tensor:
    return torch.cat([part[:1], part[-1:]]).to(device)


def _check_targets(x: Any, y: Any, loss: str) -> None:
    if loss != "cross_entropy" or not isinstance(y, Tensor) or y.is_floating_point():
        return
    ids = x.get("input_ids") if isinstance(x, dict) else x
    if isinstance(ids, Tensor) and ids.shape == y.shape and ids.dim() > 1 and torch.equal(ids, y):
        raise InputError(
            "y: equals the inputs; a model that predicts the next token is given x[:, :-1] and y = x[:, 1:]"
        )


def _array(value: Tensor) -> np.ndarray:
    """NumPy has no bfloat16."""
    return (value.float() if value.dtype == torch.bfloat16 else value).detach().cpu().numpy()
