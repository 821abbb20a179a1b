"""Mutations of valid files of every kind: each is read as it was, or told in one line.

``VOLUME_LIB_FUZZ=2000`` tries that many of each kind (see ``docs/damage.md``); a quick run fewer.
"""

from __future__ import annotations

import io
import os
import random
import zipfile
from collections import Counter
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from test_storage import PROBLEM, dataset, rays, results, sweep, trained

from volume_lib import storage
from volume_lib.errors import InputError

COUNT = int(os.environ.get("VOLUME_LIB_FUZZ", "120"))


def save(kind: str, folder: Path, seed: int = 0):
    """A small file of ``kind`` and its reader; other seeds, other numbers in the same places."""
    if kind == "dataset":
        data = dataset()
        data.x_test = data.x_test + seed
        return storage.save_dataset(folder, data), lambda: storage.load_dataset(folder)
    if kind == "model":
        model = trained(epochs=5, optimizer="adam")
        model.train_loss = [0.7 + seed, 0.1]
        path = storage.save_model(folder, model)
        return path, lambda: storage.load_model(path, PROBLEM)
    if kind == "sweep":
        path = storage.save_sweep(folder / "data_3.npz", sweep(wiggle_results=rays(2), test_loss=0.25 + seed))
        return path, lambda: storage.load_sweep(path)
    if kind == "results":
        path = storage.save_results(folder / "results.json", results(test_loss_values=[0.5 + seed, 0.25]))
        return path, lambda: storage.load_results(path)
    if kind == "cutoffs":
        entry = {"additional_data": 0, "base_train_size": 1, "loss_curve": [1.0 + seed, 0.5, 0.25]}
        path = storage.save_cutoffs(folder, {"Model_0": entry, "Model_3": entry})
        return path, lambda: storage.load_cutoffs(folder)
    path = storage.save_test_accuracies(folder, [2, 5], [0.5 / (seed + 1), 0.9])
    return path, lambda: storage.load_test_accuracies(folder)


KINDS = ("dataset", "model", "sweep", "results", "cutoffs", "accuracies")


def mutated(whole: bytes, other: bytes, chance: random.Random) -> bytes:
    """``whole`` with one thing wrong; ``other``: a sound file of the same kind with other numbers."""
    at, length = chance.randrange(len(whole)), chance.choice((1, 4, 64, 512))
    kind = chance.choice(("bit", "byte", "zeros", "noise", "cut", "gone", "moved", "foreign", "members"))
    if kind == "bit":
        return whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :]
    if kind == "byte":
        return whole[:at] + bytes([chance.randrange(256)]) + whole[at + 1 :]
    if kind == "zeros":
        return whole[:at] + bytes(len(whole[at : at + length])) + whole[at + length :]
    if kind == "noise":
        return whole[:at] + chance.randbytes(len(whole[at : at + length])) + whole[at + length :]
    if kind == "cut":
        return whole[:at]
    if kind == "gone":
        return whole[:at] + whole[at + length :]
    if kind == "moved":
        to = chance.randrange(len(whole))
        return whole[:to] + whole[at : at + length] + whole[to + length :]
    if kind == "members" and whole[:2] == b"PK":
        return exchanged(whole, other, chance)
    length = min(length, 64)  # a longer piece of a small file is the other file
    return whole[:at] + other[at : at + length] + whole[at + length :]


def exchanged(whole: bytes, other: bytes, chance: random.Random) -> bytes:
    """The archive written anew, its sums right: a member of the other file, two swapped, or one less."""
    with zipfile.ZipFile(io.BytesIO(whole)) as one, zipfile.ZipFile(io.BytesIO(other)) as two:
        parts = {name: one.read(name) for name in one.namelist()}
        a, b = chance.sample([name for name in parts if "digest" not in name], 2)
        kind = chance.choice(("foreign", "swapped", "gone"))
        if kind == "foreign":
            parts[a] = two.read(a)
        elif kind == "swapped":
            parts[a], parts[b] = parts[b], parts[a]
        else:
            del parts[a]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return buffer.getvalue()


def plain(value):
    """A value as something that compares, numbers bit by bit."""
    if is_dataclass(value):
        return [(field.name, plain(getattr(value, field.name))) for field in fields(value)]
    if isinstance(value, torch.nn.Module):
        return plain(dict(value.state_dict()))
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return [(key, plain(entry)) for key, entry in sorted(value.items())]
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else repr(value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_every_mutation_is_read_right_or_told(tmp_path, kind):
    chance = random.Random(f"14 {kind}")
    other = save(kind, tmp_path, 1)[0].read_bytes()
    path, load = save(kind, tmp_path)
    whole, right, seen = path.read_bytes(), plain(load()), Counter()
    for i in range(COUNT):
        data = mutated(whole, other, chance)
        while data == other:  # nothing is wrong with the other file
            data = mutated(whole, other, chance)
        path.write_bytes(data)
        try:
            found = plain(load())
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            seen["told"] += 1
        else:
            assert found == right, f"mutation {i} was read as something else"
            seen["right"] += 1
    print(f"{kind}: {dict(seen)}")
    assert seen["told"] > COUNT / 2
