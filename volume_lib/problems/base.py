"""What a problem is: a data set, a model family, a loss and an accuracy, under one name.

A problem of one's own subclasses :class:`Problem`, sets ``name``, ``num_classes`` and
``model_classes``, and says how to load the data and which arguments the models take::

    class MyProblem(Problem):
        name = "my_problem"
        num_classes = 3
        model_classes = {"MyNet": MyNet}

        def load(self, root=None):
            return Data(x_train, y_train, x_test, y_test)

        def default_model_kwargs(self, model_class):
            return {"width": 64}

Cross-entropy and top-1 accuracy are the defaults of everything else.
"""

from __future__ import annotations

import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from volume_lib.devices import torch_defaults
from volume_lib.errors import InputError, near_match
from volume_lib.parameters import frozen_names, num_moved
from volume_lib.problems import targets
from volume_lib.records import Data


def check_seed(name: str, seed: int) -> None:
    """Raise InputError unless ``seed`` is a whole number from 0 to 2⁶⁴ − 1, as torch takes them."""
    whole = isinstance(seed, Integral) and not isinstance(seed, bool)
    if not whole or not 0 <= seed < 2**64:
        raise InputError(f"{name} {seed!r}: must be a whole number from 0 to 2**64 - 1")


def data_root() -> Path:
    """Where data sets are looked for and downloaded to: ``VOLUME_LIB_DATA``, else ``~/.cache/volume_lib``."""
    return Path(os.environ.get("VOLUME_LIB_DATA") or "~/.cache/volume_lib").expanduser()


class Stemmed(Protocol):
    """A network whose first layer is linear in its parameters, and said to be: ``forward(x)`` is
    ``tail(stem(x))``."""

    stem_parameter_names: Sequence[str]

    def stem(self, x: Tensor) -> Tensor: ...
    def tail(self, x: Tensor) -> Tensor: ...


class Stacked(Protocol):
    """A network that can run for many parameters at once, (M, ...) each, as operands of products."""

    def stacked_forward(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor: ...
    def stacked_tail(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor: ...


class Problem(ABC):
    """A data set, a model family, a loss and an accuracy.

    ``outputs`` is what the model returns for N samples, ``y`` their targets. ``per_sample_loss`` and
    ``correct`` run under ``torch.func.vmap``: no control flow may depend on the values.
    """

    name: str
    sample_kind: str = "other"
    """How a figure shows samples: ``points``, ``images``, ``pairs``, ``sequences`` or ``other``."""
    num_classes: int
    class_names: tuple[str, ...] | None = None
    loss_unit: str = "nats"
    """What the loss is measured in, for the axes of figures."""
    model_classes: ClassVar[dict[str, type[nn.Module]]]
    """Model classes by name; the first is the default."""

    @abstractmethod
    def load(self, root: Path | None = None) -> Data:
        """The full training and test data as ready-to-use CPU tensors.

        ``root`` is the folder of data sets; None means :func:`data_root`. Raises
        :class:`~volume_lib.errors.InputError` when the files are missing and cannot be downloaded.
        """

    @abstractmethod
    def default_model_kwargs(self, model_class: str) -> dict[str, Any]:
        """The arguments of ``model_class`` where the experiment does not say otherwise."""

    def model_class_name(self, model_class: str | None = None) -> str:
        """``model_class`` if this problem has it, the default if None; InputError otherwise."""
        if model_class is None:
            return next(iter(self.model_classes))
        if model_class not in self.model_classes:
            known = ", ".join(self.model_classes)
            hint = near_match(model_class, self.model_classes)
            raise InputError(f'model_class "{model_class}": {self.name} has {known}{hint}')
        return model_class

    def full_model_kwargs(
        self, model_kwargs: dict[str, Any], model_class: str | None = None
    ) -> dict[str, Any]:
        """``model_kwargs`` completed by the defaults; InputError for an argument the class does not take."""
        chosen = self.model_class_name(model_class)
        known = inspect.signature(self.model_classes[chosen].__init__).parameters
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
        names = [name for name in known if name != "self"]
        for key in model_kwargs:
            if key not in names and not takes_any:
                hint = near_match(key, names)
                raise InputError(f'model: {chosen} takes no "{key}"{hint}; it takes {", ".join(names)}')
        return {**self.default_model_kwargs(chosen), **model_kwargs}

    def build_model(
        self, model_kwargs: dict[str, Any], seed: int, model_class: str | None = None
    ) -> nn.Module:
        """A freshly initialised model on the CPU; ``seed`` alone decides its parameters.

        ``model_kwargs`` may leave out whatever has a default. The global random state is left as it was.
        """
        chosen = self.model_class_name(model_class)
        kwargs = self.full_model_kwargs(model_kwargs, chosen)
        check_seed("model_seed", seed)
        with torch_defaults(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            try:
                return self.model_classes[chosen](**kwargs)
            except (TypeError, ValueError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(f"model: {chosen} cannot be built from {kwargs}: {error}") from error

    def describe(self, model: nn.Module) -> str:
        """One line: the problem, the model's class and how many of its parameters move (tied ones once)."""
        frozen = sum(model.get_parameter(name).numel() for name in frozen_names(model))
        moving = f"{num_moved(model):,} parameters" + (f" and {frozen:,} frozen" if frozen else "")
        return f"{self.name}: {type(model).__name__} with {moving}, {self.num_classes} classes"

    def per_sample_loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy in nats: ``outputs`` (N, num_classes) logits, ``y`` (N,) classes; returns (N,)."""
        # On a CPU several times faster than torch's own, which takes the few classes of one sample at a time.
        shifted = outputs - outputs.detach().amax(-1, keepdim=True)
        # Nothing below exp(-80) adds to a sum of at least 1, and denormal numbers take 30 times as long.
        return shifted.clamp_min(-80).exp().sum(-1).log() - shifted.gather(-1, y.unsqueeze(-1)).squeeze(-1)

    def correct(self, outputs: Tensor, y: Tensor) -> Tensor:
        """1.0 where no logit is larger than the true class's, else 0.0; (N,) of ``outputs``'s dtype."""
        of_true_class = outputs.gather(-1, y.unsqueeze(-1)).squeeze(-1)
        return (of_true_class == outputs.amax(-1)).to(outputs.dtype)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The mean of :meth:`per_sample_loss`."""
        return self.per_sample_loss(outputs, y).mean()

    def wrong_labels(self, y: Tensor, generator: torch.Generator) -> Tensor:
        """Targets that all differ from ``y``: see :func:`volume_lib.problems.targets.wrong`."""
        return targets.wrong(y, getattr(self, "num_classes", 0), generator)

    def random_labels(self, y_like: Tensor, generator: torch.Generator) -> Tensor:
        """Targets like ``y_like`` that say nothing: see :func:`volume_lib.problems.targets.at_random`."""
        return targets.at_random(y_like, getattr(self, "num_classes", 0), generator)

    def checked_data(self, root: Path | None = None) -> Data:
        """What :meth:`load` gives, converted and checked (:func:`volume_lib.problems.targets.checked`)."""
        takes_classes = type(self).per_sample_loss is Problem.per_sample_loss
        return targets.checked(self.load(root), getattr(self, "num_classes", None) if takes_classes else None)
