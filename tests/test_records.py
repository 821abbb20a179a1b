"""What is read is what made it; what is a user's stays; what is stale is seen."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tiny_experiment as tiny
import torch
from typer.testing import CliRunner

from volume_lib import batch, sources, storage
from volume_lib.analysis import runs
from volume_lib.batch import (
    belongings,
    cluster,
    engine,
    folders,
    locks,
    notebooks,
    resources,
    runner,
    steps,
    worker,
)
from volume_lib.batch.cells import inject
from volume_lib.batch.resources import Place, Resources
from volume_lib.cli import app
from volume_lib.errors import InputError
from volume_lib.experiment import differences
from volume_lib.experiment.file import read_experiment
from volume_lib.problems import get_problem, provenance, registry
from volume_lib.problems.splits import make_dataset
from volume_lib.problems.swiss_roll import SwissRoll
from volume_lib.sweep.run import run_sweep
from volume_lib.training.runs import train_models

TINY = {"hidden_dims": [4], "output_dim": 1, "input_dim": 2}


def tiny_dataset(problem=None, **more):
    sizes = {"base_data_size": 8, "dataset_quantities": [0, 4], "data_seed": 1, "test_size": 20}
    return make_dataset(problem or get_problem("swiss_roll"), **{**sizes, **more})


def tiny_models(folder: Path, dataset, problem=None, **more):
    settings = {"model": TINY, "model_seed": 0, "epochs": 30, "batch_size": 8, "learning_rate": 0.05}
    settings["target_train_loss"] = None
    problem = problem or get_problem("swiss_roll")
    return train_models(problem, dataset, folder=folder / "models_and_data", **{**settings, **more})


def sweep(run: Path, models, dataset, problem=None, **more):
    settings = {"num_directions": 3, "loss_thresholds": [1.0], **more}
    return run_sweep(problem or get_problem("swiss_roll"), models, dataset, run, **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run by hand: its folder, models and data; never written to by a test."""
    run = tmp_path_factory.mktemp("run")
    dataset = tiny_dataset()
    return run, tiny_models(run, dataset), dataset


class Tripled(SwissRoll):
    def per_sample_loss(self, outputs, y):
        return 3 * super().per_sample_loss(outputs, y)


# --- a sweep again in the same folder


def radii(path: Path) -> np.ndarray:
    return np.array([ray["coefficients"][-1] for ray in storage.load_sweep(path).wiggle_results])


def test_a_sweep_on_other_data_or_with_another_loss_is_computed(trained, tmp_path):
    _, models, dataset = trained
    paths = sweep(tmp_path, models, dataset)
    before = [path.stat().st_mtime_ns for path in paths]
    assert [path.stat().st_mtime_ns for path in sweep(tmp_path, models, dataset)] == before
    other_data = tiny_dataset(data_seed=2)
    other_targets = replace(dataset, y_base_train=1 - dataset.y_base_train)
    for given, problem in ((other_data, None), (other_targets, None), (dataset, Tripled()), (dataset, None)):
        for again, fresh in zip(
            sweep(tmp_path, models, given, problem),
            sweep(tmp_path / "fresh" / str(id(given)), models, given, problem),
            strict=True,
        ):
            np.testing.assert_array_equal(radii(again), radii(fresh))


def test_an_older_file_without_digests_counts_while_its_own_loss_agrees(trained, tmp_path):
    _, models, dataset = trained
    paths = sweep(tmp_path, models, dataset)
    for path in paths:
        old = storage.load_sweep(path)
        old.samples_digest = old.problem_digest = ""
        storage.save_sweep(path, old)
    before = [path.stat().st_mtime_ns for path in paths]
    assert [path.stat().st_mtime_ns for path in sweep(tmp_path, models, dataset)] == before
    after = [path.stat().st_mtime_ns for path in sweep(tmp_path, models, dataset, Tripled())]
    assert all(a != b for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("seed", [-1, 2**63 - 2, 2**64])
def test_seeds_of_directions_that_cannot_be_stored(trained, tmp_path, seed):
    _, models, dataset = trained
    with pytest.raises(InputError, match="perturbation_seed"):
        sweep(tmp_path, models, dataset, perturbation_seed=seed)
    assert not list(tmp_path.iterdir())


# --- training again


def test_a_training_is_repeated_when_test_set_or_loss_changed(tmp_path):
    first = tiny_models(tmp_path, tiny_dataset())
    assert tiny_models(tmp_path, tiny_dataset())[0].test_loss == first[0].test_loss
    wider = tiny_models(tmp_path, tiny_dataset(test_size=200))
    fresh = tiny_models(tmp_path / "fresh", tiny_dataset(test_size=200))
    assert [model.test_loss for model in wider] == [model.test_loss for model in fresh]
    assert wider[0].test_loss != first[0].test_loss
    tripled = tiny_models(tmp_path, tiny_dataset(), Tripled())
    fresh = tiny_models(tmp_path / "tripled", tiny_dataset(), Tripled())
    assert [model.train_loss for model in tripled] == [model.train_loss for model in fresh]


class Bounded(torch.nn.Linear):
    def __init__(self, low=math.nan):
        super().__init__(2, 1)


class Unbounded(SwissRoll):
    model_classes: ClassVar = {"Bounded": Bounded}

    def default_model_kwargs(self, model_class):
        return {"low": math.nan}


def test_a_network_whose_argument_is_nan_is_itself(tmp_path):
    arguments = {"model": {"low": math.nan}, "epochs": 1}
    tiny_models(tmp_path, tiny_dataset(Unbounded()), Unbounded(), **arguments)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}
    tiny_models(tmp_path, tiny_dataset(Unbounded()), Unbounded(), **arguments)
    models = [path for path in before if path.name != "dataset.pt"]
    assert all(path.stat().st_mtime_ns == before[path] for path in models)
    found, _ = storage.load_models_and_data(tmp_path / "models_and_data", Unbounded())
    assert len(found) == 2
    asked = {"model_kwargs": {"low": math.nan}}
    assert not differences.differs(models[0], {"model_kwargs": {"low": math.nan}}, asked, ["model_kwargs"])
    assert differences.differs(models[0], {"model_kwargs": {"low": 0.0}}, asked, ["model_kwargs"])


# --- digests of code


OWN = """
import torch
from torch import nn
import {helper}
from volume_lib.problems import Problem
from volume_lib.records import Data


class Mine(Problem):
    num_classes = 2
    model_classes = {{"L": nn.Linear}}

    def load(self, root=None):
        x = torch.arange(80.0).reshape(40, 2) * {helper}.SCALE
        return Data(x, (x[:, 0] > 40).long(), x, (x[:, 0] > 40).long())

    def default_model_kwargs(self, model_class):
        return {{"in_features": 2, "out_features": 2}}
"""


def test_the_digest_of_code_sees_what_is_imported_from_beside_and_no_comment(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    path, helper = tmp_path / "mine.py", tmp_path / "helper_of_mine.py"
    path.write_text(OWN.format(helper="helper_of_mine"))
    helper.write_text("SCALE = 1\n")
    first = sources.source_digest(path)
    assert provenance.problem_digest(get_problem("mine.py:Mine", tmp_path)) == provenance.problem_digest(
        get_problem("mine.py:Mine", tmp_path)
    )
    path.write_text("# a comment\n" + path.read_text().replace("    num", '    """Text."""\n\n    num'))
    helper.write_text('"""Text."""\nSCALE  =  1  # one\n')
    assert sources.source_digest(path) == first
    helper.write_text("SCALE = 3\n")
    assert sources.source_digest(path) != first


def test_a_problem_imports_what_lies_beside_it_as_it_is_now(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    late = OWN.format(helper="helper_of_mine").replace("import helper_of_mine\n", "")
    late = late.replace(
        "        x = torch", "        import package_of_mine.helper as helper_of_mine\n        x = torch"
    )
    for name, code, scale in (("a", OWN.format(helper="helper_of_mine"), 1), ("b", late, 3)):
        helper = tmp_path / name / ("helper_of_mine.py" if name == "a" else "package_of_mine/helper.py")
        helper.parent.mkdir(parents=True)
        helper.write_text(f"SCALE = {scale}\n")
        (tmp_path / name / "mine.py").write_text(code)

    def largest(name):
        return get_problem("mine.py:Mine", tmp_path / name / "model_0_data_0").load().x_train.max()

    assert (largest("a"), largest("b"), largest("a")) == (79, 3 * 79, 79)
    (tmp_path / "a" / "helper_of_mine.py").write_text("SCALE = 2\n")
    (tmp_path / "b" / "package_of_mine" / "helper.py").write_text("SCALE = 4\n")
    assert (largest("a"), largest("b")) == (2 * 79, 4 * 79)
    # another folder's module of that name, which somebody imported before
    (tmp_path / "c").mkdir()
    shutil.copy(tmp_path / "a" / "mine.py", tmp_path / "c")
    (tmp_path / "c" / "helper_of_mine.py").write_text("SCALE = 5\n")
    assert largest("c") == 5 * 79
    assert not list(tmp_path.glob("[ac]/__pycache__"))


def test_the_digest_of_a_problem_knows_its_attributes_and_functions():
    class Weighted(SwissRoll):
        def __init__(self, weight, function=abs):
            self.weight, self.function, self._cache = torch.tensor([weight]), function, object()

    def twice(x):
        return 2 * x

    def thrice(x):
        return 3 * x

    digests = {provenance.problem_digest(p) for p in (Weighted(1.0), Weighted(2.0), Weighted(1.0, twice))}
    assert len(digests | {provenance.problem_digest(Weighted(1.0, thrice))}) == 4
    assert provenance.problem_digest(Weighted(1.0)) == provenance.problem_digest(Weighted(1.0))


# --- models trained elsewhere


def checkpoint(path: Path, seed: int = 3, wrap=None, kwargs=TINY) -> dict:
    """Weights of the tiny network in a file; the state."""
    state = get_problem("swiss_roll").build_model(kwargs, seed).state_dict()
    torch.save(wrap(state) if wrap else state, path)
    return state


def loss_of(state, x, y) -> float:
    problem = get_problem("swiss_roll")
    model = problem.build_model(TINY, 0)
    model.load_state_dict(state)
    with torch.no_grad():
        return problem.per_sample_loss(model.double()(x.double()), y).mean().item()


@pytest.mark.parametrize(
    "wrap",
    [
        None,
        lambda state: {"model_state_dict": state, "epoch": 3},
        lambda state: {f"module.{name}": value for name, value in state.items()},
    ],
)
def test_checkpoints_are_imported_and_the_other_levels_trained(tmp_path, monkeypatch, wrap):
    monkeypatch.chdir(tmp_path)
    state, dataset = checkpoint(tmp_path / "a.pt", wrap=wrap), tiny_dataset()
    first, second = tiny_models(tmp_path, dataset, checkpoints={"0": "a.pt"})
    assert first.settings["imported"] and first.settings["source"] == "a.pt"
    assert all(torch.equal(first.model.state_dict()[name], value) for name, value in state.items())
    assert first.train_loss == [pytest.approx(loss_of(state, *dataset.upto(0)), rel=1e-5)]
    assert first.test_loss == [pytest.approx(loss_of(state, dataset.x_test, dataset.y_test), rel=1e-5)]
    assert not second.settings.get("imported") and len(second.train_loss) == 30
    # whatever the training is asked for later, the imported one stays
    path = tmp_path / "models_and_data" / "model_additional_0.pt"
    before = path.read_bytes()
    for more in ({"epochs": 5}, {"checkpoints": {0: "a.pt"}}, {"model_seed": 9}):
        again = tiny_models(tmp_path, dataset, **more)
        assert again[0].settings["imported"] and path.read_bytes() == before
    checkpoint(tmp_path / "b.pt", seed=4)
    with pytest.raises(InputError, match=r"model_additional_0.pt: is there already and is never replaced"):
        tiny_models(tmp_path, dataset, checkpoints={0: "b.pt"})
    with pytest.raises(InputError, match=r"model_additional_0.pt: imported for other samples"):
        tiny_models(tmp_path, tiny_dataset(data_seed=5))
    assert path.read_bytes() == before
    assert [len(storage.load_sweep(p).wiggle_results) for p in sweep(tmp_path, again, dataset)] == [3, 3, 3]


def test_checkpoints_that_cannot_be_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint(tmp_path / "wide.pt", kwargs={**TINY, "hidden_dims": [5]})
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": 1}, tmp_path / "number.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    (tmp_path / "noise.pt").write_bytes(b"noise")
    for name, told in {
        "wide.pt": "wide.pt: its weights do not fit MLP",
        "list.pt": "list.pt: holds no weights",
        "number.pt": "'a' is a int, no tensor",
        "module.pt": "module.pt: refused",
        "noise.pt": "noise.pt: truncated or not",
        "none.pt": "no none.pt in",
    }.items():
        with pytest.raises(InputError, match=told):
            tiny_models(tmp_path, tiny_dataset(), checkpoints={0: name})
    with pytest.raises(InputError, match="7 is not one of"):
        tiny_models(tmp_path, tiny_dataset(), checkpoints={7: "wide.pt"})
    assert not (tmp_path / "models_and_data").exists()


def test_a_model_that_a_user_placed_is_never_overwritten(tmp_path):
    path = tmp_path / "models_and_data" / "model_additional_0.pt"
    path.parent.mkdir()
    checkpoint(path)
    before = path.read_bytes()
    with pytest.raises(
        InputError, match=r"model_additional_0.pt: was not trained here and is never replaced"
    ):
        tiny_models(tmp_path, tiny_dataset())
    assert path.read_bytes() == before


# --- what a batch remembers, and what it leaves alone


ONE = Resources(threads=1)


def first_job(folder: Path, step: str, body: str = "", more: str = ""):
    experiment = tiny.make(folder, more=more)
    job = {job.step: job for job in steps.jobs_of(experiment, experiment.run_seeds[0])}[step]
    tiny.put(job, body)
    return job


def test_cells_that_lost_their_tags_are_known_again():
    parameters = {"epochs": 7, "batch_size": 5, "wide": math.inf}
    cells = [
        {"cell_type": "code", "metadata": {}, "source": "epochs = 1\nbatch_size = 2\nwide = 1.0"},
        {"cell_type": "code", "metadata": {}, "source": "# Parameters\nepochs = 3\nbatch_size = 2"},
        {"cell_type": "code", "metadata": {}, "source": "done = train(epochs)"},
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    inject(Path("n.ipynb"), notebook, parameters)
    values: dict = {}
    for cell in notebook["cells"][:-1]:
        exec("".join(cell["source"]), values)
    assert len(notebook["cells"]) == 3 and {name: values[name] for name in parameters} == parameters
    again = json.loads(json.dumps(notebook, allow_nan=False))
    inject(Path("n.ipynb"), again, parameters)
    assert again == notebook
    again["cells"][2]["source"] = "epochs = 9"
    with pytest.raises(InputError, match=r"n.ipynb: cell 3 sets epochs = 9, where 7 is asked for"):
        inject(Path("n.ipynb"), again, parameters)
    bare = {"cells": [cells[2] | {"source": "pass"}], "metadata": {}}
    with pytest.raises(InputError, match="no cell is tagged parameters"):
        inject(Path("n.ipynb"), bare, parameters)


def test_an_edit_that_was_propagated_lives(tmp_path):
    (tmp_path / "experiment.yaml").write_text("problem: swiss_roll\n")
    batch.make(tmp_path)
    experiment = read_experiment(tmp_path)
    job = steps.jobs_of(experiment, experiment.run_seeds[0])[0]
    edited = json.loads(job.notebook.read_text())
    edited["cells"][-1]["source"] = "mine = 1"
    source = tmp_path / job.notebook.name
    source.write_text(json.dumps(edited))
    batch.propagate(source, tmp_path, force=True)
    folders.prepare_notebook(job)
    assert json.loads(job.notebook.read_text())["cells"][-1]["source"] == "mine = 1"
    batch.propagate(source, tmp_path)  # over what it put there itself


def test_what_a_notebook_wrote_before_another_was_propagated_is_still_the_workflows(tmp_path):
    job = first_job(tmp_path, "train")
    assert runner.run_step(job, ONE).state == "done"
    edited = json.loads(job.notebook.read_text())
    edited["cells"][-1]["source"] = "mine = 1"
    (tmp_path / job.notebook.name).write_text(json.dumps(edited))
    batch.propagate(tmp_path / job.notebook.name, tmp_path, force=True)
    assert steps.judge(job).reason == "the notebook's code has changed"
    (found,) = batch.cleanable(tmp_path, "models")
    assert [path.name for path in found.files] == ["dataset.pt", "model_additional_0.pt"]


def test_one_bit_of_a_file_flipped_is_made_again(tmp_path):
    job = first_job(tmp_path, "train", "assert not os.path.exists('models_and_data/model_additional_0.pt')")
    assert runner.run_step(job, ONE).state == "done"
    model = job.folder / "models_and_data" / "model_additional_0.pt"
    sound, times = model.read_bytes(), model.stat()
    model.write_bytes(bytes([sound[0] ^ 1]) + sound[1:])
    os.utime(model, ns=(times.st_atime_ns, times.st_mtime_ns))  # size and time as before
    assert steps.judge(job).state == "pending"
    assert runner.run_step(job, ONE).state == "done" and model.read_bytes() == sound
    kept = job.folder / ".replaced" / "train" / "models_and_data" / model.name
    assert kept.is_file() and "had changed" in " ".join(steps.judge(job).warnings)


def test_a_step_that_fails_has_deleted_nothing(tmp_path):
    job = first_job(tmp_path, "train")
    assert runner.run_step(job, ONE).state == "done"
    notebook = json.loads(job.notebook.read_text())
    notebook["cells"][-1]["source"] = "1 / 0"
    job.notebook.write_text(json.dumps(notebook))
    assert runner.run_step(job, ONE).state == "failed"
    kept = job.folder / ".replaced" / "train" / "models_and_data" / "model_additional_0.pt"
    assert kept.read_text() == "models_and_data/model_additional_0.pt"


def test_a_placed_model_stops_the_training_of_a_batch(tmp_path):
    job = first_job(tmp_path, "train")
    path = job.folder / "models_and_data" / "model_additional_0.pt"
    path.parent.mkdir()
    for content in (b"weights of mine", None):
        checkpoint(path) if content is None else path.write_bytes(content)
        before = path.read_bytes()
        for force in (False, True):
            result = runner.run_step(job, ONE, force=force)
            assert result.state == "failed" and "model_additional_0.pt: trained elsewhere" in result.error
            assert path.read_bytes() == before


def test_figures_of_a_users_under_our_names_are_kept(tmp_path):
    body = """
os.makedirs("cutoffs", exist_ok=True)
open("cutoffs/new", "w").write("ours")
os.replace("cutoffs/new", "cutoffs/loss_curves.png")
"""
    first_job(tmp_path, "train")
    job = first_job(tmp_path, "cutoff", body)
    assert runner.run_step(job.needs[0], ONE).state == "done"
    curves, poster = job.folder / "cutoffs" / "loss_curves.png", job.folder / "cutoffs" / "loss_curves.pdf"
    curves.parent.mkdir()
    curves.write_text("mine"), poster.write_text("mine, and not written over")
    assert runner.run_step(job, ONE).state == "done"
    kept = job.folder / ".replaced" / "cutoff" / "cutoffs" / "loss_curves.png"
    assert curves.read_text() == "ours" and kept.read_text() == "mine"
    assert poster.read_text() == "mine, and not written over" and len(list(kept.parent.iterdir())) == 1
    told = "cutoffs/loss_curves.png was not written here; kept in .replaced/cutoff"
    assert steps.judge(job).warnings == (told,)
    kept.unlink()
    assert runner.run_step(job, ONE, force=True, launch="second").state == "done"
    assert not kept.exists() and not steps.judge(job).warnings  # now it is ours
    curves.write_text("retouched")
    assert runner.run_step(job, ONE, force=True, launch="third").state == "done"
    assert kept.read_text() == "retouched" and curves.read_text() == "ours"


def test_other_data_of_the_problem_are_seen(tmp_path):
    job = first_job(tmp_path, "train")
    assert runner.run_step(job, ONE, data="one").state == "done"
    assert steps.judge(job, "one").state == steps.judge(job).state == "done"
    assert steps.judge(job, "other").reason == "the problem's data have changed"


def test_clean_leaves_what_is_a_users(tmp_path):
    job = first_job(
        tmp_path, "train", "os.makedirs('models_and_data'); open('models_and_data/samples.png', 'w')"
    )
    assert runner.run_step(job, ONE).state == "done"
    analysis, outside = tmp_path / "analysis", tmp_path / "outside"
    analysis.mkdir(), outside.mkdir()
    mine = [analysis / "poster.pdf", job.folder / "models_and_data" / "model_backup_5.pt"]
    mine += [outside / "data_0.npz", job.folder / "models_and_data" / "dataset.pt"]
    for path in mine:
        path.write_text("mine")  # the data set is one that was written, and changed since
    (job.folder / "data_0").symlink_to(outside)
    (found,) = batch.cleanable(tmp_path, "all")
    assert [path.name for path in found.files] == ["model_additional_0.pt", "samples.png"]
    assert all(path.name in str(found) for path in found.files)
    batch.clean(tmp_path, "all")
    assert all(path.read_text() == "mine" for path in mine) and not batch.cleanable(tmp_path, "all")


@pytest.mark.parametrize("killed", [False, True])
def test_clean_takes_the_batches_that_an_interrupted_sweep_left(tmp_path, killed):
    sweep = """
for name in ["data_0/000000.npz", "data_0/000001.npz"]:
    for folder in [".partial/", ".shards/1/.partial/"]:
        os.makedirs(folder + "data_0", exist_ok=True)
        open(folder + name, "w").write("a batch")
os.makedirs(".shards/0/data_0")
open(".shards/0/data_0/data_0.npz", "w").write("a part")
raise SystemError
"""
    first_job(tmp_path, "train")
    job = first_job(tmp_path, "perturb", sweep)
    job.needs[0].folder.joinpath("models_and_data").mkdir()
    for name in tiny.FILES["train"]:
        (job.folder / name).write_text("of another workflow")
    batches = job.folder / ".partial"
    (batches / "additional_7").mkdir(parents=True)
    mine = [batches / "additional_7" / "000000.npz", batches / "data_0" / "notes.npz"]
    mine[0].write_text("there before")
    result = runner.run_step(job, ONE)
    assert result.state == "failed" and "SystemError" in result.error
    if killed:  # the last record is then that of the beginning
        notebook = json.loads(job.notebook.read_text())
        notebook["metadata"][notebooks.KEY] |= {"state": "running", "outputs": {}, "figures": {}}
        job.notebook.write_text(json.dumps(notebook))
    mine[1].write_text("mine")
    (found,) = batch.cleanable(tmp_path, "perturbs")
    names = sorted(path.relative_to(job.folder).as_posix() for path in found.files)
    whole = [f"{folder}.partial/data_0/00000{i}.npz" for folder in ("", ".shards/1/") for i in (0, 1)]
    assert names == sorted([*whole, ".shards/0/data_0/data_0.npz"])
    batch.clean(tmp_path, "perturbs")
    assert not (job.folder / ".shards").exists()
    assert sorted(path for path in batches.rglob("*") if path.is_file()) == mine
    mine[1].unlink()
    assert not batch.cleanable(tmp_path, "perturbs")


def test_damaged_notebooks_are_one_line_and_status_goes_on(tmp_path):
    """Every value of a recorded notebook's metadata in turn of another type, or gone."""
    job = first_job(tmp_path, "train")
    assert runner.run_step(job, ONE).state == "done"
    sound = json.loads(job.notebook.read_text())
    tried = 0
    for trail in list(trails(sound)):
        for value in (None, 7, "x", [], {}, [None], GONE):
            damaged = copy.deepcopy(sound)
            place = damaged
            for key in trail[:-1]:
                place = place[key]
            if value is GONE:
                del place[trail[-1]]
            else:
                place[trail[-1]] = value
            job.notebook.write_text(json.dumps(damaged))
            told = str(batch.status(tmp_path))
            assert told.count("pending") >= 4
            tried += 1
    assert tried > 500


GONE = object()


def trails(value, before=()):
    """Keys that lead to every value in nested lists and dictionaries."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in pairs:
        yield (*before, key)
        yield from trails(entry, (*before, key))


def test_import_makes_an_experiment_or_joins_one(tmp_path):
    states = [checkpoint(tmp_path / "a.pt"), checkpoint(tmp_path / "b.pt", seed=4)]
    words = ["import", tmp_path / "e", "--checkpoint", f"0={tmp_path / 'a.pt'}"]
    words += ["--checkpoint", f"4={tmp_path / 'b.pt'}"]
    assert "give --problem" in call(*words)[1] and not (tmp_path / "e" / "experiment.yaml").exists()
    code, told = call(*words, "--problem", "swiss_roll", "--model", "{hidden_dims: [4]}")
    assert code == 0 and told.count("model_additional_") == 2, told
    run = tmp_path / "e" / "model_0_data_0"
    models, dataset = storage.load_models_and_data(run / "models_and_data")
    for model, state in zip(models, states, strict=True):
        assert model.settings["imported"]
        assert all(torch.equal(model.model.state_dict()[name], value) for name, value in state.items())
    assert dataset.dataset_quantities == [0, 4]
    before = {path: path.read_bytes() for path in run.rglob("*.pt")}
    assert call(*words)[0] == 0 and before == {path: path.read_bytes() for path in run.rglob("*.pt")}
    code, told = call("import", tmp_path / "e", "--checkpoint", f"0={tmp_path / 'b.pt'}")
    assert code == 2 and "never replaced" in told and told.count("\n") == 1
    assert "LEVEL=FILE" in call("import", tmp_path / "e", "--checkpoint", "a.pt")[1]
    # nor does a batch: its check of what is there lets the imported pass
    experiment = read_experiment(tmp_path / "e")
    job = steps.jobs_of(experiment, experiment.run_seeds[0])[0]
    found = belongings.placement(job, {}, {"cells": [], "metadata": {}}, force=True)
    belongings.refuse_to_replace(job, found.foreign)
    assert not found.ours and len(found.foreign) == 3


def test_status_says_shipped_and_done_with_warnings(tmp_path):
    job = first_job(tmp_path, "train", "import warnings; warnings.warn('look here')")
    assert runner.run_step(job, ONE).state == "done"
    shipped = job.folder / "data_0" / "loss_0.1" / "results.json"
    shipped.parent.mkdir(parents=True)
    shipped.write_text("{}")
    told = batch.status(tmp_path)
    assert "with warnings" in str(told) and "warning: model_0_data_0 train: look here" in str(told)
    assert "shipped" in str(told) and "shipped" in told._repr_html_()


SWISS_ROLL = Path(__file__).parents[1] / "experiments" / "low_data" / "swiss_roll"


def test_models_and_rays_that_are_not_shipped_are_not_pending(tmp_path):
    run = SWISS_ROLL / "model_0_data_10"
    shutil.copytree(SWISS_ROLL / "analysis", tmp_path / "analysis")
    shutil.copytree(run, tmp_path / run.name)
    settings = (SWISS_ROLL / "experiment.yaml").read_text()
    (tmp_path / "experiment.yaml").write_text(settings)
    (told,) = batch.status(tmp_path).experiments
    assert {verdict.state for verdict in told.verdicts[run.name].values()} == {"shipped"}
    assert {verdict.state for verdict in told.verdicts["model_1_data_11"].values()} == {"pending"}
    # of the curves alone, the sweep is not told to have been
    for path in (tmp_path / run.name).glob("data_*"):
        shutil.rmtree(path)
    (told,) = batch.status(tmp_path).experiments
    found = {step: verdict.state for step, verdict in told.verdicts[run.name].items()}
    assert found == dict(
        train="shipped", perturb="pending", volume="pending", cutoff="shipped", accuracy="shipped"
    )


def test_a_run_says_first_what_it_replaces(tmp_path):
    job = first_job(tmp_path, "train", "open('models_and_data/dataset.pt', 'wb').write(b'1')")
    jobs = steps.jobs_of(job.experiment, job.run)
    assert belongings.replaced_line(jobs) == ""
    results = job.folder / "data_0" / "loss_0.1" / "results.json"
    results.parent.mkdir(parents=True)
    results.write_text("{}")
    theirs = belongings.replaced_line(jobs)
    assert "in 1 folder: files of volume 1" in theirs and "stay in .replaced/" in theirs
    (job.folder / "models_and_data").mkdir(exist_ok=True)
    assert runner.run_step(job, ONE).state == "done", runner.run_step(job, ONE)
    assert belongings.replaced_line([job]) == ""
    assert belongings.replaced_line([job], force=True).endswith("in 1 folder: files of train 2")


def call(*words) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


# --- the machine


def test_a_lock_that_is_a_link_or_somebodys_file_is_not_written(tmp_path):
    outside = tmp_path / "outside"
    for name, place in {
        "symbolic": lambda at: at.symlink_to(outside),
        "hard": lambda at: at.hardlink_to(outside),
        "file": lambda at: at.write_text("mine"),
        "pipe": os.mkfifo,
    }.items():
        outside.write_text("mine")
        folder = tmp_path / name
        folder.mkdir()
        place(folder / ".lock")
        with (
            pytest.raises(InputError, match=r"\.lock: is no lock of this package"),
            locks.lock(folder, "test"),
        ):
            pass
        assert outside.read_text() == "mine" and os.path.lexists(folder / ".lock")
        assert not locks.is_held(folder)


def test_a_worker_that_replaces_another_has_its_share():
    order = worker.Order("launch", {"tls://h:1": Place(2, 1), "0": Place(2, 1)}, False, None)
    assert order.place_of("tls://h:1", "0", 1) == order.place_of("tls://h:9", "0", 1) == Place(2, 1)
    assert order.place_of("tls://h:9", "another", 1).threads <= 2


def test_shared_memory_that_cannot_be_written_is_one_line(monkeypatch):
    class Broken:
        def Lock(self):
            raise OSError(30, "Read-only file system")

    monkeypatch.setattr(cluster.multiprocessing, "get_context", lambda kind: Broken())
    with pytest.raises(InputError, match=r"/dev/shm: cannot be written to \(Read-only file system\)"):
        cluster._local_cluster(1)


def test_nobody_else_connects_to_local_workers():
    import distributed

    with cluster._local_cluster(1) as local:
        assert local.scheduler_address.startswith("tls://")
        for address in (local.scheduler_address, local.scheduler_address.replace("tls", "tcp")):
            with pytest.raises((OSError, TypeError, ValueError, RuntimeError)):
                distributed.Client(address, timeout="2s")
        with distributed.Client(local) as client:
            assert client.submit(sum, [1, 2]).result(timeout=20) == 3
            name = [said["name"] for said in client.run(resources.describe, ".").values()]
            assert name == [0]


def test_a_run_folder_that_is_a_link_finds_its_problem(tmp_path, monkeypatch):
    path = tmp_path / "e" / "mine.py"
    path.parent.mkdir()
    path.write_text(OWN.format(helper="math").replace("math.SCALE", "1"))
    (tmp_path / "disk").mkdir()
    run = tmp_path / "e" / "model_0_data_0"
    run.symlink_to(tmp_path / "disk")
    assert get_problem("mine.py:Mine", run).num_classes == 2
    monkeypatch.chdir(run)
    monkeypatch.setenv("PWD", str(run))
    assert get_problem("mine.py:Mine").num_classes == 2
    assert registry.absolute("../x") == tmp_path / "e" / "x"
    monkeypatch.setenv("PWD", str(tmp_path))  # of Jupyter's server
    assert registry.absolute("x") == tmp_path / "disk" / "x"
    monkeypatch.setenv("JPY_SESSION_NAME", str(run / "Random Perturbs.ipynb"))
    assert registry.absolute("x") == run / "x"
    # and what reads a run's files looks there, too
    mine = get_problem("mine.py:Mine")
    dataset = make_dataset(mine, base_data_size=8, dataset_quantities=[0], data_seed=1)
    train_models(mine, dataset, model_seed=0, epochs=1, batch_size=8, target_train_loss=None)
    assert len(storage.load_models_and_data("models_and_data", "mine.py:Mine")[0]) == 1


# --- the page


def test_a_page_passes_no_script_on_and_takes_other_tools_metadata():
    from nbformat import v4

    from volume_lib.batch.page import page_of

    bad = "<script>alert('caught')</script><img src=x onerror=\"alert('caught')\"><b>kept words</b>"
    outputs = [
        v4.new_output("display_data", data={name: bad})
        for name in ("text/html", "text/markdown", "image/svg+xml", "application/javascript", "image/png")
    ]
    outputs += [v4.new_output("stream", text=bad), v4.new_output("display_data", data={"text/latex": bad})]
    outputs.append(
        v4.new_output("display_data", data={"image/png": "QUJD"}, metadata={"image/png": {"alt": bad}})
    )
    outputs.append(v4.new_output("display_data", data={"image/png": "\"><script>alert('caught')</script>"}))
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell(bad), v4.new_code_cell("1", outputs=outputs)])
    notebook.metadata["widgets"] = {"application/other": {"version": 1}}
    notebook.metadata["title"] = bad
    page = page_of(notebook, f"name {bad}")
    assert "kept words" in page and "base64,QUJD" in page
    assert "<script>alert('caught')" not in page
    assert not re.search(r"<[^>]*\sonerror\s*=", page)


def test_a_page_of_a_users_is_not_written_over(tmp_path):
    from volume_lib.batch import page

    out = tmp_path / "analysis" / "report.html"
    out.parent.mkdir()
    out.write_text("<p>mine</p>")
    for given in (None, out):
        with pytest.raises(InputError, match=r"report\.html: no page that report wrote"):
            page.html_page(tmp_path, given)
    assert out.read_text() == "<p>mine</p>"
    out.write_text("<p>ours</p>" + page._seal("<p>ours</p>"))
    assert page._is_ours(out)
    out.write_text(out.read_text().replace("ours", "noted"))
    assert not page._is_ours(out)


def test_pipes_are_not_waited_for_and_names_are_text(tmp_path):
    os.mkfifo(tmp_path / "experiment.yaml")
    with pytest.raises(InputError, match=r"experiment\.yaml: cannot be read: it is a pipe"):
        read_experiment(tmp_path)
    os.mkfifo(tmp_path / "n.ipynb")
    with pytest.raises(InputError, match=r"n\.ipynb: not a readable notebook \(it is a pipe"):
        notebooks.read_notebook(tmp_path / "n.ipynb")
    assert not storage.list_outputs(tmp_path, "accuracy")
    os.mkfifo(tmp_path / "test_accuracies.npz")
    assert not storage.list_outputs(tmp_path, "accuracy")
    with pytest.raises(InputError, match="the folder's name is no text in UTF-8"):
        read_experiment(tmp_path / "caf\udce9")


def test_a_batch_that_fails_does_not_end_at_its_total(tmp_path, monkeypatch):
    seen = []

    class Seen(engine.Bar):
        def close(self):
            seen.append((self.n, self.total, self.stopped))
            super().close()

    monkeypatch.setattr(engine, "Bar", Seen)
    first_job(tmp_path, "train", "1 / 0")
    report = batch.run(tmp_path, steps=["train", "cutoff", "perturb"], workers=1)
    assert (0, 3, True) in seen and str(report).count("blocked") == 2  # the count, and one line for the run


def test_the_analysis_takes_the_runs_that_are_named_and_no_others():
    results = {"key_values": [0], "model_data_levels": [0]}
    contents = {f"model_{i}_data_{i}": {level: results for level in range(i + 1)} for i in range(2)}
    expected = runs.Expected(runs=["model_0_data_0"], minima=[0], landscapes=[0], dataset_type="data")
    left_out = runs.incomplete(contents, expected, 0.1, "additional")
    assert left_out == {"model_1_data_1": "not among the runs of experiment.yaml"}
