"""What travels between the rooms of the package: data sets, trained models and sweeps.

Plain containers without behaviour beyond what their own fields answer. Their file formats are
known to :mod:`volume_lib.storage` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # what needs no models, such as estimating volumes, starts without torch
    from torch import Tensor, nn

ADDITIONAL = "additional"
"""The ``key`` of models that differ in their amount of additional data, as most experiments' do."""


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
    data; else ``"batch_size"`` or ``"epochs"``), ``value`` its value for this model.
    ``settings`` holds everything else that the training was given (optimizer, learning rate …).
    """

    model: nn.Module
    model_class: str
    model_kwargs: dict[str, Any]
    model_seed: int
    problem: str
    dataset_type: str
    additional_data: int
    train_loss: list[float]
    test_loss: list[float]
    train_accs: list[float]
    test_accs: list[float]
    settings: dict[str, Any] = field(default_factory=dict)
    key: str = ADDITIONAL
    value: int = 0


@dataclass
class Sweep:
    """The losses of one minimum along its rays, in one landscape: one ``.npz`` file.

    ``wiggle_results`` has one dictionary per direction: ``coefficients`` (increasing, from 0), ``loss``
    and ``accs`` (float64 arrays of the same length), ``perturbation_seed`` (int) and
    ``perturbation_norm`` (float, of the unscaled direction).
    ``model_trained_data`` is the level that the model was trained at; ``key`` and ``value`` say
    what varies between the experiment's models, as in :class:`TrainedModel`. ``loss_unit`` is the problem's.
    ``samples_digest`` and ``problem_digest`` say which samples and which loss made it (``""``: an older file
    does not say).
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
    value: int = 0
    loss_unit: str = "nats"
    samples_digest: str = ""
    problem_digest: str = ""
    format_version: int = 1
