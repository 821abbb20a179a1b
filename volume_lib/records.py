"""What travels between the rooms of the package: data sets, trained models and sweeps.

Plain containers without behaviour beyond what their own fields answer. Their file formats are
known to :mod:`volume_lib.storage` alone.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from volume_lib.errors import InputError

if TYPE_CHECKING:  # what needs no models, such as estimating volumes, starts without torch
    from torch import Tensor, nn

ADDITIONAL = "additional"
LABEL_NOISE = "label_noise"
"""The ``key`` of models that differ in their amount of additional data, as most experiments' do."""


def plain_value(value: float) -> int | float:
    """What varies has this value for a model: whole numbers as ``int``, so that 60.0 and 60 have one name."""
    return int(value) if float(value).is_integer() else float(value)


def same(one: Any, other: Any) -> bool:
    """Whether two settings are equal; NaN is as NaN, and a tuple as a list."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def problem_text(problem: str | Mapping[str, Any]) -> str:
    """A problem and its arguments in one text: ``{name: swiss_roll, turns: 2}`` → ``swiss_roll(turns=2)``.

    This text is the problem's name in every file, and :func:`problem_parts` takes it apart again. Arguments
    are numbers, texts, booleans, None and lists of them. Raises InputError for anything else.
    """
    if isinstance(problem, str):
        name, arguments = problem_parts(problem)
    else:
        arguments = dict(problem)
        name = arguments.pop("name", None)
        if not isinstance(name, str) or not name:
            raise InputError(
                "problem: must be a name, or name: with its arguments, as {name: swiss_roll, turns: 2}"
            )
    told = []
    for key, value in sorted(arguments.items()):
        if not (isinstance(key, str) and key.isidentifier() and _is_plain(value)):
            raise InputError(
                f"problem {name}: argument {key}: must be a number, a text, a list … not {value!r}"
            )
        told.append(f"{key}={value!r}")
    return f"{name}({', '.join(told)})" if told else name


def problem_parts(text: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a :func:`problem_text`; InputError where it is none. Nothing in it is run."""
    name, bracket, inner = text.partition("(")
    if not bracket:
        return text, {}
    try:
        call = ast.parse(f"f({inner}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not inner.endswith(")"):
            raise ValueError
        return name, {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise InputError(f'problem "{text}": arguments are written as in swiss_roll(turns=1.7)') from error


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


@dataclass
class Data:
    """A problem's whole data: ready-to-use CPU tensors, first dimension = samples."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


@dataclass
class Dataset:
    """The data of one run: base samples, additional samples in a fixed order, and the test set.

    ``dataset_quantities`` are the levels: numbers of additional samples, increasing.
    """

    x_base_train: Tensor
    y_base_train: Tensor
    x_additional: Tensor
    y_additional: Tensor
    x_test: Tensor
    y_test: Tensor
    dataset_quantities: list[int]
    dataset_type: str
    problem: str
    data_seed: int

    @property
    def base_data_size(self) -> int:
        return len(self.x_base_train)

    def upto(self, level: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the landscape of ``level``: base, then ``level`` additional samples."""
        if not 0 <= level <= len(self.x_additional):
            raise ValueError(f"level {level}: the data set has {len(self.x_additional)} additional samples")
        import torch

        x = torch.cat([self.x_base_train, self.x_additional[:level]])
        y = torch.cat([self.y_base_train, self.y_additional[:level]])
        return x, y


@dataclass
class TrainedModel:
    """A minimum: a trained network and the record of its training.

    ``key`` says what varies between the models of the experiment (``"additional"``: the amount of
    data; else a setting of the training, as ``"batch_size"``, or an argument of the network), ``value`` its
    value for this model. ``level``: how many additional samples it was trained on.
    ``settings`` holds everything else that the training was given (optimizer, learning rate …).
    """

    model: nn.Module
    model_class: str
    model_kwargs: dict[str, Any]
    model_seed: int
    problem: str
    dataset_type: str
    level: int
    train_loss: list[float]
    test_loss: list[float]
    train_accs: list[float]
    test_accs: list[float]
    settings: dict[str, Any] = field(default_factory=dict)
    key: str = ADDITIONAL
    value: int | float = 0


@dataclass
class Sweep:
    """The losses of one minimum along its rays, in one landscape: one ``.npz`` file.

    ``wiggle_results`` has one dictionary per direction: ``coefficients`` (increasing, from 0), ``loss``
    and ``accs`` (float64 arrays of the same length), ``perturbation_seed`` (int) and
    ``perturbation_norm`` (float, of the unscaled direction).
    Names are the file's: ``additional_data`` is the landscape's level, ``model_trained_data`` the model's.
    ``key`` and ``value`` say what varies between the experiment's models, as in :class:`TrainedModel`.
    ``loss_unit`` is the problem's.
    ``samples_digest`` and ``problem_digest`` say which samples and which loss made it (``""``: an older file
    does not say). ``moved`` (P names) are the tensors that directions move, ``init_widths`` (P,) the root
    mean squares of their entries at initialisation, and each ray has its ``slopes`` and ``bends`` (P,) for
    them (:mod:`volume_lib.rays.moments`): what the log mass by rays is read from; empty where a file does
    not say.
    """

    wiggle_results: Sequence[dict[str, Any]]
    additional_data: int
    model_trained_data: int
    dataset_type: str
    base_dataset_size: int
    test_loss: float
    test_accs: float
    train_loss: float
    num_params: int
    state_dict: dict[str, np.ndarray]
    scaling: str
    log_det_scaling: float
    search: str
    loss_thresholds: list[float]
    acc_threshold: float | None
    key: str = ADDITIONAL
    value: int | float = 0
    loss_unit: str = "nats"
    samples_digest: str = ""
    problem_digest: str = ""
    moved: list[str] = field(default_factory=list)
    init_widths: list[float] = field(default_factory=list)
    format_version: int = 1
