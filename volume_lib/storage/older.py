"""What older notebooks of this workflow wrote, in the names and shapes of today.

Their models were classes with names of their own (``SwissMLP``, ``MNIST_MLP``, ``CIFAR10_CNN`` …) whose
layers lay in ``nn.Sequential``, and their files say neither problem nor arguments. Which network it is
follows from the shapes of its weights; which problem from the shapes of the data and the class's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from volume_lib.records import ADDITIONAL, Dataset

if TYPE_CHECKING:
    from torch import Tensor

    from volume_lib.problems.base import Problem

ACCURACY_KEYS = {"final_test_accuracies": "test_accuracies"}
"""Names of ``test_accuracies.npz`` then and now."""

KEYS = {"batch": "batch_size", "epoch": "epochs"}
"""What tells models apart (``model_batch_100.pt``) then and now."""

_WORDS = {
    "fashion": "fashion_mnist",  # before the word that it contains
    "mnist": "mnist",
    "cifar": "cifar10",
    "svhn": "svhn",
    "swiss": "swiss_roll",
}
_SHAPES = {
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "svhn": (3, 32, 32),
    "swiss_roll": (2,),
}


def renamed(content: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """``content`` with the keys of ``names`` under their new names, where those are not taken."""
    return {names[k] if k in names and names[k] not in content else k: v for k, v in content.items()}


def problem_name(dataset: Dataset, model_class: str) -> str | None:
    """The shipped problem whose samples have the data's shape and whose word is in the class's name.

    None where no word decides: images of one shape belong to several problems.
    """
    shape = tuple(dataset.x_base_train.shape[1:])
    name = next((name for word, name in _WORDS.items() if word in model_class.lower()), None)
    return name if name is not None and _SHAPES[name] == shape else None


def model_content(content: dict[str, Any], problem: Problem) -> dict[str, Any]:
    """A model file's content with today's layer names, class and arguments, where its shapes tell them.

    A class that ``problem`` has, and a network that is no plain chain of layers, stay as they are.
    """
    state = content["state_dict"]
    if "model_kwargs" in content or content["model_class"] in problem.model_classes:
        kwargs = content.get("model_kwargs")
        if isinstance(kwargs, Mapping) and "hidden_dim" in kwargs and "hidden.weight" in state:
            others = {name: value for name, value in kwargs.items() if name != "hidden_dim"}
            content["model_kwargs"] = {**others, "hidden_dims": [kwargs["hidden_dim"]]}
        return {**content, "state_dict": weights(state)}
    found = network(state, problem)
    return content if found is None else {**content, **found}


def weights(state: Mapping[str, Any]) -> dict[str, Any]:
    """Weights by name; those of a convolutional network of one dense layer under the names of its list."""
    if not {"convolutions.0.weight", "hidden.weight", "output.weight"} <= state.keys():
        return dict(state)
    names = {"hidden": "layers.0", "output": "layers.1"}
    parts = {name: name.partition(".") for name in state}
    return {f"{names.get(a, a)}{dot}{b}": state[name] for name, (a, dot, b) in parts.items()}


def network(state: Mapping[str, Tensor], problem: Problem) -> dict[str, Any] | None:
    """``model_class``, ``model_kwargs`` and ``state_dict`` of the MLP or CNN that these weights are.

    None for anything else: layers without biases, kernels that are not 3×3, widths that do not follow
    each other, or a problem that has no such network.
    """
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
    if not layers or set(state) != {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}:
        return None
    shapes = [tuple(state[f"{layer}.weight"].shape) for layer in layers]
    count = sum(len(shape) == 4 for shape in shapes)
    convolutions, dense = shapes[:count], shapes[count:]
    if not dense or any(len(shape) != 2 for shape in dense):
        return None
    if any(b[1] != a[0] for a, b in [*pairwise(convolutions), *pairwise(dense)]):
        return None
    output = {"hidden_dims": [shape[0] for shape in dense[:-1]], "output_dim": dense[-1][0]}
    if not convolutions:
        kind, kwargs = "MLP", {"input_dim": dense[0][1], **output}
        names = [f"layers.{i}" for i in range(len(dense))]
    else:
        kind = "CNN"
        size = _image_size(convolutions, dense[0][1], problem)
        if size is None:
            return None
        channels = [shape[0] for shape in convolutions]
        kwargs = {"in_channels": convolutions[0][1], "image_size": size, "channels": channels, **output}
        names = [f"convolutions.{i}" for i in range(count)] + [f"layers.{i}" for i in range(len(dense))]
    if kind not in problem.model_classes:
        return None
    state = {
        f"{new}.{part}": state[f"{old}.{part}"]
        for old, new in zip(layers, names, strict=True)
        for part in ("weight", "bias")
    }
    return {"model_class": kind, "model_kwargs": kwargs, "state_dict": state}


def _image_size(convolutions: list[tuple], inputs: int, problem: Problem) -> int | None:
    """Side of the images that leave ``inputs`` numbers after 3×3 convolutions that each halve it."""
    if "CNN" not in problem.model_classes or any(shape[2:] != (3, 3) for shape in convolutions):
        return None
    size = problem.default_model_kwargs("CNN").get("image_size", 0)
    left = size // 2 ** len(convolutions)
    return size if left * left * convolutions[-1][0] == inputs else None


def value_key(content: dict[str, Any], key: str) -> str:
    """What varies between the models of a run: ``key`` of the file's name in today's word."""
    return content.get("key") or (key if key == ADDITIONAL else KEYS.get(key, key))
