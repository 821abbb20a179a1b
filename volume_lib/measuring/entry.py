"""Measure one model: its volume in the loss landscape of some data, without files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from volume_lib.abilities import batch_size, changes_inputs, give_copies, widest_activation
from volume_lib.devices import resolve_device
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
from volume_lib.measuring.record import Source, Volume, volumes_of
from volume_lib.parameters import Choice, copied, moved_names
from volume_lib.preflight import preflight
from volume_lib.problems.losses import PerSample, check_targets
from volume_lib.progress import Bar
from volume_lib.rays.reference import init_widths
from volume_lib.rays.scaling import log_det
from volume_lib.records import Sweep
from volume_lib.sweep.evaluator import budget_of, rays_of
from volume_lib.sweep.section import PerturbSettings
from volume_lib.sweep.settings import SweepSettings
from volume_lib.sweep.walk import walk

_CHUNK_ELEMENTS = 2**22


def measure(
    model: nn.Module,
    x: Any,
    y: Any = None,
    *,
    loss: str | PerSample = "cross_entropy",
    threshold: float | Sequence[float] = 0.1,
    rise: float | Sequence[float] | None = None,
    directions: int = 500,
    parameters: Choice | None = None,
    landscapes: Sequence[int] | None = None,
    accuracy: str | Callable | None = None,
    acc_threshold: float | None = None,
    scaling: str = "filter",
    seed: int = 0,
    max_coefficient: float | None = None,
    xrtol_rest: float | None = None,
    device: str = "auto",
    memory_budget: float | None = None,
    progress: bool = True,
) -> Volume:
    """The volume of the region around a trained model in which its loss stays below a threshold.

    Nothing of the caller's changes: model, mode, gradients, random states and data are left as they are. The
    model is measured as in ``eval()``, in float32 or better.

    Args:
        model: any network with its trained weights.
        x: N samples along the first axis: a tensor or array, also a memory-mapped one; a tuple (then
            ``model(*x)``) or mapping (``model(**x)``) of them; or a map-style ``Dataset`` of ``(x, y)``.
        y: their targets, of any shape; None where the loss needs none.
        loss: ``"cross_entropy"``, ``"mse"``, ``"bce"`` (on logits), ``"kl"`` (of the outputs from the model's
            own, without targets), see :mod:`volume_lib.problems.losses`; or a function ``(outputs, y) →
            (N,)``. Of outputs with ``.logits`` these are meant.
        threshold: mean losses at which the region ends, one or several.
        rise: instead of ``threshold``, so much above the model's own mean loss in each landscape.
        directions: random directions, with the seeds ``seed``, ``seed + 1``, …
        parameters: which parameters move: names, patterns (``"*.lora_*"``) or a predicate of ``(name,
            parameter)``; default those with ``requires_grad``. All others stay where they are.
        landscapes: increasing numbers of samples: a volume is measured over the first 60, the first 600 …
            samples, all along the same rays. Default: all samples.
        accuracy: ``"auto"`` (what goes with the loss) or a function ``(outputs, y) → (N,)``, 0 to 1.
        acc_threshold: also measure the region in which the accuracy stays at this or above.
        scaling: ``"filter"``, ``"none"`` or ``"curvature"`` (see :mod:`volume_lib.rays.scaling`).
        max_coefficient: how far along a ray to look, default 1,000; a direction that has not crossed by then
            is censored, and the volume a lower bound.
        xrtol_rest: how precise the radii of directions are that no estimate can depend on; default a
            relative 1e-3; 1e-6 solves all alike (:mod:`volume_lib.search.carriers`).
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"`` …
        memory_budget: bytes for directions and what goes with them; default a quarter of what is free.
            Samples that are mapped from a file do not count: they are read in chunks.
        progress: whether to show a bar.

    Returns:
        The :class:`Volume` of the first threshold in the largest landscape; ``.at(…)`` has the others.

    Raises:
        InputError: an argument is impossible, or model, data and loss do not fit; before long work starts.

    >>> from torch import nn
    >>> model = nn.Linear(1, 1, bias=False)
    >>> nn.init.zeros_(model.weight).requires_grad
    True
    >>> x = y = torch.ones(1, 1)      # the loss (w − 1)² is below 4 for −1 < w < 3, a "volume" of 4
    >>> volume = measure(model, x, y, loss="mse", threshold=4, scaling="none", progress=False)
    >>> bool(abs(np.exp(volume.log_volume) - 4) < 0.3)
    True
    """
    _check_counts(model, directions)
    target = resolve_device(device)
    budget = budget_of(memory_budget, target)
    with torch.random.fork_rng(devices=[target] if target.type == "cuda" else []):
        given = _Given(model, x, y, loss, accuracy, acc_threshold, parameters, target, budget)
        sizes = _sizes(landscapes, len(given.x))
        rises = None if rise is None else _numbers(rise, "rise")
        if rises and threshold != 0.1:
            raise InputError("threshold and rise: give one of them")
        thresholds = _numbers(threshold, "threshold")

        def settings(loss_thresholds: Sequence[float]) -> SweepSettings:
            asked = PerturbSettings.checked(
                num_directions=directions, loss_thresholds=list(loss_thresholds), acc_threshold=acc_threshold,
                scaling=scaling, perturbation_seed=seed, max_coefficient=max_coefficient,
                xrtol_rest=xrtol_rest,
            )  # fmt: skip
            return SweepSettings.of(asked)

        settings(rises or thresholds)
        given.ask(() if rises else thresholds)
        if rises is None:
            asked = {size: [("threshold", value, value) for value in thresholds] for size in sizes}
            groups = [sizes]
        else:  # every landscape has thresholds of its own
            own = given.own_losses(sizes)
            asked = {size: [("rise", value, own[size] + value) for value in rises] for size in sizes}
            groups = [[size] for size in sizes]
        total = directions * sum(group[-1] for group in groups)
        sweeps = []
        with Bar(
            total=total, unit="sample·ray", unit_scale=True, desc=type(model).__name__, disable=not progress
        ) as bar:
            for group in groups:
                chosen = settings([value for *_, value in asked[group[0]]])
                sweeps += given.sweep(group, sizes, chosen, budget, bar)
    family = [
        volume for sweep in sweeps for volume in volumes_of(sweep, asked[sweep_size(sweep)], given.facts)
    ]
    source = Source(given.network, given.problem, given.x, given.y)
    for volume in family:
        volume.family, volume.source = family, source
    _warn_if_empty(family)
    return next(volume for volume in family if volume.landscape == sizes[-1])


def sweep_size(sweep: Sweep) -> int:
    """Samples of a sweep's landscape."""
    return sweep.base_dataset_size + sweep.additional_data


class _Given:
    """What the caller gave, as the sweep takes it: ``network``, ``problem``, ``x``, ``y``; and facts."""

    def __init__(self, model, x, y, loss, accuracy, acc_threshold, parameters, device, budget) -> None:
        self.device, self.budget = device, budget
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
        self.facts = {"loss_name": name, "model": model, "notes": notes, "has_accuracy": accurate is not None}

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
            changed = changes_inputs(model, few) or changes_inputs(model, first(batch_size(model, few)))
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
        state = {name: _array(value) for name, value in self.model.state_dict().items()}
        moved = {"moved": moved_names(self.model), "init_widths": init_widths(self.model)}
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


def _check_counts(model: Any, directions: Any) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"model: must be a torch.nn.Module, not {type(model).__name__}")
    if not isinstance(directions, int) or isinstance(directions, bool) or directions < 1:
        raise InputError(f"directions must be a whole number, 1 or more; got {directions!r}")


def _numbers(values: float | Sequence[float], name: str) -> list[float]:
    given = list(values) if isinstance(values, Sequence | np.ndarray) else [values]
    try:
        numbers = [float(value) for value in given]
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: must be a number or several; got {values!r}") from error
    if not numbers or not all(0 < value < np.inf for value in numbers) or len(set(numbers)) < len(numbers):
        raise InputError(f"{name}: must be positive numbers, each once; got {values!r}")
    return numbers


def _sizes(landscapes: Sequence[int] | None, available: int) -> list[int]:
    sizes = [available] if landscapes is None else list(landscapes)
    whole = all(isinstance(size, int | np.integer) and not isinstance(size, bool) for size in sizes)
    if not sizes or not whole or sizes != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] > available:
        raise InputError(
            f"landscapes: must be numbers of samples that increase within 1..{available}; got {landscapes}"
        )
    return [int(size) for size in sizes]


def _array(value: Tensor) -> np.ndarray:
    """NumPy has no bfloat16."""
    return (value.float() if value.dtype == torch.bfloat16 else value).detach().cpu().numpy()


def _warn_if_empty(family: list[Volume]) -> None:
    for volume in family:
        if volume.criterion == "loss" and not volume.radii.radius.any():
            warnings.warn(
                f"the model's own loss over {volume.landscape:,} samples, {volume.loss:.4g}, is above the "
                f"threshold {volume.threshold:g}: no volume; rise= sets thresholds above its own loss",
                stacklevel=3,
            )
