"""Image classification from torchvision's data sets: per-channel normalised, cross-entropy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from volume_lib.errors import InputError
from volume_lib.models import CNN, MLP
from volume_lib.problems.base import Problem, data_root
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
        """Images as bytes, (N, size, size) or (N, channels, size, size), and labels, from torchvision."""
        raise NotImplementedError

    def load(self, root: Path | None = None) -> Data:
        root = data_root() if root is None else Path(root)
        x_train, y_train = self._split(root, train=True)
        x_test, y_test = self._split(root, train=False)
        return Data(x_train, y_train, x_test, y_test)

    def _split(self, root: Path, train: bool) -> tuple[Tensor, Tensor]:
        images, labels = self._read_or_download(root, train)
        # one float copy of the data, normalised in place
        x = torch.as_tensor(images).reshape(-1, *self.shape).to(torch.float32)
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return x.div_(255 * std).sub_(mean / std), torch.as_tensor(labels).long()

    def _read_or_download(self, root: Path, train: bool) -> tuple[Any, Any]:
        try:
            return self.read(root, train, download=False)
        except (RuntimeError, OSError) as error:
            absent = isinstance(error, FileNotFoundError) or "not found" in str(error)
            if not absent:
                raise InputError(
                    f"{self._place(root)}: {_one_line(error)}; delete the folder and place them anew"
                ) from error
        except (ValueError, EOFError, AssertionError) as error:
            raise InputError(
                f"{self._place(root)} are damaged ({_one_line(error)}); delete the folder and place them anew"
            ) from error
        try:
            return self.read(root, train, download=True)
        except Exception as error:
            raise InputError(
                f"{self.name}: not in {root / self.folder}, and no download ({_one_line(error)}). "
                f"Place {self.files} there, or set VOLUME_LIB_DATA to the folder that holds {self.folder}"
            ) from error

    def _place(self, root: Path) -> str:
        return f"{self.files} in {root / self.folder}"

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
            "hidden_dim": 64,
            "output_dim": self.num_classes,
        }


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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
