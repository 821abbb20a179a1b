"""Train the minima of one run, or of several: leave out those that are done, save each as it finishes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from volume_lib import storage
from volume_lib.abilities import fitting
from volume_lib.calls import few
from volume_lib.devices import resolve_device, torch_defaults
from volume_lib.errors import InputError
from volume_lib.problems.base import Problem
from volume_lib.problems.label_noise import with_label_noise
from volume_lib.progress import Bar
from volume_lib.records import LABEL_NOISE, Dataset, TrainedModel
from volume_lib.section import takes
from volume_lib.thresholds import check_thresholds
from volume_lib.training.fit import unfitted_line
from volume_lib.training.loop import EVALUATION_BATCH, Fit, Trainee
from volume_lib.training.modes import Mode, check_training, stack_together
from volume_lib.training.plan import Plan, Wanted, warn_of_strangers
from volume_lib.training.section import TrainSettings

JOINT_LIMIT = 1_000_000
"""``joint="auto"`` stacks models up to this product of parameters and batch size: beyond it, the work in an
operation outweighs the time between operations."""


@takes(TrainSettings)
def train_models(
    problem: Problem,
    dataset: Dataset,
    *,
    folder: str | Path = "models_and_data",
    model: Mapping[str, Any] | None = None,
    model_seed: int,
    checkpoints: Mapping[Any, str | Path] | None = None,
    loss_thresholds: Sequence[float] | None = None,
    joint: bool | str = "auto",
    device: str = "auto",
    **settings: Any,
) -> list[TrainedModel]:
    """Train the minima of one run and save them, with the data set, in ``folder``.

    One model for each level of ``dataset.dataset_quantities``, on the base samples and that many additional
    ones. With ``vary`` instead one model for each of ``values``, on the base samples and the first level's
    additional ones: ``vary`` names a setting that is a number (``"learning_rate"``) or, as
    ``"model.hidden_dims"``, an argument of the network (in a list of numbers each becomes the value);
    ``"label_noise"`` gives that share of the additional samples a wrong label. With
    ``vary="epochs"`` the models are the states of one training after so many epochs, at most ``epochs``.

    ``model`` holds the model's arguments and, optionally, its ``model_class``. ``model_seed`` decides the
    initial parameters and the order of the samples: the same settings give the same weights on one machine.

    ``settings`` are those of :class:`~volume_lib.training.section.TrainSettings`, with its defaults:

    - ``epochs`` (3000), ``batch_size`` (200), ``learning_rate`` (0.003).
    - ``optimizer``: ``sgd``, ``adam`` or ``adamw``; ``weight_decay`` is decoupled in the last.
    - ``lr_schedule``: ``cosine`` or ``linear`` take the learning rate to 0 over ``epochs``.
    - ``target_train_loss`` (0.01; None: none) ends a training once the loss (nats) over all its samples is
      that low.
    - ``sam_rho`` > 0 is sharpness-aware minimisation of that radius, ``sam_adaptive`` its adaptive form.

    And how it is done:

    - ``checkpoints``: level (or other value) → file with weights that were trained elsewhere: these models
      are imported (:mod:`volume_lib.training.imports`), the others trained.
    - ``loss_thresholds`` of the sweep to come: models that end above the largest (without any: above
      ``target_train_loss``) are named in a line at the end (:mod:`volume_lib.training.fit`).
    - ``joint``: whether to train models side by side; ``"auto"`` does so where it is faster.
    - ``device``: ``"auto"`` is the GPU if there is one.

    ``train_loss`` and ``train_accs`` of an epoch are means over its batches as they were met; their last
    entries are those of the final weights on all training samples. The test curves are evaluated every few
    epochs where the test set is large beside the training set (see ``fitting.test_interval``), always
    at the end, and hold the latest value in between.

    A model already in ``folder`` that the same settings and samples gave is not trained again. Returns the
    models sorted by what varies, on the CPU, in eval mode. An imported model is never trained. Raises
    InputError for impossible settings, when a training loss turns NaN, and where a model's file was written
    by something else: it is the user's, and stays.
    """
    plan = Plan(problem, model or {}, TrainSettings.checked(**settings))
    if checkpoints:
        from volume_lib.training.imports import import_models

        plan.check()
        import_models(plan, dataset, model_seed, checkpoints, folder)
    for threshold in loss_thresholds or ():
        check_thresholds(threshold, None)
    models = train_runs(plan, [Run(dataset, model_seed, folder)], joint=joint, device=device)[0]
    target = plan.settings.target_train_loss
    if plan.settings.vary == "target_train_loss":
        target = max(plan.settings.values or ())
    line = unfitted_line(models, target, loss_thresholds)
    if line:
        tqdm.write(line)
    return models


@dataclass(frozen=True)
class Run:
    """One run: its data, its model seed, and the folder for its models."""

    dataset: Dataset
    model_seed: int
    folder: str | Path


@torch_defaults()
def train_runs(
    plan: Plan, runs: Sequence[Run], *, joint: bool | str = "auto", device: str = "auto"
) -> list[list[TrainedModel]]:
    """Train the minima of several runs, together where that is faster; for each run what
    :func:`train_models` returns.

    All runs share the problem, the settings and the test samples (``make_dataset`` keeps the same ones for
    every ``data_seed``); raises InputError where they do not.
    """
    plan.check()
    target = resolve_device(device)
    if not (joint is True or joint is False or joint == "auto"):
        raise InputError(f'joint {joint!r}: must be true, false or "auto"')
    first = runs[0].dataset
    for run in runs[1:]:
        if not torch.equal(run.dataset.x_test, first.x_test):
            raise InputError("runs trained together must have the same test samples")
    work = _Work(plan, target)
    for run in runs:
        work.add(run)
    work.train(joint, first.x_test, first.y_test)
    return work.models()


@dataclass
class _Models:
    """The models of one run: those that are wanted, and by their values those that are there."""

    folder: Path
    dataset: Dataset
    wanted: list[Wanted]
    done: dict[int | float, TrainedModel]
    replaced: dict[str, str]
    """File name → why it is replaced."""

    def begin(self) -> None:
        """Say what will be replaced, and save the data."""
        if self.replaced:
            told = "; ".join(f"{name} ({why})" for name, why in self.replaced.items())
            tqdm.write(f"{self.folder}: replaced as soon as its successor is trained: {told}")
        warn_of_strangers(self.folder, self.wanted)
        storage.save_dataset(self.folder, self.dataset)


class _Work:
    """The runs' models that are still to be trained, as trainees on one pool of samples."""

    def __init__(self, plan: Plan, device: torch.device):
        self.plan, self.device = plan, device
        self.runs: list[_Models] = []
        self.pool: list[tuple[Tensor, Tensor]] = []
        self.trainees: list[Trainee] = []
        self.origin: dict[int, tuple[_Models, dict[int, Wanted]]] = {}
        """Of each trainee, by its id: its run, and its models by the length of their training."""

    def add(self, run: Run) -> None:
        """Make trainees of the run's models that are not there yet. Writes nothing."""
        folder, problem = Path(run.folder), self.plan.problem
        wanted = self.plan.wanted(run.dataset, run.model_seed)
        saved = {w.value: w.saved(folder, problem) for w in wanted}
        done = {value: found for value, (found, _) in saved.items() if found is not None}
        replaced = {w.path(folder).name: saved[w.value][1] for w in wanted if saved[w.value][1]}
        models = _Models(folder, run.dataset, wanted, done, replaced)
        self.runs.append(models)
        missing = [w for w in wanted if w.value not in done]
        if not missing:
            return
        noisy = self.plan.settings.vary == LABEL_NOISE
        start = sum(len(x) for x, _ in self.pool)
        if not noisy:
            self.pool.append(run.dataset.upto(max(w.level for w in missing)))
        # lengths are stages of one training, anything else is a training of its own
        for members in [missing] if self.plan.settings.vary == "epochs" else [[w] for w in missing]:
            if noisy:  # the labels of each are its own
                start = sum(len(x) for x, _ in self.pool)
                own = with_label_noise(problem, run.dataset, members[0].value)
                self.pool.append(own.upto(members[0].level))
            trainee = self._trainee(
                members[-1], [w.own.epochs for w in members], start, run.dataset.base_data_size
            )
            self.trainees.append(trainee)
            self.origin[id(trainee)] = models, {w.own.epochs: w for w in members}

    def _trainee(self, wanted: Wanted, snapshots: list[int], start: int, base: int) -> Trainee:
        return Trainee(
            name=f"{wanted.key} {wanted.value}",
            model=self._build(wanted),
            size=base + wanted.level,
            batch_size=wanted.own.batch_size,
            snapshots=snapshots,
            schedule_epochs=self.plan.settings.epochs,
            seed=wanted.identity["model_seed"],
            start=start,
        )

    def _build(self, wanted: Wanted) -> torch.nn.Module:
        identity = wanted.identity
        return self.plan.problem.build_model(
            identity["model_kwargs"], identity["model_seed"], identity["model_class"]
        )

    def train(self, joint: bool | str, x_test: Tensor, y_test: Tensor) -> None:
        """Train what is missing. The preflight comes first: what it refuses leaves the folder as it was."""
        pool = [parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*self.pool, strict=True)]
        mode = self._check(len(x_test), *pool) if self.trainees else Mode(False, False)
        for run in self.runs:
            run.begin()
        if not self.trainees:
            return
        x, y, x_test, y_test = (part.to(self.device) for part in (*pool, x_test, y_test))
        network = self.trainees[0].model.to(self.device)
        x, x_test = fitting(network, x), fitting(network, x_test)
        data = x, y, x_test, y_test
        total = sum(trainee.size * trainee.epochs for trainee in self.trainees)
        with Bar(total=total, unit="sample", unit_scale=True, desc="training") as bar:
            tick = self.tick = _Ticker(bar)
            for group in self._groups(joint, mode, x, bar):
                own = self._wanted(group[0]).own
                Fit(self.plan.problem, group, data, own, self._keep, tick, mode).run()
            tick.flush()

    def _check(self, test_size: int, x: Tensor, y: Tensor) -> Mode:
        """The preflight of every kind of network to be trained, on the smallest and the largest batch."""
        modes = {}
        for trainee in self.trainees:
            wanted = self._wanted(trainee)
            rest = trainee.size % trainee.batch_size if trainee.steps > 1 else trainee.size
            smallest = rest or trainee.batch_size
            evaluated = min(EVALUATION_BATCH, max(trainee.size, test_size))
            key = repr((wanted.identity["model_class"], wanted.identity["model_kwargs"], smallest, evaluated))
            if key not in modes:
                own = slice(trainee.start, trainee.start + trainee.size)
                modes[key] = check_training(
                    self.plan.problem, lambda wanted=wanted: self._build(wanted), x[own], y[own],
                    smallest, evaluated, self.device, trainee.name,
                )  # fmt: skip
        found = list(modes.values())
        return Mode(any(mode.modal for mode in found), any(mode.copies for mode in found))

    def _groups(self, joint: bool | str, mode: Mode, x: Tensor, bar: Bar) -> list[list[Trainee]]:
        """Which trainees go side by side: what cannot, goes one at a time, and it is said why."""
        groups = []
        alike: dict[str, list[Trainee]] = {}
        for trainee in self.trainees:
            alike.setdefault(self._kind(trainee), []).append(trainee)
        for group in [group for members in alike.values() for group in joint_groups(members, joint)]:
            reason = None
            if len(group) > 1:
                reason = "it acts differently in train mode" if mode.modal else None
                reason = reason or stack_together([t.model.to(self.device) for t in group], few(x))
            if reason:
                bar.say(f"{group[0].name} and others: trained one at a time ({reason})")
            groups += [[trainee] for trainee in group] if reason else [group]
        return groups

    def _wanted(self, trainee: Trainee) -> Wanted:
        """The trainee's model, or the first of them."""
        _, lengths = self.origin[id(trainee)]
        return next(iter(lengths.values()))

    def _kind(self, trainee: Trainee) -> str:
        """What trainees must share to step together: network and settings, but for lengths and batches."""
        wanted = self._wanted(trainee)
        return repr(
            (wanted.own.model_dump(exclude={"epochs", "batch_size"}), wanted.identity["model_kwargs"])
        )

    def _keep(self, trainee: Trainee, epoch: int, state: dict[str, Tensor]) -> None:
        models, lengths = self.origin[id(trainee)]
        # a training that reached its target early is the model that its full length stands for
        wanted = lengths.get(epoch) or lengths[trainee.epochs]
        model = self._build(wanted)
        model.load_state_dict(state)
        told: dict[str, Any] = wanted.identity | trainee.curves()
        trained = TrainedModel(
            model=model.eval(),
            settings=wanted.settings,
            key=wanted.key,
            value=wanted.value,
            **told,
        )
        storage.save_model(models.folder, trained)
        models.done[wanted.value] = trained
        self.tick.finished(trainee, trained, epoch)

    def models(self) -> list[list[TrainedModel]]:
        return [[run.done[w.value] for w in run.wanted] for run in self.runs]


def joint_groups(trainees: list[Trainee], joint: bool | str) -> list[list[Trainee]]:
    """Which trainees to train side by side, in which order."""
    if joint is True:
        return [trainees]
    n = sum(parameter.numel() for parameter in trainees[0].model.parameters())
    small = [
        trainee for trainee in trainees if joint and n * min(trainee.batch_size, trainee.size) <= JOINT_LIMIT
    ]
    together = [small] if small else []
    return together + [[trainee] for trainee in trainees if trainee not in small]


class _Ticker:
    """Moves the bar, at most ten times a second: small models end an epoch faster than a line is drawn."""

    def __init__(self, bar: Bar):
        self.bar, self.samples, self.last = bar, 0, 0.0

    def __call__(self, trainee: Trainee, samples: int) -> None:
        self.samples += samples
        if time.monotonic() - self.last > 0.1:
            self.bar.set_postfix_str(
                f"{trainee.name}: loss {trainee.train_loss[-1]:.3g}, accuracy {trainee.train_accs[-1]:.3f}",
                refresh=False,
            )
            self.flush()

    def finished(self, trainee: Trainee, trained: TrainedModel, epoch: int) -> None:
        """A line that stays for each model; what its training was spared is taken off the total."""
        self.flush()
        if epoch not in trainee.snapshots:  # its target was reached early
            self.bar.shorten(trainee.size * (trainee.epochs - epoch))
        figures = f"train loss {trained.train_loss[-1]:.3g}, test loss {trained.test_loss[-1]:.3g}"
        self.bar.say(f"{trained.key} {trained.value}: {epoch:,} epochs, {figures}")

    def flush(self) -> None:
        self.last = time.monotonic()
        self.bar.update(self.samples)
        self.samples = 0
