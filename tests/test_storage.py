"""Files: round trips, older layouts, damage, and pickles that would run something."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import pickle
import struct
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from volume_lib import storage
from volume_lib.errors import InputError
from volume_lib.records import Dataset, Sweep, TrainedModel
from volume_lib.storage.archives import Refused
from volume_lib.storage.arrays import array_names
from volume_lib.storage.pickles import Machine, Maker, RefusedName
from volume_lib.storage.readers import load_npz
from volume_lib.storage.results import _from_json, _to_json
from volume_lib.storage.tensors import names_in_arrays, tensor_names


def build(model_kwargs, seed, model_class=None):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(2, model_kwargs["width"]), nn.Tanh(), nn.Linear(model_kwargs["width"], 1)
        )


PROBLEM = SimpleNamespace(
    name="toy",
    model_classes={"Net": nn.Sequential},
    default_model_kwargs=lambda model_class: {"width": 4},
    build_model=build,
)


def dataset(n=6) -> Dataset:
    x = torch.arange(4 * n, dtype=torch.float32).reshape(-1, 2)
    y = torch.arange(2 * n)
    return Dataset(x[:2], y[:2], x[2:8], y[2:8], x[8:], y[8:], [0, 3, 6], "data", "toy", 10)


def trained(value=3, key="additional", **settings) -> TrainedModel:
    curves = dict(train_loss=[0.7, 0.1], test_loss=[0.8, 0.2], train_accs=[0.5, 1.0], test_accs=[0.5, 0.9])
    level = value if key == "additional" else 0
    model = build({"width": 4}, value)
    return TrainedModel(
        model, "Net", {"width": 4}, 1, "toy", "data", level, **curves, settings=settings, key=key, value=value
    )


def rays(directions=3, coefficients=5) -> list[dict]:
    generator = np.random.default_rng(0)
    return [
        {
            "loss": np.sort(generator.random(coefficients)),
            "accs": generator.random(coefficients),
            "coefficients": np.linspace(0, 1, coefficients),
            "perturbation_seed": seed,
            "perturbation_norm": 3.0 + seed,
        }
        for seed in range(directions)
    ]


def sweep(**changes) -> Sweep:
    state = {name: value.numpy() for name, value in build({"width": 4}, 0).state_dict().items()}
    content = dict(
        wiggle_results=rays(), additional_data=0, model_trained_data=3, dataset_type="data",
        base_dataset_size=2, test_loss=0.2, test_accs=0.9, train_loss=0.1, num_params=17, state_dict=state,
        scaling="filter", log_det_scaling=-3.5, search="crossing", loss_thresholds=[0.1, 0.2],
        acc_threshold=None, value=3,
    )  # fmt: skip
    return Sweep(**(content | changes))


def assert_same_sweep(one: Sweep, other: Sweep) -> None:
    for ray, back in zip(one.wiggle_results, other.wiggle_results, strict=True):
        for name, value in ray.items():
            np.testing.assert_array_equal(value, back[name])
    assert one.state_dict.keys() == other.state_dict.keys()
    for name, value in one.state_dict.items():
        np.testing.assert_array_equal(value, other.state_dict[name])
        assert value.dtype == other.state_dict[name].dtype
    for name in vars(one).keys() - {"wiggle_results", "state_dict"}:
        assert getattr(one, name) == getattr(other, name), name
        assert type(getattr(one, name)) is type(getattr(other, name)), name


# --- round trips


def test_dataset_round_trip_and_weights_only(tmp_path):
    path = storage.save_dataset(tmp_path, dataset())
    assert path == tmp_path / "dataset.pt"
    back = storage.load_dataset(tmp_path)
    for name, value in vars(dataset()).items():
        same = (
            torch.equal(value, getattr(back, name))
            if torch.is_tensor(value)
            else value == getattr(back, name)
        )
        assert same, name
    assert set(torch.load(path, weights_only=True)) == set(vars(dataset()))


def test_a_slice_of_a_big_tensor_is_saved_alone(tmp_path):
    big = torch.zeros(1_000_000, 2)
    small = Dataset(big[:2], big[:2], big[2:4], big[2:4], big[4:6], big[4:6], [0, 2], "data", "toy", 0)
    assert storage.save_dataset(tmp_path, small).stat().st_size < 20_000


def test_models_and_data_round_trip(tmp_path):
    storage.save_dataset(tmp_path, dataset())
    for level in (10, 0, 3):
        storage.save_model(tmp_path, trained(level, optimizer="adam", learning_rate=np.float64(0.001)))
    assert (tmp_path / "model_additional_10.pt").exists()
    models, data = storage.load_models_and_data(tmp_path, problem=PROBLEM)
    assert [model.value for model in models] == [0, 3, 10]  # by number, not by name
    assert data.dataset_quantities == [0, 3, 6]
    for model in models:
        expected = trained(model.value, optimizer="adam", learning_rate=0.001)
        assert not model.model.training
        for name, weights in expected.model.state_dict().items():
            assert torch.equal(weights, model.model.state_dict()[name])
        for name in vars(expected).keys() - {"model"}:
            assert getattr(model, name) == getattr(expected, name), name


def test_other_varying_key(tmp_path):
    path = storage.save_model(tmp_path, trained(100, key="batch_size", epochs=5))
    assert path.name == "model_batch_size_100.pt"
    assert torch.load(path, weights_only=True)["batch_size"] == 100
    back = storage.load_model(path, PROBLEM)
    assert (back.key, back.value, back.level, back.settings) == (
        "batch_size",
        100,
        0,
        {"epochs": 5},
    )
    assert storage.sweep_path("run", "data", 0, "batch_size", 100) == Path("run/data_0/batch_size_100.npz")


def test_model_file_has_the_documented_keys(tmp_path):
    content = torch.load(storage.save_model(tmp_path, trained(epochs=5)), weights_only=True)
    documented = (
        "state_dict train_loss test_loss train_accs test_accs additional_data dataset_type model_class"
    )
    assert set(documented.split()) | {
        "problem",
        "model_kwargs",
        "model_seed",
        "key",
        "epochs",
        "weights_digest",
    } == set(content)


@pytest.mark.parametrize("settings", [{"problem": "x"}, {"folder": Path("x")}])
def test_settings_that_the_file_cannot_hold(tmp_path, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        storage.save_model(tmp_path, trained(**settings))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("changes", [{}, {"acc_threshold": 0.9}, {"key": "epochs", "value": 7}])
def test_sweep_round_trip(tmp_path, changes):
    path = storage.save_sweep(tmp_path / "data_0" / "data_3.npz", sweep(**changes))
    assert_same_sweep(sweep(**changes), storage.load_sweep(path))


def test_the_same_content_is_the_same_file(tmp_path, monkeypatch):
    def written() -> list[bytes]:
        paths = storage.save_sweep(tmp_path / "a.npz", sweep()), storage.save_model(tmp_path, trained())
        return [path.read_bytes() for path in paths]

    first = written()
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert written() == first


def test_sweep_file_reads_as_the_spec_says(tmp_path):
    """Other people's notebooks read it with plain numpy."""
    path = storage.save_sweep(tmp_path / "data_3.npz", sweep())
    content = np.load(path, allow_pickle=True)
    keys = (
        "wiggle_results additional_data model_trained_data dataset_type base_dataset_size test_loss test_accs"
    )
    assert set(keys.split()) | {"num_params", "state_dict", "scaling", "log_det_scaling"} <= set(content)
    assert content["wiggle_results"].shape == (3,)
    ray = content["wiggle_results"][1]
    assert set(ray) == {"loss", "coefficients", "accs", "perturbation_seed", "perturbation_norm"}
    assert set(content["state_dict"].item()) == set(sweep().state_dict)


def test_list_sweeps_by_number(tmp_path):
    for level, value in [(10, 10), (0, 0), (0, 10), (0, 9)]:
        storage.save_sweep(storage.sweep_path(tmp_path, "poison", level, "additional", value), sweep())
    (tmp_path / "poison_0" / "loss_0.1").mkdir()
    (tmp_path / "data_5").mkdir()
    found = {level: [path.name for path in paths] for level, paths in storage.list_sweeps(tmp_path).items()}
    assert found == {0: ["poison_0.npz", "poison_9.npz", "poison_10.npz"], 10: ["poison_10.npz"]}
    assert storage.list_sweeps(tmp_path, "data") == {}


def test_a_real_sized_sweep_is_quick(tmp_path):
    started = time.perf_counter()
    path = storage.save_sweep(tmp_path / "data_0.npz", sweep(wiggle_results=rays(500, 40)))
    storage.load_sweep(path)
    assert time.perf_counter() - started < 3  # 0.03 s alone; the machine may be busy


def results(**changes) -> dict:
    content = {
        "test_loss_values": [0.5, 0.25], "train_loss_values": np.array([0.1, math.nan]),
        "log_exp_r_n_values": [-math.inf, np.float32(-12.5)], "model_data_levels": [0, np.int64(3)],
        "log_exp_r_n_ci": [[-math.inf, -math.inf], [-13.0, -12.0]], "loss_landscape_data_param": 0,
        "acc_threshold": None, "loss_predicts_minimas": np.bool_(True), "top_r_vals": np.zeros((2, 1)),
    }  # fmt: skip
    return content | changes


def test_results_are_strict_json_and_come_back(tmp_path):
    path = storage.save_results(storage.results_path(tmp_path, "data", 0, 0.1), results())
    assert path == tmp_path / "data_0" / "loss_0.1" / "results.json"

    def refuse(name):
        raise AssertionError(name)

    plain = json.loads(path.read_text(), parse_constant=refuse)
    assert plain["log_exp_r_n_values"] == [None, -12.5]
    back = storage.load_results(path)
    assert back["log_exp_r_n_values"] == [-math.inf, -12.5]
    assert back["log_exp_r_n_ci"] == [[-math.inf, -math.inf], [-13.0, -12.0]]
    assert back["acc_threshold"] is None and back["loss_predicts_minimas"] is True
    assert math.isnan(back["train_loss_values"][1])


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_log_volume_that_is_no_log_is_not_written_as_zero(tmp_path, value):
    with pytest.raises(ValueError, match="log_exp_r_n_values"):
        storage.save_results(tmp_path / "results.json", results(log_exp_r_n_values=[value, 0.0]))


@given(st.lists(st.floats(allow_nan=False).filter(lambda value: value != math.inf)))
def test_every_log_volume_survives(values):
    text = json.dumps(_to_json({"log_volume_values": values}, ""), allow_nan=False)
    assert _from_json(json.loads(text), "")["log_volume_values"] == values


def test_curves_with_and_without_unknown_losses_come_back(tmp_path):
    entry = {"additional_data": 0, "base_train_size": 1}
    curves = {"Model_0": [1, 0.5, 2.25], "Model_4": [0.5, math.inf, 0.25], "Model_9": []}
    storage.save_cutoffs(tmp_path, {name: entry | {"loss_curve": curve} for name, curve in curves.items()})
    back = {name: entry["loss_curve"] for name, entry in storage.load_cutoffs(tmp_path).items()}
    assert back["Model_0"] == curves["Model_0"] and back["Model_9"] == []
    assert math.isnan(back["Model_4"][1]) and back["Model_4"][::2] == [0.5, 0.25]


def test_cutoffs_and_accuracies_round_trip(tmp_path):
    cutoffs = {"Model_3": {"additional_data": 3, "base_train_size": 2, "loss_curve": np.array([0.5, 0.25])}}
    assert storage.save_cutoffs(tmp_path, cutoffs) == tmp_path / "cutoffs" / "cutoffs.json"
    assert storage.load_cutoffs(tmp_path)["Model_3"]["loss_curve"] == [0.5, 0.25]
    storage.save_test_accuracies(tmp_path, [2, 5], [0.5, 0.9])
    sizes, accuracies = storage.load_test_accuracies(tmp_path)
    assert sizes.tolist() == [2, 5] and accuracies.tolist() == [0.5, 0.9]
    plain = np.load(tmp_path / "test_accuracies.npz")
    assert set(plain) == {"dataset_sizes", "test_accuracies", "digest"}


# --- files of older notebooks


def test_older_sweep(tmp_path):
    state = np.array({"weight": torch.ones(2, 3), "bias": nn.Parameter(torch.zeros(2)[::2])}, dtype=object)
    old = rays()
    for ray in old:
        ray.update(loss=list(ray["loss"]), accs=[np.float32(value) for value in ray["accs"]])
    content = dict(
        wiggle_results=old, additional_data=0, model_trained_data=3, dataset_type="data", base_dataset_size=2,
        test_loss=[0.5, 0.25], test_accs=0.9, num_params=8, model_state=state,
    )  # fmt: skip
    np.savez(tmp_path / "data_3.npz", **content)
    back = storage.load_sweep(tmp_path / "data_3.npz")
    assert back.state_dict["weight"].shape == (2, 3) and isinstance(back.state_dict["bias"], np.ndarray)
    assert (back.search, back.value, back.test_loss, back.format_version) == ("grid", 3, 0.25, 0)
    assert math.isnan(back.log_det_scaling) and math.isnan(back.train_loss)
    assert back.wiggle_results[0]["loss"].tolist() == old[0]["loss"]


def test_older_names_of_numpy_and_protocols(tmp_path):
    """Numpy 1 and 2 place the same function differently; protocol 2 writes bytes as text."""
    array = np.empty(1, dtype=object)
    array[0] = {"loss": np.arange(3.0), "one": np.float64(2.5), "seed": 7}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    pickles = [pickle.dumps(array, protocol=protocol) for protocol in (2, 3, 4, 5)]
    for data in pickles[:2]:  # later protocols put the name's length before it
        pickles.append(data.replace(b"numpy._core", b"numpy.core"))
        pickles.append(data.replace(b"numpy.core", b"numpy._core"))
    for data in pickles:
        with zipfile.ZipFile(tmp_path / "old.npz", "w") as archive:
            archive.writestr("rays.npy", header.getvalue() + data)
        back = load_npz(tmp_path / "old.npz")["rays"][0]
        assert back["loss"].tolist() == [0, 1, 2] and back["one"] == 2.5 and back["seed"] == 7


def test_older_model_and_dataset(tmp_path):
    folder = tmp_path / "model_4_data_2" / "models_and_data"
    storage.save_dataset(folder, dataset())
    content = torch.load(folder / "dataset.pt", weights_only=True)
    del content["problem"], content["data_seed"]
    torch.save(content, folder / "dataset.pt")
    model = trained()
    old = dict(
        model_state=dict(model.model.state_dict()), train_loss=[np.float64(0.1)], test_loss=[0.2],
        train_accs=np.array([1.0]), test_accs=[0.9], additional_data=3, dataset_type="data",
        model_class="Net", epochs=5,
    )  # fmt: skip
    torch.save(old, folder / "model_additional_3.pt")
    with pytest.raises(InputError, match="does not name its problem"):
        storage.load_models_and_data(folder)
    (back,), data = storage.load_models_and_data(folder, problem=PROBLEM)
    assert (data.data_seed, back.model_seed, back.settings) == (2, 4, {"epochs": 5})
    assert back.train_loss == [0.1] and back.train_accs == [1.0]
    x = torch.randn(5, 2)
    assert torch.equal(back.model(x), model.model(x))


def test_older_results(tmp_path):
    old = {
        "test_loss_values": [0.5], "log_exp_r_n_values": [-math.inf], "model_data_levels": [0],
        "loss_landscape_data_param": 0,
    }  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps(old))
    assert "-Infinity" in (tmp_path / "results.json").read_text()
    assert storage.load_results(tmp_path / "results.json") == old | {"loss_unit": "nats"}


# --- damage


def damaged(path: Path):
    """The file truncated at several places, with a byte flipped, emptied, and replaced by others' files."""
    whole = path.read_bytes()
    for part in (0.1, 0.5, 0.9, 0.999):
        yield whole[: int(len(whole) * part)]
    yield from (b"", b"hello\n", b"{}", b"[1, 2]", b"\x80\x04.", b"PK\x03\x04")
    buffer = io.BytesIO()
    np.savez(buffer, other=np.ones(3))
    yield buffer.getvalue()
    buffer = io.BytesIO()
    torch.save({"other": torch.ones(3)}, buffer)
    yield buffer.getvalue()
    buffer = io.BytesIO()
    torch.save(torch.ones(3), buffer)
    yield buffer.getvalue()


def kinds(folder: Path):
    storage.save_dataset(folder, dataset())
    model = storage.save_model(folder, trained())
    rays_file = storage.save_sweep(folder / "data_3.npz", sweep())
    json_file = storage.save_results(folder / "results.json", results())
    cutoffs = storage.save_cutoffs(
        folder, {"Model_0": dict(additional_data=0, base_train_size=1, loss_curve=[1])}
    )
    accuracies = storage.save_test_accuracies(folder, [1], [0.5])
    yield folder / "dataset.pt", lambda: storage.load_dataset(folder), storage.TRAIN_NOTEBOOK
    yield model, lambda: storage.load_model(model, PROBLEM), storage.TRAIN_NOTEBOOK
    yield rays_file, lambda: storage.load_sweep(rays_file), storage.PERTURB_NOTEBOOK
    yield json_file, lambda: storage.load_results(json_file), storage.VOLUME_NOTEBOOK
    yield cutoffs, lambda: storage.load_cutoffs(folder), storage.CUTOFF_NOTEBOOK
    yield accuracies, lambda: storage.load_test_accuracies(folder), storage.ACCURACY_NOTEBOOK


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_told_by_name(tmp_path):
    for path, load, notebook in kinds(tmp_path):
        load()
        whole = path.read_bytes()
        for data in damaged(path):
            if (path.name, data) == ("cutoffs.json", b"{}") or data.split() == whole.split():
                continue  # no models, or only the last newline gone: legal
            path.write_bytes(data)
            with pytest.raises(InputError) as caught:
                load()
            message = str(caught.value)
            assert str(path) in message and notebook in message and "\n" not in message
        path.unlink()
        with pytest.raises(InputError, match="does not exist"):
            load()


def test_a_flipped_bit_is_seen(tmp_path):
    """Archives carry checksums; a sweep with one wrong bit must not give a radius."""
    path = storage.save_sweep(tmp_path / "data_3.npz", sweep())
    whole = bytearray(path.read_bytes())
    at = whole.find(struct.pack("<d", sweep().wiggle_results[1]["loss"][2]))
    assert at > 0
    whole[at] ^= 1
    path.write_bytes(bytes(whole))
    with pytest.raises(InputError, match=r"truncated or not a \.npz file"):
        storage.load_sweep(path)


def test_weights_of_another_architecture(tmp_path):
    path = storage.save_model(tmp_path, trained())
    content = torch.load(path, weights_only=True)
    torch.save(content | {"model_kwargs": {"width": 5}}, path)
    with pytest.raises(InputError, match=r"weights do not fit Net with \{'width': 5\}"):
        storage.load_model(path, PROBLEM)
    torch.save(content | {"model_class": "Other"}, path)
    with pytest.raises(InputError, match=r"model_class 'Other' is not one of problem toy's \(Net\)"):
        storage.load_model(path, PROBLEM)


def test_rays_of_unequal_length(tmp_path):
    bad = rays()
    bad[1]["loss"] = bad[1]["loss"][:-1]
    path = storage.save_sweep(tmp_path / "data_3.npz", sweep(wiggle_results=bad))
    with pytest.raises(InputError, match="differ in length"):
        storage.load_sweep(path)


# --- pickles that would run something


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_payloads_are_refused_by_name_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists()  # the payload works where it is let
    marker.unlink()

    content = vars(sweep()) | {"wiggle_results": np.array([Payload(marker)], dtype=object)}
    np.savez(tmp_path / "data_3.npz", **content)
    with pytest.raises(InputError, match=r"data_3.npz: refused, its pickle names posix.system"):
        storage.load_sweep(tmp_path / "data_3.npz")

    torch.save({"state_dict": Payload(marker)}, tmp_path / "model_additional_3.pt")
    with pytest.raises(InputError, match=r"model_additional_3.pt: refused, its pickle names posix.system"):
        storage.load_model(tmp_path / "model_additional_3.pt", PROBLEM)

    inner = io.BytesIO()  # hidden in what stands for a tensor's memory

    class Nested:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (inner.getvalue(),)

    for zipped, words in ((False, "its pickle names posix.system"), (True, "an archive of its own")):
        inner = io.BytesIO()
        torch.save(Payload(marker), inner, _use_new_zipfile_serialization=zipped)
        nested = np.array([Nested()], dtype=object)
        np.savez(tmp_path / "data_3.npz", **(content | {"wiggle_results": nested}))
        with pytest.raises(InputError, match=f"refused, .*{words}"):
            storage.load_sweep(tmp_path / "data_3.npz")
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["builtins.eval", "builtins.getattr", "builtins.int", "numpy.load", "torch.load", "os.system"]
)
def test_names_outside_the_list(name):
    module, _, attribute = name.rpartition(".")
    for data in (
        f"c{module}\n{attribute}\n.".encode(),
        b"\x80\x04"
        + b"".join(b"\x8c" + bytes([len(p)]) + p.encode() for p in (module, attribute))
        + b"\x93.",
    ):
        with pytest.raises(RefusedName, match=name):
            Machine(data, names_in_arrays()).load()


def test_a_pickle_cannot_change_what_it_calls():
    """BUILD with slots sets attributes on any object: here new defaults on the allowed functions."""
    for name, entry in (names_in_arrays() | tensor_names()).items():
        module, _, attribute = name.rpartition(".")
        state = b"(N(dX\x0c\x00\x00\x00__defaults__K\x01stb.".replace(b"(d", b"}")
        with pytest.raises(Refused, match="gives a state to what takes none"):
            Machine(f"c{module}\n{attribute}\n".encode() + state, names_in_arrays()).load()
        assert not hasattr(entry, "__dict__") or type(entry) is torch.dtype


# --- writing whole or not at all


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), storage.atomic_write(path) as temporary:
        temporary.write_text("half")
        assert temporary.parent == path.parent and path.read_text() == "old"
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with storage.atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_with_the_files_own_name(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*data_3.npz") as caught:
        storage.save_sweep(tmp_path / "data_3.npz", sweep())
    assert caught.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        storage.save_results(tmp_path / "file" / "results.json", results())


def test_leftovers_of_killed_writers_go(tmp_path):
    left = tmp_path / "data_0" / ".data_3.npz.0123abcd.tmp"
    left.parent.mkdir()
    left.write_text("half")
    users = tmp_path / "notes.tmp"
    users.write_text("mine")
    assert storage.remove_temporary_files(tmp_path) == [left]
    assert users.exists() and not left.exists()


def test_arrays_read_at_once_are_those_read_step_by_step():
    """Values, memo and limits: numpy's usual steps for a vector are taken together, or one by one."""

    def plain(value):
        if isinstance(value, np.ndarray):
            value = value.astype(value.dtype.newbyteorder("="))  # as numpy's own reader turns it
            return value.dtype.str, value.shape, value.tobytes()
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, list) else value

    rng = np.random.default_rng(0)
    vectors = [rng.random(n) for n in (1, 3, 40, 300, 70_000)]
    shared = [vectors[1], {"again": vectors[1], "same": vectors[1][:0]}]
    others = [np.arange(3), rng.random((2, 3)), rng.random(4).astype(">f8"), rng.random(5).astype("f4")]
    rays = [{"loss": rng.random(n), "accs": rng.random(n), "seed": n} for n in range(1, 60)]
    for protocol in (2, 3, 4, 5):
        data = pickle.dumps([*vectors, shared, *others, rays], protocol)
        quick, slow = array_names(), array_names()
        for maker in slow.values():
            if isinstance(maker, Maker):
                maker.shortcut = None
        one, two = (Machine(data, names) for names in (quick, slow))
        a, b = one.load(), two.load()
        assert plain(a) == plain(b) == plain(pickle.loads(data))
        assert one.containers == two.containers and one.memo.keys() == two.memo.keys()
        assert all(array.flags.writeable for array in a[:5])


def test_an_array_of_other_bytes_than_its_shape_says_is_refused_at_once_too():
    good = pickle.dumps([np.arange(3.0), np.arange(4.0)], 4)
    at = good.rindex(b"K\x04")
    with pytest.raises(ValueError, match="more or fewer bytes"):
        Machine(good[:at] + b"K\x05" + good[at + 2 :], array_names()).load()
