"""Files of strangers: whatever they hold, one clear line within a second, and nothing runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from test_storage import PROBLEM, dataset, rays, results, sweep, trained
from torch import nn

from volume_lib import storage
from volume_lib.errors import InputError
from volume_lib.problems import get_problem
from volume_lib.problems.base import Problem
from volume_lib.storage.archives import Refused
from volume_lib.storage.pickles import Machine

try:
    from numpy._core import multiarray
except ImportError:  # numpy 1
    from numpy.core import multiarray


class Calls:
    """Pickles as a call of ``function``, with a state if one is given."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def dtype_with(state, code="O8"):
    return Calls(np.dtype, code, False, True, state=state)


def refused(load, *words: str) -> str:
    """The one line in which ``load`` refuses, within a second of work."""
    begin = time.process_time()
    with pytest.raises(InputError) as caught:
        load()
    assert time.process_time() - begin < 1
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1500
    for word in words:
        assert word in message
    return message


def npz_with(path: Path, value, **changes) -> Path:
    """A sweep whose rays are ``value``, written as numpy writes it."""
    rays_array = np.empty(1, dtype=object)
    rays_array[0] = value
    np.savez(path, **(vars(sweep()) | {"wiggle_results": rays_array} | changes))
    return path


def both(tmp_path: Path, value) -> list:
    """Readers of a sweep and of a model that hold ``value``."""
    npz_with(tmp_path / "data_3.npz", value)
    torch.save({"state_dict": value}, tmp_path / "model_additional_3.pt")
    return [
        lambda: storage.load_sweep(tmp_path / "data_3.npz"),
        lambda: storage.load_model(tmp_path / "model_additional_3.pt", PROBLEM),
    ]


FLAGS, SIZES = np.dtype("O").flags, (None, None, None, -1, -1)
STATES = {
    "objects that are not flagged": ((3, "|", *SIZES, 0), "O8"),
    "numbers that are objects": ((3, "|", *SIZES, FLAGS), "i8"),
    "a subarray": ((3, "|", (np.dtype("O"), (1,)), None, None, 8, 8, 0), "V8"),
    "fields": ((3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 8, 0), "V8"),
    "metadata": ((4, "|", *SIZES, FLAGS, {"a": 1}), "O8"),
    "a text of another size": ((3, "<", None, None, None, 4000, 4, 8), "U1"),
    "no state": ((), "i8"),
}


@pytest.mark.parametrize(("state", "code"), STATES.values(), ids=STATES)
def test_a_dtypes_state_makes_no_pointers_of_bytes(tmp_path, state, code):
    """Names that are allowed, and a state that would turn eight bytes of the file into an object."""
    bytes_ = struct.pack("<Q", 0x4141414141414141)
    scalar = Calls(multiarray.scalar, dtype_with(state, code), bytes_)
    array = Calls(
        multiarray._reconstruct,
        np.ndarray,
        (0,),
        b"b",
        state=(1, (1,), dtype_with(state, code), False, bytes_),
    )
    for value in (scalar, array):
        for load in both(tmp_path, value):
            refused(load, "refused", "type")


def test_numpys_reconstructors_take_nothing_but_arrays(tmp_path):
    for value in (
        Calls(multiarray._reconstruct, np.matrix, (0,), b"b"),
        Calls(multiarray.scalar, np.dtype("O"), b"AAAAAAAA"),
        Calls(multiarray._reconstruct, np.ndarray, (0,), b"b"),  # never filled
        Calls(np.dtype, "datetime64[ns]", False, True),
    ):
        for load in both(tmp_path, value):
            refused(load, "refused")


def test_plain_arrays_of_every_kind_still_read(tmp_path):
    arrays = [
        np.arange(6, dtype=code).reshape(2, 3) for code in ("i1", "<u2", ">i4", "u8", "f2", ">f4", "f8")
    ]
    arrays += [np.array([True, False]), np.array(["a", "bcd"]), np.array([b"xy"]), np.zeros((0, 3))]
    arrays += [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array([1 + 2j]), np.array(5)]
    arrays += [
        np.array([{"a": 1}, None, [1, "b"]], dtype=object),
        np.float32(1.5),
        np.str_("é"),
        np.bool_(True),
    ]
    expected = {"a": arrays, "b": {1, 2}, "c": frozenset([1]), "d": b"x", "e": bytearray(b"y"), "f": 1 + 2j}
    holder = np.empty(1, dtype=object)
    for protocol in (2, 3, 4, 5):
        holder[0] = expected
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("a.npy", header.getvalue() + pickle.dumps(holder, protocol=protocol))
        found = storage.readers.load_npz(tmp_path / "a.npz")["a"][0]
        assert {key: found[key] for key in "bcdef"} == {key: expected[key] for key in "bcdef"}
        for one, other in zip(arrays, found["a"], strict=True):
            assert type(one) is type(other) and one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
            assert np.isfortran(one) == np.isfortran(other)


# --- more than the file


def deep(levels: int):
    value = ()
    for _ in range(levels):
        value = (value, value)
    return value


def nested(levels: int):
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


def colliding() -> dict:
    return {k * (2**61 - 1): 0 for k in range(1, 3000)}


def itself() -> list:
    value: list = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [Calls(bytearray, 3_000_000_000), Calls(bytes, 3_000_000_000), {"a": deep(60)}, nested(400),
     colliding(), itself(), Calls(set, (deep(60),)), Calls(range, 10)],
    ids=["bytearray", "bytes", "shared", "nested", "colliding", "itself", "set", "range"],
)  # fmt: skip
def test_what_a_pickle_may_build_is_limited(tmp_path, value):
    for load in both(tmp_path, value):
        refused(load, "refused")


def test_keys_whose_hash_never_ends():
    doubled = b"".join(b"\x94h" + bytes([level]) + b"\x86" for level in range(60))
    with pytest.raises(Refused, match="has a tuple as a key"):
        Machine(b"\x80\x04})" + doubled + b"K\x01s.", {}).load()


def test_many_containers_in_few_bytes(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    for program in (
        b"\x80\x04" + b"}" * 30_000_000,
        b"\x80\x04" + b"N" * 12_000_000,
        b"\x80\x04" + b"(" * 9_000_000,
    ):
        with zipfile.ZipFile(tmp_path / "data_3.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("wiggle_results.npy", header.getvalue() + program)
        refused(lambda: storage.load_sweep(tmp_path / "data_3.npz"), "refused")


@pytest.mark.parametrize("name", ["wiggle_results.npy", "archive/data.pkl"])
def test_a_deflated_gigabyte_is_not_inflated(tmp_path, name):
    path = tmp_path / ("data_3.npz" if name.endswith("npy") else "dataset.pt")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(name, bytes(1 << 27))
    load = (
        (lambda: storage.load_sweep(path)) if name.endswith("npy") else lambda: storage.load_dataset(tmp_path)
    )
    refused(load, "refused", "would become 134,217,728")


def test_members_that_overlap_or_come_twice(tmp_path):
    path = storage.save_sweep(tmp_path / "data_3.npz", sweep())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("value.npy", archive.read("value.npy"))
    refused(lambda: storage.load_sweep(path), "truncated or not")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "data_3.npz")
    refused(lambda: storage.load_sweep(tmp_path / "data_3.npz"), "refused, it is a pipe")
    (tmp_path / "model_additional_3.pt").symlink_to("/dev/zero")
    refused(lambda: storage.load_model(tmp_path / "model_additional_3.pt", PROBLEM), "a device")
    (tmp_path / "results.json").mkdir()
    refused(lambda: storage.load_results(tmp_path / "results.json"), "it is a folder")
    storage.save_results(tmp_path / "kept.json", results())
    (tmp_path / "linked.json").symlink_to(tmp_path / "kept.json")
    assert storage.load_results(tmp_path / "linked.json")["model_data_levels"] == [0, 3]


def saved_model(folder: Path, **changes) -> Path:
    path = storage.save_model(folder, trained())
    torch.save(torch.load(path) | changes, path)
    return path


def test_networks_far_larger_than_their_file(tmp_path):
    problem = get_problem("mnist")
    for kind, kwargs in {
        "MLP": {"input_dim": 784, "hidden_dims": [60_000, 60_000], "output_dim": 10},
        "CNN": {
            "in_channels": 1,
            "image_size": 28,
            "channels": [60_000, 60_000],
            "hidden_dims": [9],
            "output_dim": 2,
        },
    }.items():
        path = saved_model(tmp_path, model_class=kind, model_kwargs=kwargs)
        refused(lambda path=path: storage.load_model(path, problem), str(path), kind)


def test_a_network_of_endless_layers_is_not_built(tmp_path):
    class Endless(nn.Module):
        def __init__(self, layers):
            super().__init__()
            self.layers = nn.ModuleList(nn.ReLU() for _ in range(layers))

    class Own(Problem):
        name, num_classes, model_classes = "own", 2, {"Endless": Endless}

        def load(self, root=None): ...

        def default_model_kwargs(self, model_class):
            return {"layers": 1}

    path = saved_model(tmp_path, model_class="Endless", model_kwargs={"layers": 10**9})
    refused(lambda: storage.load_model(path, Own()), "far larger")
    for kwargs in ({"layers": "many"}, {"layers": None}, {"other": 1}):
        path = saved_model(tmp_path, model_class="Endless", model_kwargs=kwargs)
        refused(lambda path=path: storage.load_model(path, Own()), "Endless")


# --- right names, wrong types


def odd_tensors() -> dict:
    quantised = torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.quint8)
    nested_one = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    return {
        "a sparse tensor": torch.eye(2).to_sparse(),
        "a meta tensor": torch.ones(2, 2, device="meta"),
        "a quantised tensor": quantised,
        "a nested tensor": nested_one,
        "complex64": torch.ones(2, 2, dtype=torch.complex64),
        "'text'": "text",
        "7": 7,
    }


@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_none_are_told_with_their_key(tmp_path):
    storage.save_dataset(tmp_path, dataset())
    whole = torch.load(tmp_path / "dataset.pt")
    path = storage.save_model(tmp_path, trained())
    model = torch.load(path)
    for words, value in odd_tensors().items():
        torch.save(whole | {"x_test": value}, tmp_path / "dataset.pt")
        refused(lambda: storage.load_dataset(tmp_path), "dataset.pt", "x_test", words)
        state = model["state_dict"] | {"0.weight": value}
        torch.save(model | {"state_dict": state}, path)
        refused(lambda: storage.load_model(path, PROBLEM), "0.weight")


def test_expanded_tensors_are_refused(tmp_path):
    storage.save_dataset(tmp_path, dataset())
    whole = torch.load(tmp_path / "dataset.pt")
    big = torch.zeros(1).expand(200_000, 200_000)
    torch.save(whole | {"x_test": big, "y_test": big}, tmp_path / "dataset.pt")
    refused(lambda: storage.load_dataset(tmp_path), "expanded from 1 stored")


NAN, BIG = float("nan"), 10**30
DATASET_WRONG = {
    "dataset_quantities": [5, NAN, [NAN], [0.5], ["3"], [[0]], [-1], [10**9], None, {}, [True], [BIG], []],
    "dataset_type": [3, None, "../../elsewhere", "a/b", "", ["data"], "a\nb"],
    "problem": [3, None, ["mnist"], 1.5],
    "data_seed": ["0", NAN, [0], BIG, -7],
}
MODEL_WRONG = {
    "state_dict": [[], {}, 3, "x", {1: torch.ones(2)}, {"0.weight": {}}],
    "train_loss": ["0.1", [], ["0.1"], None, {}, [[0.1]], [None], torch.ones(2, dtype=torch.complex64), [1j]],
    "test_accs": [True, [True], [b"1"]],
    "additional_data": [NAN, "3", None, -1, 3.5, [3], BIG],
    "dataset_type": [3, "../x"],
    "model_class": [3, None, ["Net"], "Net; rm", "Other"],
    "model_kwargs": [3, None, [("width", 4)], {3: 4}, "width"],
    "model_seed": ["1", NAN, 2**70],
    "problem": [3, None],
    "key": [3, "../../../elsewhere", ""],
}
SWEEP_WRONG = {
    "wiggle_results": [3, "rays", {"loss": 1}, [3], [None], [[1, 2]]],
    "additional_data": ["0", NAN, -1, None],
    "model_trained_data": ["0", 0.5],
    "dataset_type": [3, "../x"],
    "base_dataset_size": ["2", NAN],
    "test_loss": ["0.2", [], None, 1j],
    "num_params": [0, "17", NAN],
    "state_dict": [[], {}, {"a": "text"}, {"a": np.array([1j])}, {"a": np.array([None])}],
    "scaling": [3, ["filter"]],
    "log_det_scaling": ["1", None],
    "search": [3],
    "loss_thresholds": ["0.1", [NAN], ["0.1"], 0.1],
    "acc_threshold": ["0.9", 5, NAN],
    "key": [3, "../x"],
    "value": ["3", NAN, [1]],
    "loss_unit": [3],
    "format_version": ["1", 99],
}
RAY_WRONG = {
    "loss": [3, "0.1", [0.1], ["a"] * 5, [1j] * 5, np.ones((5, 5)), [], None, np.array(["a"] * 5)],
    "accs": [np.ones(4), {}],
    "coefficients": [[0, 1, 2, 1, 3], [0, 1, 2, 3, NAN], [-1, 0, 1, 2, 3], [0, 1, 2, 3, np.inf]],
    "perturbation_seed": ["0", NAN, -1, 2**64],
    "perturbation_norm": ["3", NAN, -1.0, np.inf, None],
}


@pytest.mark.parametrize("key", DATASET_WRONG)
def test_wrong_values_in_a_data_set(tmp_path, key):
    storage.save_dataset(tmp_path, dataset())
    whole = torch.load(tmp_path / "dataset.pt")
    for value in DATASET_WRONG[key]:
        torch.save(whole | {key: value}, tmp_path / "dataset.pt")
        refused(lambda: storage.load_dataset(tmp_path), "dataset.pt", key)


@pytest.mark.parametrize("key", MODEL_WRONG)
def test_wrong_values_in_a_model(tmp_path, key):
    path = storage.save_model(tmp_path, trained())
    whole = torch.load(path)
    for value in MODEL_WRONG[key]:
        torch.save(whole | {key: value}, path)
        refused(lambda: storage.load_model(path, PROBLEM), path.name, key)


@pytest.mark.parametrize("key", SWEEP_WRONG)
def test_wrong_values_in_a_sweep(tmp_path, key):
    path = tmp_path / "data_3.npz"
    for value in SWEEP_WRONG[key]:
        holder = np.empty((), dtype=object)
        holder[()] = value
        np.savez(path, **(vars(sweep()) | {key: holder}))
        refused(lambda: storage.load_sweep(path), path.name)


@pytest.mark.parametrize("key", RAY_WRONG)
def test_wrong_values_in_a_ray(tmp_path, key):
    for value in RAY_WRONG[key]:
        path = storage.save_sweep(tmp_path / "data_3.npz", sweep(wiggle_results=[rays(1)[0] | {key: value}]))
        refused(lambda path=path: storage.load_sweep(path), path.name, "wiggle_results[0]")


OTHERS = [None, "text", 3, -1, 1.5, True, [], {}, ["a"], [[1]], [None], {"a": 1}, BIG, [1, 2, 3, 4, 5, 6]]


def test_every_key_of_every_json_with_every_other_type(tmp_path):
    """One value of another type, or one key gone: read as it is, or one line with the key's name."""
    entry = {"additional_data": 0, "base_train_size": 1, "loss_curve": [1.0, 0.5]}
    contents = {
        "results.json": results(loss_unit="nats", key="additional", key_values=[0, 3], num_directions=5)
    }
    contents["results.json"] |= {"loss_threshold": 0.1, "num_params": 17, "dataset_type": "data"}
    lines = 0
    for name, content in contents.items():
        path = storage.save_results(tmp_path / name, content)
        plain = json.loads(path.read_text())
        del plain["digest"]
        for key in plain:
            for value in OTHERS:
                path.write_text(json.dumps(plain | {key: value}))
                lines += _read_or_told(lambda path=path: storage.load_results(path), key)
            path.write_text(json.dumps({k: v for k, v in plain.items() if k != key}))
            lines += _read_or_told(lambda path=path: storage.load_results(path), key)
    path = storage.save_cutoffs(tmp_path, {"Model_0": entry})
    for key in entry:
        for value in OTHERS:
            path.write_text(json.dumps({"Model_0": entry | {key: value}}))
            lines += _read_or_told(lambda: storage.load_cutoffs(tmp_path), key)
    for content in ({"Model_0": 3}, {"Model_x": entry}, {"Model_0": []}, [entry], 3):
        path.write_text(json.dumps(content))
        refused(lambda: storage.load_cutoffs(tmp_path), "cutoffs.json")
    assert lines > 150


def _read_or_told(load, key: str) -> bool:
    try:
        load()
    except InputError as error:
        assert key in str(error) and "\n" not in str(error)
        return True
    return False


def test_accuracies_of_wrong_types(tmp_path):
    right = {"dataset_sizes": np.array([1, 2]), "test_accuracies": np.array([0.5, 0.75])}
    for key, values in {
        "dataset_sizes": [3, ["a", "b"], [1.5, 2], [1], [[1, 2]], [-1, 2]],
        "test_accuracies": [0.5, ["a", "b"], [-0.5, 0.5], [0.5], [1j, 1j], [[0.5, 0.5]]],
    }.items():
        for value in values:
            np.savez(tmp_path / "test_accuracies.npz", **(right | {key: np.array(value)}))
            refused(lambda: storage.load_test_accuracies(tmp_path), key)


# --- reading imports nothing


OWN = """
open({marker!r}, "a").write("x")
from volume_lib.problems.swiss_roll import SwissRoll

class Own(SwissRoll):
    pass
"""


def test_reading_a_folder_imports_nothing_beside_it_or_above(tmp_path):
    marker = tmp_path / "ran"
    run = tmp_path / "experiment" / "model_0_data_0"
    folder = run / "models_and_data"
    data = dataset()
    data.problem = "own.py:Own"
    storage.save_dataset(folder, data)
    own = get_problem("swiss_roll")
    kwargs = own.full_model_kwargs({}, "MLP")
    model = trained()
    model.model, model.model_class, model.model_kwargs = own.build_model(kwargs, 0, "MLP"), "MLP", kwargs
    path = storage.save_model(folder, model)
    (tmp_path / "experiment" / "experiment.yaml").write_text("problem: own.py:Own\n")
    for place in (folder, run, tmp_path):
        (place / "own.py").write_text(OWN.format(marker=str(marker)))
        storage.load_dataset(folder)
        storage.load_model(path, own)
        message = refused(
            lambda: storage.load_models_and_data(folder), "dataset.pt", "own.py:Own", "problem="
        )
        assert "code is loaded only on request" in message and not marker.exists()
        (place / "own.py").unlink()
    (tmp_path / "own.py").write_text(OWN.format(marker=str(marker)))  # two folders up, asked for by name
    (found,), back = storage.load_models_and_data(folder, "own.py:Own")
    assert marker.read_text() == "x" and back.problem == "own.py:Own" and found.model_class == "MLP"
    (found,), _ = storage.load_models_and_data(folder, own)
    assert marker.read_text() == "x"


def test_a_linked_models_folder_is_where_the_user_says(tmp_path):
    """The user's own problem is looked for along the path as given, not where a link leads."""
    store = tmp_path / "store"
    data = dataset()
    data.problem = "own.py:Own"
    storage.save_dataset(store, data)
    (tmp_path / "work" / "model_7_data_8").mkdir(parents=True)
    (tmp_path / "work" / "own.py").write_text(OWN.format(marker=str(tmp_path / "ran")))
    (tmp_path / "work" / "model_7_data_8" / "models_and_data").symlink_to(store)
    with pytest.raises(InputError, match="no model_"):
        storage.load_models_and_data(tmp_path / "work" / "model_7_data_8" / "models_and_data", "own.py:Own")
    assert (tmp_path / "ran").exists()


def test_sweeps_and_results_are_read_without_torch(tmp_path):
    path = storage.save_sweep(tmp_path / "data_3.npz", sweep())
    code = "import sys; from volume_lib import storage; storage.load_sweep(sys.argv[1])"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == 0


# --- names


def test_model_files_without_a_number(tmp_path):
    storage.save_dataset(tmp_path, dataset())
    path = storage.save_model(tmp_path, trained())
    for name in ("model_best.pt", "model_additional_x.pt", "model_additional_03.pt", "model_additional_٣.pt"):
        (tmp_path / name).write_bytes(path.read_bytes())
        refused(
            lambda name=name: storage.load_model(tmp_path / name, PROBLEM), name, "model_<key>_<number>.pt"
        )
    with pytest.warns(UserWarning, match=r"model_best\.pt left out: no number"):
        models, _ = storage.load_models_and_data(tmp_path, PROBLEM)
    assert [model.value for model in models] == [3]
    (tmp_path / "model_backup_3.pt").write_bytes(path.read_bytes())
    with pytest.warns(
        UserWarning, match=r"model_backup_3\.pt left out: no model of this training, or a copy of one"
    ):
        models, _ = storage.load_models_and_data(tmp_path, PROBLEM)
    assert [model.value for model in models] == [3]
    (tmp_path / "model_backup_3.pt").unlink()
    path.rename(tmp_path / "model_additional_5.pt")
    refused(lambda: storage.load_model(tmp_path / "model_additional_5.pt", PROBLEM), "its name says 5", "3")


@pytest.mark.parametrize("threshold", [0.69314718, 0.6931472, 0.1, 10.0, 1e-5, 1e-12, 0.1 + 0.2, 123456789.0])
def test_the_name_of_a_threshold_gives_it_back(tmp_path, threshold):
    path = storage.save_results(storage.results_path(tmp_path, "data", 0, threshold), results())
    assert storage.list_results(tmp_path) == {("data", 0, threshold): path}


def test_names_of_older_thresholds_stay_readable(tmp_path):
    exact = [0.69314718, 0.1, 0.25]
    for threshold in exact:
        folder = tmp_path / "data_0" / f"loss_{threshold:g}"
        storage.save_results(folder / "results.json", results(loss_threshold=threshold))
    assert [key[2] for key in storage.list_results(tmp_path)] == sorted(exact)
    assert (tmp_path / "data_0" / "loss_0.1").is_dir() and (tmp_path / "data_0" / "loss_0.693147").is_dir()


# --- weights that can be stored


def test_weights_are_stored_or_refused_before_the_work():
    model = nn.Linear(2, 2).to(torch.bfloat16)
    arrays = storage.arrays_of(model)
    assert arrays["weight"].dtype == np.float32
    assert torch.equal(torch.from_numpy(arrays["weight"]).to(torch.bfloat16), model.weight)
    assert storage.arrays_of(nn.BatchNorm1d(2))["num_batches_tracked"].dtype == np.int64
    for value, words in {
        torch.eye(2).to_sparse(): "sparse",
        torch.ones(2, 2, dtype=torch.complex64): "complex",
        torch.ones(2, 2, device="meta"): "on no device",
    }.items():
        model = nn.Linear(2, 2)
        model.weight = nn.Parameter(value)
        with pytest.raises(InputError, match=f"Linear: weight is .*{words}.* cannot be stored"):
            storage.check_storable(model)


def test_a_model_in_bfloat16_comes_back(tmp_path):
    model = trained()
    model.model.to(torch.bfloat16)
    path = storage.save_model(tmp_path, model)
    state = storage.readers.load_torch(path)["state_dict"]
    assert all(torch.equal(state[name], value) for name, value in model.model.state_dict().items())


# --- older .pt files


def test_arrays_in_pt_files_and_files_of_older_torch(tmp_path):
    """The last version's reader took numpy's arrays and scalars in .pt files, and the format before zip."""
    tied = torch.arange(6.0)
    content = {
        "array": np.arange(3.0), "scalar": np.float64(2.5), "flags": np.array([True]), "tied": [tied, tied],
        "view": tied.reshape(2, 3).T[1:], "half": tied.to(torch.bfloat16), "parameter": nn.Parameter(tied),
        "whole": torch.tensor([1, 60_000], dtype=torch.uint16), "empty": torch.zeros(0, 3),
        "state": nn.Linear(1, 1).state_dict(),
    }  # fmt: skip
    for zipped in (True, False):
        if not zipped:
            del content["whole"]  # has no place in the older format
        torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        found = storage.readers.load_torch(tmp_path / "a.pt")
        assert found.keys() == content.keys()
        assert found["array"].tolist() == [0, 1, 2] and found["scalar"] == 2.5 and found["flags"].all()
        assert found["tied"][0].data_ptr() == found["tied"][1].data_ptr()
        for name in content.keys() - {"array", "scalar", "flags", "tied", "state"}:
            assert torch.equal(found[name], content[name]) and found[name].dtype == content[name].dtype, name


def test_nothing_is_added_to_torchs_own_list(tmp_path):
    before = list(torch.serialization.get_safe_globals())
    storage.save_dataset(tmp_path, dataset())
    storage.load_dataset(tmp_path)
    assert torch.serialization.get_safe_globals() == before
