"""Next-character prediction on the plays of Shakespeare, a megabyte of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from volume_lib.errors import InputError
from volume_lib.problems.base import Problem, data_root
from volume_lib.problems.files import find_or_download
from volume_lib.problems.networks import GPT
from volume_lib.records import Data

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
FOLDER, FILE = "tinyshakespeare", "input.txt"
ALPHABET = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Shakespeare(Problem):
    """Which character comes next, everywhere in a window of text? Cross-entropy in nats a character.

    A sample is a window: ``x`` (N, context) characters as indices into the alphabet, ``y`` (N, context) those
    that follow each. Windows do not overlap; the last tenth of the text is the test set.
    """

    name = "shakespeare"
    sample_kind = "sequences"
    num_classes = len(ALPHABET)
    class_names = tuple(ALPHABET)
    model_classes = {"GPT": GPT}  # noqa: RUF012

    context = 64
    test_share = 0.1

    def __init__(self, *, context: int | None = None):
        if context is not None:
            if isinstance(context, bool) or not isinstance(context, int) or context < 1:
                raise InputError(f"shakespeare: context {context!r}: must be a whole number, 1 or more")
            self.context = context

    def load(self, root: Path | None = None) -> Data:
        root = data_root() if root is None else Path(root)
        path = root / FOLDER / FILE
        text = find_or_download(lambda download: _read(path, download), self.name, root, FOLDER, FILE)
        index = {letter: i for i, letter in enumerate(ALPHABET)}
        unknown = set(text) - set(index)
        if unknown or len(text) < 20 * self.context:
            reason = f"unknown characters {sorted(unknown)[:5]}" if unknown else "too short"
            raise InputError(f"{path} is damaged ({reason}); delete and place it anew")
        tokens = torch.tensor([index[letter] for letter in text])
        cut = round(len(tokens) * (1 - self.test_share))
        return Data(*self._windows(tokens[:cut]), *self._windows(tokens[cut:]))

    def _windows(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        count = (len(tokens) - 1) // self.context
        size = count * self.context
        return tokens[:size].view(count, -1).clone(), tokens[1 : size + 1].view(count, -1).clone()

    def default_model_kwargs(self, model_class: str) -> dict[str, Any]:
        return {"vocabulary": self.num_classes, "context": self.context, "width": 64, "heads": 4, "layers": 2}

    def per_sample_loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy of each window: ``outputs`` (N, context, vocabulary), ``y`` (N, context)."""
        return super().per_sample_loss(outputs, y).mean(1)

    def correct(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The share of each window's characters whose logit is the largest; (N,)."""
        return (outputs.argmax(-1) == y).to(outputs.dtype).mean(1)


def _read(path: Path, download: bool) -> str:
    if download:
        from torchvision.datasets.utils import download_url

        download_url(URL, str(path.parent), path.name)
    return path.read_text(encoding="utf-8")
