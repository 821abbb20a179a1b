"""Image classification from torchvision's data sets: per-channel normalised, cross-entropy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from volume_lib.problems.base import Problem, data_root
from volume_lib.problems.files import find_or_download
from volume_lib.problems.networks import CNN, MLP
from volume_lib.records import Data


class ImageProblem(Problem):
    """Images (N, channels, size, size) in units of the training pixels' standard deviation; 10 classes."""

    sample_kind = "images"
    num_classes = 10
    model_classes = {"MLP": MLP, "CNN": CNN}  # noqa: RUF012

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    """Mean of the training pixels (0 to 1) by channel."""
    std: tuple[float, ...]
    hidden_dims: tuple[int, ...]
    folder: str
    """Where the files lie under the root."""
    files: str
    """What the files are called, for the message that says they are missing."""

    def read(self, root: Path, train: bool, download: bool) -> tuple[Any, Any]:
        """Images as bytes, (N, [channels,] size, size), and labels, from torchvision."""
        raise NotImplementedError

    def load(self, root: Path | None = None) -> Data:
        root = data_root() if root is None else Path(root)
        x_train, y_train = self._split(root, train=True)
        x_test, y_test = self._split(root, train=False)
        return Data(x_train, y_train, x_test, y_test)

    def _split(self, root: Path, train: bool) -> tuple[Tensor, Tensor]:
        images, labels = find_or_download(
            lambda download: self.read(root, train, download), self.name, root, self.folder, self.files
        )
        # one float copy of the data, normalised in place
        x = torch.as_tensor(images).reshape(-1, *self.shape).to(torch.float32)
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return x.div_(255 * std).sub_(mean / std), torch.as_tensor(labels).long()

    def default_model_kwargs(self, model_class: str) -> dict[str, Any]:
        channels, size, _ = self.shape
        if model_class == "MLP":
            return {
                "input_dim": channels * size * size,
                "hidden_dims": list(self.hidden_dims),
                "output_dim": self.num_classes,
            }
        return {
            "in_channels": channels,
            "image_size": size,
            "channels": [16, 32],
            "hidden_dims": [64],
            "output_dim": self.num_classes,
        }

    def full_model_kwargs(
        self, model_kwargs: dict[str, Any], model_class: str | None = None
    ) -> dict[str, Any]:
        """As every problem's; ``hidden_dim: 64``, a CNN's one layer as it was written, is one of a list."""
        if "hidden_dim" in model_kwargs and self.model_class_name(model_class) == "CNN":
            others = {name: value for name, value in model_kwargs.items() if name != "hidden_dim"}
            model_kwargs = {"hidden_dims": [model_kwargs["hidden_dim"]], **others}
        return super().full_model_kwargs(model_kwargs, model_class)


class Mnist(ImageProblem):
    """Handwritten digits: 60,000 training and 10,000 test images of 28×28 pixels."""

    name = "mnist"
    class_names = tuple("0123456789")
    shape = (1, 28, 28)
    mean = (0.1307,)
    std = (0.3081,)
    hidden_dims = (256, 128)
    folder = "MNIST/raw"
    files = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"

    def read(self, root: Path, train: bool, download: bool) -> tuple[Tensor, Tensor]:
        from torchvision.datasets import MNIST

        data = MNIST(root, train=train, download=download)
        return data.data, data.targets


class FashionMnist(ImageProblem):
    """Pieces of clothing: 60,000 training and 10,000 test images of 28×28 pixels."""

    name = "fashion_mnist"
    class_names = (
        "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
    )  # fmt: skip
    shape = (1, 28, 28)
    mean = (0.2860,)
    std = (0.3530,)
    hidden_dims = (256, 128)
    folder = "FashionMNIST/raw"
    files = Mnist.files

    def read(self, root: Path, train: bool, download: bool) -> tuple[Tensor, Tensor]:
        from torchvision.datasets import FashionMNIST

        data = FashionMNIST(root, train=train, download=download)
        return data.data, data.targets


class Cifar10(ImageProblem):
    """Colour photographs of animals and vehicles: 50,000 training and 10,000 test images of 32×32 pixels."""

    name = "cifar10"
    class_names = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    shape = (3, 32, 32)
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)
    hidden_dims = (512, 256)
    folder = "cifar-10-batches-py"
    files = "data_batch_1 to data_batch_5, test_batch and batches.meta (the Python version)"

    def read(self, root: Path, train: bool, download: bool) -> tuple[Any, list[int]]:
        from torchvision.datasets import CIFAR10

        data = CIFAR10(root, train=train, download=download)
        return data.data.transpose(0, 3, 1, 2), data.targets


class Svhn(ImageProblem):
    """House numbers in the street: 73,257 training and 26,032 test images of 32×32 pixels, one digit each."""

    name = "svhn"
    class_names = tuple("0123456789")
    shape = (3, 32, 32)
    mean = (0.4377, 0.4438, 0.4728)
    std = (0.1980, 0.2010, 0.1970)
    hidden_dims = (512, 256)
    folder = "svhn"
    files = "train_32x32.mat, test_32x32.mat"

    def read(self, root: Path, train: bool, download: bool) -> tuple[Any, Any]:
        from torchvision.datasets import SVHN

        data = SVHN(root / self.folder, split="train" if train else "test", download=download)
        return data.data, data.labels
