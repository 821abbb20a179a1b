"""Train a run's minima: plan the models, leave out those that are done, save each as it finishes."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from volume_lib import storage
from volume_lib.errors import InputError, near_match
from volume_lib.fitting import Fit, Job, Settings
from volume_lib.optimizers import OPTIMIZERS, SCHEDULES
from volume_lib.problems.base import Problem
from volume_lib.records import ADDITIONAL, Dataset, TrainedModel

VARIES = ("batch_size", "epochs")

JOINT_LIMIT = 1_000_000
"""``joint="auto"`` stacks models up to this product of parameters and batch size: beyond it, the work in an
operation outweighs the time between operations."""


def train_models(
    problem: Problem,
    dataset: Dataset,
    *,
    folder: str | Path = "models_and_data",
    model: Mapping[str, Any] | None = None,
    model_seed: int,
    epochs: int,
    batch_size: int,
    optimizer: str = "adam",
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    lr_schedule: str | None = None,
    target_train_loss: float | None = None,
    sam_rho: float = 0.0,
    sam_adaptive: bool = False,
    vary: str | None = None,
    values: Sequence[int] | None = None,
    joint: bool | str = "auto",
    device: str = "auto",
) -> list[TrainedModel]:
    """Train the minima of one run and save them, with the data set, in ``folder``.

    One model for each level of ``dataset.dataset_quantities``, on the base samples and that many additional
    ones. With ``vary="batch_size"`` instead one model for each batch size in ``values``, and with
    ``vary="epochs"`` the states of one training after each number of epochs in ``values`` (at most
    ``epochs``), on the base samples and the first level's additional ones.

    ``model`` holds the model's arguments and, optionally, its ``model_class``. ``model_seed`` decides the
    initial parameters and the order of the samples: the same settings give the same weights on one machine.

    - ``optimizer``: ``sgd``, ``adam`` or ``adamw``; only ``adamw`` keeps ``weight_decay`` out of the gradient.
    - ``lr_schedule``: ``cosine`` or ``linear`` take the learning rate to 0 over ``epochs``.
    - ``target_train_loss`` ends a training once the loss (nats) over all its samples is that low.
    - ``sam_rho`` > 0 is sharpness-aware minimisation of that radius, ``sam_adaptive`` its adaptive form.
    - ``joint``: whether to train models side by side; ``"auto"`` does so where it is faster.
    - ``device``: ``"auto"`` is the GPU if there is one.

    ``train_loss`` and ``train_accs`` of an epoch are means over its batches as they were met; their last
    entries are those of the final weights on all training samples. The test curves are evaluated every few
    epochs where the test set is large beside the training set (see ``fitting.test_interval``), always
    at the end, and hold the latest value in between.

    A model already in ``folder`` that the same settings and samples gave is not trained again. Returns the
    models sorted by what varies, on the CPU, in eval mode. Raises InputError for impossible settings, and
    when a training loss turns NaN.
    """
    settings = Settings(
        optimizer, learning_rate, weight_decay, lr_schedule, target_train_loss, sam_rho, sam_adaptive
    )
    check_settings(settings, epochs=epochs, batch_size=batch_size)
    kwargs = dict(model or {})
    model_class = problem.model_class_name(kwargs.pop("model_class", None))
    kwargs = problem.full_model_kwargs(kwargs, model_class)
    if vary == "epochs" and target_train_loss is not None:
        raise InputError("target_train_loss: has no meaning where epochs vary; leave it out")
    plan = _plan(dataset, vary, values, epochs, batch_size)
    target_device = _device(device)
    _check_joint(joint)
    folder = Path(folder)
    wanted = [
        _Wanted(
            key=vary or ADDITIONAL,
            value=value,
            level=level,
            epochs=length,
            batch_size=batch,
            settings=_record(settings, dataset, level, vary, length, batch, epochs),
            identity={
                "model_class": model_class,
                "model_kwargs": kwargs,
                "model_seed": model_seed,
                "problem": problem.name,
                "dataset_type": dataset.dataset_type,
                "additional_data": level,
            },
        )
        for value, level, length, batch in plan
    ]
    done = {w.value: found for w in wanted if (found := _saved(folder, w, problem)) is not None}
    storage.save_dataset(folder, dataset)
    _warn_of_strangers(folder, wanted)
    missing = [w for w in wanted if w.value not in done]
    if missing:
        run = _Run(problem, dataset, folder, settings, missing, epochs, target_device)
        done |= run.train(joint)
    return [done[w.value] for w in wanted]


def check_settings(settings: Settings, *, epochs: int, batch_size: int) -> None:
    """Raise InputError for the first setting that cannot be."""
    for name, value, known in (
        ("optimizer", settings.optimizer, OPTIMIZERS),
        ("lr_schedule", settings.lr_schedule, {None: None, **SCHEDULES}),
    ):
        if value not in known:
            names = [n for n in known if n is not None]
            raise InputError(f'{name} "{value}": must be one of {", ".join(names)}{near_match(value, names)}')
    for name, number in (("epochs", epochs), ("batch_size", batch_size)):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise InputError(f"{name} {number!r}: must be a whole number, 1 or more")
    for name, number, positive in (
        ("learning_rate", settings.learning_rate, True),
        ("target_train_loss", settings.target_train_loss, True),
        ("weight_decay", settings.weight_decay, False),
        ("sam_rho", settings.sam_rho, False),
    ):
        if number is not None and not (number > 0 or (number == 0 and not positive)):
            raise InputError(f"{name} {number!r}: must be {'above 0' if positive else '0 or more'}")
    if settings.sam_adaptive and not settings.sam_rho:
        raise InputError("sam_adaptive: needs a sam_rho above 0")


# ---- the plan: which models there are to be


@dataclass
class _Wanted:
    key: str
    value: int
    level: int
    epochs: int
    batch_size: int
    settings: dict[str, Any]
    """What the model's file is to record of the training."""
    identity: dict[str, Any]
    """What else must agree for a model of a file to be this one."""


def _plan(
    dataset: Dataset, vary: str | None, values: Sequence[int] | None, epochs: int, batch_size: int
) -> list[tuple[int, int, int, int]]:
    """(value, level, epochs, batch size) of each model."""
    levels = dataset.dataset_quantities
    if vary is None:
        if values is not None:
            raise InputError("values: only has a meaning with vary: batch_size or vary: epochs")
        return [(level, level, epochs, batch_size) for level in levels]
    if vary not in VARIES:
        raise InputError(f'vary "{vary}": must be one of {", ".join(VARIES)}{near_match(vary, VARIES)}')
    values = list(values or [])
    whole = all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in values)
    if not values or not whole or sorted(set(values)) != values:
        raise InputError(f"values {values}: must be whole numbers, 1 or more, each above the last")
    if vary == "batch_size":
        return [(value, levels[0], epochs, value) for value in values]
    if values[-1] > epochs:
        raise InputError(f"values: {values[-1]} is beyond the end of the training, epochs {epochs}")
    return [(value, levels[0], value, batch_size) for value in values]


def _record(
    settings: Settings,
    dataset: Dataset,
    level: int,
    vary: str | None,
    epochs: int,
    batch_size: int,
    total: int,
) -> dict[str, Any]:
    record = {**asdict(settings), "epochs": epochs, "batch_size": batch_size}
    record.pop(vary, None)  # the file holds it as the model's value
    if vary == "epochs" and settings.lr_schedule:
        record["schedule_epochs"] = total
    digest = hashlib.blake2b(digest_size=8)
    for part in dataset.upto(level):
        digest.update(part.contiguous().numpy())
    base = {"base_data_size": dataset.base_data_size, "data_seed": dataset.data_seed}
    return {**record, **base, "data_digest": digest.hexdigest()}


def _saved(folder: Path, wanted: _Wanted, problem: Problem) -> TrainedModel | None:
    """The model of the file, if it is the one that is wanted."""
    path = storage.model_path(folder, wanted.key, wanted.value)
    if not path.exists():
        return None
    try:
        found = storage.load_model(path, problem)
    except InputError as error:
        warnings.warn(f"{error}; it is trained anew", stacklevel=3)
        return None
    same = found.settings == wanted.settings and found.key == wanted.key and found.value == wanted.value
    return found if same and all(getattr(found, k) == v for k, v in wanted.identity.items()) else None


def _warn_of_strangers(folder: Path, wanted: list[_Wanted]) -> None:
    ours = {storage.model_path(folder, w.key, w.value).name for w in wanted}
    strangers = sorted(path.name for path in folder.glob("model_*.pt") if path.name not in ours)
    if strangers:
        warnings.warn(
            f"{folder}: {', '.join(strangers)} are no models of this training; delete them, or they are "
            "analysed with the others",
            stacklevel=3,
        )


# ---- the work


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f'device "{name}": not usable here ({str(error).splitlines()[0]})') from error


class _Run:
    """The models of one run that are still to be trained."""

    def __init__(
        self, problem: Problem, dataset: Dataset, folder: Path, settings: Settings, wanted: list[_Wanted],
        epochs: int, device: torch.device,
    ):  # fmt: skip
        self.problem, self.dataset, self.folder, self.settings = problem, dataset, folder, settings
        self.device = device
        snapshots = wanted[0].key == "epochs"
        groups = [wanted] if snapshots else [[w] for w in wanted]
        self.jobs = []
        self.wanted: dict[int, dict[int, _Wanted]] = {}
        for members in groups:
            last = members[-1]
            identity = last.identity
            job = Job(
                name=f"model_{last.key}_{last.value}",
                model=problem.build_model(
                    identity["model_kwargs"], identity["model_seed"], identity["model_class"]
                ),
                size=dataset.base_data_size + last.level,
                batch_size=last.batch_size,
                snapshots=[w.epochs for w in members],
                schedule_epochs=epochs,
                seed=identity["model_seed"],
            )
            self.jobs.append(job)
            self.wanted[id(job)] = {w.epochs: w for w in members}
        self.done: dict[int, TrainedModel] = {}

    def train(self, joint: bool | str) -> dict[int, TrainedModel]:
        level = max(job.size for job in self.jobs) - self.dataset.base_data_size
        x, y = self.dataset.upto(level)
        data = tuple(part.to(self.device) for part in (x, y, self.dataset.x_test, self.dataset.y_test))
        with tqdm(
            total=sum(job.size * job.epochs for job in self.jobs),
            unit="sample",
            unit_scale=True,
            desc="training",
        ) as bar:
            tick = _Ticker(bar)
            for group in joint_groups(self.jobs, joint):
                Fit(self.problem, group, data, self.settings, self._report, tick).run()
            tick.flush()
        return self.done

    def _report(self, job: Job, epoch: int, state: dict[str, Tensor]) -> None:
        # a training that reached its target early is the model that its full length stands for
        lengths = self.wanted[id(job)]
        wanted = lengths.get(epoch) or lengths[job.epochs]
        identity = wanted.identity
        model = self.problem.build_model(
            identity["model_kwargs"], identity["model_seed"], identity["model_class"]
        )
        model.load_state_dict(state)
        trained = TrainedModel(
            model=model.eval(),
            settings=wanted.settings,
            key=wanted.key,
            value=wanted.value,
            **identity,
            **job.curves(),
        )
        storage.save_model(self.folder, trained)
        self.done[wanted.value] = trained


def _check_joint(joint: bool | str) -> None:
    if not (joint is True or joint is False or joint == "auto"):
        raise InputError(f'joint {joint!r}: must be true, false or "auto"')


def joint_groups(jobs: list[Job], joint: bool | str) -> list[list[Job]]:
    """Which jobs to train side by side, in which order."""
    if joint is True:
        return [jobs]
    n = sum(parameter.numel() for parameter in jobs[0].model.parameters())
    small = [job for job in jobs if joint and n * min(job.batch_size, job.size) <= JOINT_LIMIT]
    together = [small] if small else []
    return together + [[job] for job in jobs if job not in small]


class _Ticker:
    """Moves the bar, at most ten times a second: small models end an epoch faster than a line is drawn."""

    def __init__(self, bar: tqdm):
        self.bar, self.samples, self.last = bar, 0, 0.0

    def __call__(self, job: Job, samples: int) -> None:
        self.samples += samples
        if time.monotonic() - self.last > 0.1:
            self.bar.set_postfix_str(
                f"{job.name}: loss {job.train_loss[-1]:.3g}, accuracy {job.train_accs[-1]:.3f}", refresh=False
            )
            self.flush()

    def flush(self) -> None:
        self.last = time.monotonic()
        self.bar.update(self.samples)
        self.samples = 0
