"""Images of one's own: a folder for each class, as torchvision's ``ImageFolder`` takes them, or a zip."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import uuid
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from volume_lib.errors import InputError
from volume_lib.problems.base import data_root
from volume_lib.problems.images import ImageProblem

SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
CACHE = "image_folder_cache"
"""Folder of decoded images under the root of data sets; what lies there can be deleted at any time."""


class ImageFolder(ImageProblem):
    """Images in one folder per class: ``train/<class>/…`` and ``test/<class>/…``, or ``<class>/…`` alone.

    In an experiment: ``problem: {name: image_folder, path: birds.zip, size: 32}``. Without ``train`` and
    ``test`` every class gives ``test_share`` of its images, evenly spaced by name, to the test set. Classes
    and images come in the order of their names. Decoded images are kept under :data:`CACHE` in the folder of
    data sets, so that only the first notebook decodes them.

    Args:
        path: the folder or zip; a relative one is looked for in the folder of data sets, then from here.
        size: every image is resized to ``size`` × ``size`` pixels.
        channels: 3 for colour, 1 for grey.
        mean, std: of the pixels (0 to 1) by channel, which are subtracted and divided by.
    """

    name = "image_folder"
    hidden_dims = (512, 256)
    folder, files = "", "the images"

    def __init__(
        self,
        path: str,
        size: int = 32,
        channels: int = 3,
        mean: Sequence[float] | float = 0.5,
        std: Sequence[float] | float = 0.5,
        test_share: float = 0.2,
    ) -> None:
        if not isinstance(size, int) or size < 1 or channels not in (1, 3):
            raise InputError(f"image_folder: size {size!r} must be 1 or more, channels {channels!r} 1 or 3")
        if not 0 < test_share < 1:
            raise InputError(f"image_folder: test_share {test_share!r} must lie between 0 and 1")
        self.path, self.size, self.test_share = str(path), size, test_share
        self.shape = (channels, size, size)
        self.mean, self.std = _by_channel(mean, channels, "mean"), _by_channel(std, channels, "std")
        if min(self.std) <= 0:
            raise InputError(f"image_folder: std {std!r} must be above 0")

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The folders' names, in order."""
        return tuple(sorted({kind for _, kind, _ in self._entries(self._place(data_root()))}))

    def read(self, root: Path, train: bool, download: bool) -> tuple[Tensor, Tensor]:
        place = self._place(root)
        entries = self._entries(place)
        kinds = sorted({kind for _, kind, _ in entries})
        chosen = [(kind, name) for is_train, kind, name in entries if is_train == train]
        labels = torch.tensor([kinds.index(kind) for kind, _ in chosen])
        return torch.from_numpy(self._decoded(place, [name for _, name in chosen], root)), labels

    def _place(self, root: Path) -> Path:
        path = Path(self.path).expanduser()
        for place in (root / path, path):
            if place.exists():
                return place
        raise InputError(f"image_folder: path {self.path}: neither in {root} nor in {Path.cwd()}")

    def _entries(self, place: Path) -> list[tuple[bool, str, str]]:
        """Whether it is for training, class, and name of every image, in order."""
        names = sorted(name for name in _names(place) if PurePosixPath(name).suffix.lower() in SUFFIXES)
        split = [name for name in names if name.split("/")[0] in ("train", "test")]
        entries = []
        if split:
            for name in split:
                parts = name.split("/")
                if len(parts) > 2:
                    entries.append((parts[0] == "train", parts[1], name))
        else:
            seen: dict[str, int] = {}
            for name in names:
                kind, _, rest = name.partition("/")
                if rest:
                    number = seen[kind] = seen.get(kind, -1) + 1
                    held_out = int((number + 1) * self.test_share) > int(number * self.test_share)
                    entries.append((not held_out, kind, name))
        if not all(any(is_train == wanted for is_train, *_ in entries) for wanted in (True, False)):
            raise InputError(
                f"image_folder: {place}: needs images in train/<class>/ and test/<class>/, or in <class>/"
            )
        return entries

    def _decoded(self, place: Path, names: list[str], root: Path) -> np.ndarray:
        """(N, channels, size, size) bytes, from the cache where it has them."""
        cache = root / CACHE / f"{_digest(place, names, self.shape)}.npy"
        with contextlib.suppress(OSError, ValueError):  # missing or damaged: decoded anew
            return np.load(cache, allow_pickle=False)
        with _reader(place) as read, ThreadPoolExecutor(os.cpu_count()) as pool:
            images = np.stack(list(pool.map(lambda name: self._decode(place, name, read), names)))
        with contextlib.suppress(OSError):  # a folder of data that cannot be written costs time, no more
            cache.parent.mkdir(parents=True, exist_ok=True)
            temporary = cache.with_name(f".{cache.name}.{uuid.uuid4().hex[:8]}.tmp")
            with open(temporary, "wb") as file:
                np.save(file, images)
            os.replace(temporary, cache)
        return images

    def _decode(self, place: Path, name: str, read: Callable[[str], bytes]) -> np.ndarray:
        from PIL import Image

        try:
            with Image.open(io.BytesIO(read(name))) as image:
                pixels = image.convert("RGB" if self.shape[0] == 3 else "L")
                if pixels.size != (self.size, self.size):
                    pixels = pixels.resize((self.size, self.size), Image.Resampling.BILINEAR)
        except Exception as error:  # a damaged image can make Pillow raise anything
            reason = " ".join(str(error).split())
            raise InputError(
                f"image_folder: {place}: {name} cannot be read as an image ({reason})"
            ) from error
        return np.asarray(pixels, dtype=np.uint8).reshape(self.size, self.size, -1).transpose(2, 0, 1)


def _names(place: Path) -> list[str]:
    """Files below a folder, or in a zip, with forward slashes."""
    if place.is_dir():
        return [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()]
    try:
        with zipfile.ZipFile(place) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"image_folder: {place}: is no folder and no zip file ({error})") from error


@contextlib.contextmanager
def _reader(place: Path) -> Any:
    if place.is_dir():
        yield lambda name: (place / name).read_bytes()
        return
    with zipfile.ZipFile(place) as archive:
        yield archive.read


def _digest(place: Path, names: list[str], shape: tuple[int, ...]) -> str:
    """What decided the pixels: which images, of which content as far as their files' dates or sums tell."""
    told = [str(place.resolve()), str(shape)]
    if place.is_dir():
        stats = ((place / name).stat() for name in names)
        told += [f"{n} {s.st_size} {s.st_mtime_ns}" for n, s in zip(names, stats, strict=True)]
    else:
        with zipfile.ZipFile(place) as archive:
            told += [f"{name} {archive.getinfo(name).CRC}" for name in names]
    return hashlib.blake2b("\n".join(told).encode(), digest_size=12).hexdigest()


def _by_channel(values: Sequence[float] | float, channels: int, name: str) -> tuple[float, ...]:
    given = [values] * channels if isinstance(values, int | float) else list(values)
    if len(given) != channels:
        raise InputError(
            f"image_folder: {name} {values!r}: one number, or one for each of {channels} channels"
        )
    return tuple(float(value) for value in given)
