"""Batches: clone, run, skip, resume; what breaks is told, what is done stays done."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_experiment as tiny

from volume_lib import batch, storage
from volume_lib.batch import cluster, engine, folders, locks, resources, runner, shards, steps
from volume_lib.batch.resources import Place, Resources
from volume_lib.errors import InputError
from volume_lib.experiment.file import read_experiment

ROOT = Path(__file__).parents[1]
ONE = Resources(threads=1)


def jobs(experiment, run=0) -> dict[str, steps.Job]:
    return {job.step: job for job in steps.jobs_of(experiment, experiment.run_seeds[run])}


def states(experiment, run=0) -> dict[str, str]:
    return {step: steps.judge(job).state for step, job in jobs(experiment, run).items()}


def no_leftovers(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if path.name.endswith(".tmp") or path.name == ".lock"]


def replaced(experiment, old: str, new: str):
    """The experiment after an edit of its file."""
    path = experiment.folder / "experiment.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return read_experiment(experiment.folder)


# --- clone


def real_experiment(folder: Path, more: str = ""):
    folder.mkdir(parents=True, exist_ok=True)
    text = "problem: swiss_roll\nruns: {model_seeds: [0, 1], data_seeds: [5, 6]}\n" + more
    (folder / "experiment.yaml").write_text(text)
    return read_experiment(folder)


def test_make_clones_and_parameterises(tmp_path):
    experiment = real_experiment(tmp_path)
    made = batch.make(tmp_path)
    assert [path.name for path in made] == ["model_0_data_5", "model_1_data_6"]
    assert sorted(path.name for path in made[1].iterdir()) == sorted(
        name for step, name in steps.NOTEBOOKS.items() if step not in ("integrate", "analysis")
    )
    notebook = json.loads((made[1] / storage.TRAIN_NOTEBOOK).read_text())
    tags = [cell["metadata"].get("tags") for cell in notebook["cells"]]
    at = tags.index(["injected-parameters"])
    assert tags[at - 1] == ["parameters"]
    source = "".join(notebook["cells"][at]["source"])
    assert "model_seed = 1\ndata_seed = 6\n" in source and "problem = 'swiss_roll'" in source
    assert set(states(experiment).values()) == {"pending"}


def test_make_again_changes_nothing(tmp_path):
    real_experiment(tmp_path)
    batch.make(tmp_path)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.rglob("*.ipynb")}
    batch.make(tmp_path)
    assert before == {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.rglob("*.ipynb")
    }


def test_make_keeps_edits_and_follows_templates(tmp_path):
    experiment = real_experiment(tmp_path)
    batch.make(tmp_path)
    edited, plain = (jobs(experiment, run)["train"] for run in (0, 1))
    notebook = json.loads(edited.notebook.read_text())
    notebook["cells"][-1]["source"] = "mine = 1"
    edited.notebook.write_text(json.dumps(notebook))
    template = json.loads(steps.template_path("train").read_text())
    template["cells"][-1]["source"] = "newer = 1"
    for job in (edited, plain):
        folders.prepare_notebook(job, template)
    assert json.loads(edited.notebook.read_text())["cells"][-1]["source"] == "mine = 1"
    assert json.loads(plain.notebook.read_text())["cells"][-1]["source"] == "newer = 1"


def test_make_of_an_impossible_experiment_writes_nothing(tmp_path):
    real_experiment(tmp_path, "train: {dataset_quantities: [0, 1000000]}\n")
    with pytest.raises(InputError, match=r"train.dataset_quantities"):
        batch.make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["experiment.yaml"]


# --- one step: run, skip, run again


def test_steps_run_once_and_again_when_something_changed(tmp_path):
    experiment = tiny.make(tmp_path, more="# more\n")
    run = tmp_path / "model_0_data_0"

    def go(experiment):
        before = tiny.executions(run)
        for job in jobs(experiment).values():
            result = runner.run_step(job, ONE)
            assert result.is_good, result
        after = tiny.executions(run)
        return [step for step in tiny.STEPS if after[f"end {step}"] > before[f"end {step}"]]

    assert go(experiment) == tiny.STEPS
    assert set(states(experiment).values()) == {"done"}
    assert go(experiment) == []
    notebook = json.loads((run / storage.PERTURB_NOTEBOOK).read_text())
    assert notebook["metadata"]["papermill"]["parameters"]["loss_thresholds"] == [0.1]

    # another parameter: that step and what reads its files, if these have changed
    experiment = replaced(experiment, "# more", "perturb: {num_directions: 7}\nvolume: {top_k: 3}")
    assert go(experiment) == ["perturb", "volume"]
    experiment = replaced(experiment, "num_directions: 7", "num_directions: 8")
    assert states(experiment) == {"train": "done", "perturb": "pending", "volume": "done", "cutoff": "done",
                                  "accuracy": "done"}  # fmt: skip
    assert go(experiment) == ["perturb"]  # it gave the same file

    # another input, the same input written again, an output that is gone
    model = run / "models_and_data" / "model_additional_0.pt"
    model.write_bytes(model.read_bytes())
    assert go(experiment) == []
    model.write_bytes(b"retrained by hand")
    assert go(experiment)[0] == "train"
    (run / "test_accuracies.npz").unlink()
    assert go(experiment) == ["accuracy"]

    # other code
    notebook = json.loads((run / storage.CUTOFF_NOTEBOOK).read_text())
    notebook["cells"][-1]["source"] += "\n# a comment"
    (run / storage.CUTOFF_NOTEBOOK).write_text(json.dumps(notebook))
    assert go(experiment) == []
    notebook["cells"][-1]["source"] += "\nedited = 1"
    (run / storage.CUTOFF_NOTEBOOK).write_text(json.dumps(notebook))
    assert go(experiment) == ["cutoff"]
    assert no_leftovers(tmp_path)


def test_force_does_it_again_but_once_per_launch(tmp_path):
    job = jobs(tiny.make(tmp_path))["train"]
    launches = [("a", False), ("a", True), ("b", True), ("b", True), ("c", False)]
    done = [runner.run_step(job, ONE, force=force, launch=launch).state for launch, force in launches]
    # the second of "b" is what a scheduler repeats after losing a worker
    assert done == ["done", "skipped", "done", "skipped", "skipped"]


def test_models_of_levels_that_are_no_more_go_and_a_users_stay(tmp_path):
    """The next notebooks would take the former for part of the run."""
    experiment = tiny.make(tmp_path)
    job = jobs(experiment)["train"]
    folder = job.folder / "models_and_data"
    folder.mkdir()
    (folder / "model_backup_5.pt").write_text("mine")
    tiny.put(job, "open('models_and_data/model_additional_70.pt', 'w').close()")
    assert runner.run_step(job, ONE).state == "done"
    job = jobs(replaced(experiment, "epochs: 1", "epochs: 2"))["train"]
    notebook = json.loads(job.notebook.read_text())
    tiny.put(job, "assert os.path.exists('.replaced/train/models_and_data/model_additional_70.pt')")
    changed = json.loads(job.notebook.read_text())
    changed["metadata"]["volume_lib"] = notebook["metadata"]["volume_lib"]
    job.notebook.write_text(json.dumps(changed))
    assert runner.run_step(job, ONE).state == "done"
    assert sorted(path.name for path in folder.iterdir()) == [
        "dataset.pt", "model_additional_0.pt", "model_backup_5.pt"
    ]  # fmt: skip
    assert (folder / "model_backup_5.pt").read_text() == "mine" and not (job.folder / ".replaced").exists()


def test_what_an_interrupted_step_left_is_found_by_the_next(tmp_path):
    job = jobs(tiny.make(tmp_path))["train"]
    tiny.put(job, "os.makedirs('models_and_data'); open('models_and_data/dataset.pt', 'w').close(); 1 / 0")
    assert runner.run_step(job, ONE).state == "failed"
    assert runner.run_step(job, ONE).error.startswith("FileExistsError")
    changed = "assert not os.path.exists('models_and_data/dataset.pt')"
    tiny.put(job, changed)  # a clone without record: nothing is deleted
    assert runner.run_step(job, ONE).error.startswith("AssertionError")


def test_a_step_without_what_it_needs_is_blocked(tmp_path):
    result = runner.run_step(jobs(tiny.make(tmp_path))["perturb"], ONE)
    assert (result.state, result.error) == (
        "blocked", "needs the files of model_0_data_0 train: run that step first"
    )  # fmt: skip


def test_threads_and_gpu_of_a_step(tmp_path):
    job = jobs(tiny.make(tmp_path))["train"]
    tiny.put(job, "assert (os.environ['OMP_NUM_THREADS'], os.environ['CUDA_VISIBLE_DEVICES']) == ('3', '5')")
    assert runner.run_step(job, Resources(3, "5")).state == "done"


def test_the_kernel_is_this_interpreter(tmp_path, monkeypatch):
    """Whatever else calls itself python3 on this machine."""
    spec = tmp_path / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps({"argv": ["/bin/false"], "display_name": "", "language": ""})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    job = jobs(tiny.make(tmp_path / "experiment"))["train"]
    tiny.put(job, f"import sys; assert sys.executable == {sys.executable!r}")
    result = runner.run_step(job, ONE)
    assert result.state == "done", result


def test_a_folder_with_braces_and_spaces(tmp_path):
    job = jobs(tiny.make(tmp_path / "a {b} c"))["train"]
    assert runner.run_step(job, ONE).state == "done"


# --- what breaks


def test_a_cell_that_raises(tmp_path):
    job = jobs(tiny.make(tmp_path))["train"]
    tiny.put(job, "raise ValueError('first\\nlast')")
    result = runner.run_step(job, ONE)
    assert (result.state, result.cell, result.error) == ("failed", "cell 3", "ValueError: last")
    notebook = json.loads(job.notebook.read_text())
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert [output["ename"] for output in outputs if output["output_type"] == "error"] == ["ValueError"]
    verdict = steps.judge(job)
    assert (verdict.state, verdict.reason) == ("failed", "cell 3: ValueError: last")
    assert runner.run_step(job, ONE).state == "failed"  # again, not skipped
    notebook["cells"] = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    notebook["cells"][-1]["source"] = tiny.notebook("train")["cells"][-1]["source"]
    job.notebook.write_text(json.dumps(notebook))
    assert runner.run_step(job, ONE).state == "done"
    assert no_leftovers(tmp_path)


@pytest.mark.parametrize(
    ("body", "told"),
    [("os.kill(os.getpid(), 9)", r"signal 9 \(SIGKILL\): out of memory"), ("os._exit(3)", "the kernel died")],
)
def test_a_kernel_that_dies(tmp_path, body, told):
    job = jobs(tiny.make(tmp_path))["train"]
    tiny.put(job, body)
    result = runner.run_step(job, ONE)
    assert (result.state, result.cell) == ("failed", "cell 3")
    assert re.search(told, result.error), result.error
    last = json.loads(job.notebook.read_text())["cells"][-1]
    assert "the kernel died" in "".join(last["outputs"][-1]["text"])


def test_a_damaged_notebook(tmp_path):
    job = jobs(tiny.make(tmp_path))["train"]
    job.notebook.write_text("{")
    result = runner.run_step(job, ONE)
    assert result.state == "failed" and "not a readable notebook" in result.error
    assert "delete it" in str(batch.status(tmp_path))


def test_stopping_from_another_thread(tmp_path):
    job = jobs(tiny.make(tmp_path))["train"]
    tiny.put(job, "open('.half.0123abcd.tmp', 'w').close(); time.sleep(60)")
    results = []
    thread = threading.Thread(target=lambda: results.append(runner.run_step(job, ONE, launch="to stop")))
    thread.start()
    while not tiny.executions(job.folder):
        time.sleep(0.05)
    started = time.monotonic()
    runner.stop_all("to stop")
    thread.join(10)
    assert [result.state for result in results] == ["stopped"] and time.monotonic() - started < 5
    assert steps.judge(job).state == "interrupted" and no_leftovers(tmp_path)
    assert runner.run_step(job, ONE, launch="to stop").state == "stopped"  # no more for that launch
    tiny.put(job)
    assert runner.run_step(job, ONE, launch="another").state == "done"


def small_disk(folder: Path, size: str):
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    try:
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("cannot mount a small file system here")
    except FileNotFoundError:
        pytest.skip("no mount command here")


def test_a_full_and_a_read_only_disk(tmp_path):
    disk = tmp_path / "disk"
    small_disk(disk, "300k")
    try:
        job = jobs(tiny.make(disk / "e"))["train"]
        body = (
            "from volume_lib.storage import write_bytes; write_bytes('models_and_data/dataset.pt', bytes({}))"
        )
        tiny.put(job, body.format(10_000_000))
        result = runner.run_step(job, ONE)
        assert result.state == "failed" and no_leftovers(disk)
        assert "No space left on device: 'models_and_data/dataset.pt'" in result.error
        tiny.put(job)
        assert runner.run_step(job, ONE).state == "done"
        kept = (job.folder / "models_and_data" / "dataset.pt").read_bytes()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        result = runner.run_step(job, ONE, force=True)
        assert result.state == "failed" and "cannot be written to: Read-only file system" in result.error
        with pytest.raises(InputError, match=r"e: cannot be written to"):
            batch.run(disk / "e", force=True)
        assert (job.folder / "models_and_data" / "dataset.pt").read_bytes() == kept
    finally:
        subprocess.run(["umount", str(disk)], check=False)


# --- locks

HOLD = """
import sys, time
from volume_lib.batch.locks import lock
with lock(sys.argv[1], "a test"):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_a_lock_says_who_holds_it_and_ends_with_its_holder(tmp_path):
    with holder(tmp_path) as process:
        assert locks.is_held(tmp_path)
        with (
            pytest.raises(locks.Held, match=f"a test: process {process.pid} of .* since "),
            locks.lock(tmp_path, ""),
        ):
            pass
        process.kill()
        process.wait()
    assert not locks.is_held(tmp_path) and (tmp_path / ".lock").exists()  # stale, and known to be
    with locks.lock(tmp_path, "another"):
        assert locks.is_held(tmp_path)
    assert not list(tmp_path.iterdir())


def test_waiting_for_a_lock_ends_in_time(tmp_path):
    with holder(tmp_path) as process:
        with pytest.raises(locks.Abandoned), locks.lock(tmp_path, "", wait=True, abandon=lambda: True):
            pass
        threading.Timer(0.3, process.kill).start()
        with locks.lock(tmp_path, "", wait=True):
            pass


def test_a_lock_taken_by_many_threads_is_one_at_a_time(tmp_path):
    inside, seen = [], []

    def work():
        for _ in range(5):
            with locks.lock(tmp_path, "", wait=True):
                inside.append(1)
                seen.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 20


# --- threads and GPUs


def test_places_share_cores_and_number_gpus():
    def worker(host, slots, cores, devices=()):
        return {"host": host, "slots": slots, "cores": cores, "devices": list(devices)}

    shares = resources.places({
        "a:1": worker("a", 1, 8), "a:2": worker("a", 1, 8), "a:3": worker("a", 2, 8),
        "b:1": worker("b", 4, 2),
    })  # fmt: skip
    assert shares == {"a:1": Place(2, 0), "a:2": Place(2, 1), "a:3": Place(2, 2), "b:1": Place(1, 0)}
    own = resources.places(
        {"a:1": worker("a", 1, 8, "01"), "a:2": worker("a", 1, 8, "10")}
    )  # as dask-cuda does
    assert own == {"a:1": Place(4, 0), "a:2": Place(4, 0)}


def test_gpus_go_round(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 7")
    given = [resources.resources_of(Place(2, first), slot).device for first in (0, 1) for slot in (0, 1, 2)]
    assert given == ["4", "7", "4", "7", "4", "7"]
    assert resources.resources_of(Place(2), 0).environment()["CUDA_VISIBLE_DEVICES"] == "4"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert resources.resources_of(Place(2), 0).device is None


def test_slots_are_reused():
    slots = resources.Slots()
    assert [slots.take(), slots.take()] == [0, 1]
    slots.give_back(0)
    assert [slots.take(), slots.take()] == [0, 2]


# --- clean and propagate


def test_clean_deletes_what_the_workflow_wrote_and_nothing_else(tmp_path):
    experiment = tiny.make(tmp_path, runs=2)
    for job in jobs(experiment).values():
        assert runner.run_step(job, ONE).is_good
    run = tmp_path / "model_0_data_0"
    mine = [
        run / "models_and_data" / "notes.txt",
        run / "data_0" / "mine.npz",
        run / "cutoffs.json",
        tmp_path / "data_0.npz",
    ]
    for path in mine:
        path.write_text("mine")
    before = set(tmp_path.rglob("*"))
    listed = batch.cleanable(tmp_path, "all")
    assert [place.folder for place in listed] == [run] and set(tmp_path.rglob("*")) == before
    assert len(listed[0].files) == 6 and listed[0].size == sum(
        path.stat().st_size for path in listed[0].files
    )
    batch.clean(tmp_path, "volumes")
    assert not (run / "data_0" / "loss_0.1").exists() and not (run / "cutoffs").exists()
    assert (run / "data_0" / "data_0.npz").exists()
    assert [step for step, state in states(experiment).items() if state == "done"] == ["train", "perturb"]
    batch.clean(tmp_path, "all")
    assert not batch.cleanable(tmp_path, "all") and all(path.exists() for path in mine)
    assert (run / storage.TRAIN_NOTEBOOK).exists()
    with pytest.raises(InputError, match=r'modles.* "models"'):
        batch.clean(tmp_path, "modles")


def test_clean_waits_for_no_launcher(tmp_path):
    tiny.make(tmp_path)
    with holder(tmp_path) as process:
        with pytest.raises(InputError, match=f"in use .*process {process.pid}.*nothing was done"):
            batch.clean(tmp_path, "all")
        process.kill()


def test_propagate_a_file(tmp_path):
    tiny.make(tmp_path / "low" / "a", runs=2)
    tiny.make(tmp_path / "low" / "b")
    file = tmp_path / "extra.py"
    file.write_text("x = 1")
    copies = batch.propagate(file, tmp_path / "low")
    assert len(copies) == 3 and all(copy.read_text() == "x = 1" for copy in copies)
    file.write_text("x = 2")
    batch.propagate(file, tmp_path / "low")  # over what it put there itself
    copies[0].write_text("edited")
    file.write_text("x = 3")
    with pytest.raises(InputError, match=r"model_0_data_0/extra.py: edited in the run folder; --force"):
        batch.propagate(file, tmp_path / "low")
    assert [copy.read_text() for copy in copies] == ["edited", "x = 2", "x = 2"]
    batch.propagate(file, tmp_path / "low", force=True)
    assert all(copy.read_text() == "x = 3" for copy in copies)
    with pytest.raises(InputError, match="does not exist"):
        batch.propagate(tmp_path / "no.py", tmp_path / "low")
    with pytest.raises(InputError, match=r"no experiment.yaml here or below"):
        batch.propagate(file, tmp_path / "nowhere")


def test_propagate_a_notebook_keeps_each_runs_parameters(tmp_path):
    experiment = real_experiment(tmp_path / "e")
    batch.make(tmp_path / "e")
    changed = json.loads(jobs(experiment, 0)["train"].notebook.read_text())  # executed and edited in run 0
    last = max(i for i, cell in enumerate(changed["cells"]) if cell["cell_type"] == "code")
    changed["cells"][last]["source"] = "mine = 1"
    changed["cells"][last]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "1"}]
    source = tmp_path / storage.TRAIN_NOTEBOOK
    source.write_text(json.dumps(changed))
    batch.propagate(source, tmp_path / "e")
    for run, seeds in enumerate(experiment.run_seeds):
        job = jobs(experiment, run)["train"]
        notebook = json.loads(job.notebook.read_text())
        own = [cell for cell in notebook["cells"] if "".join(cell["source"]) == "mine = 1"]
        assert len(own) == 1 and not own[0]["outputs"]
        injected = [
            cell for cell in notebook["cells"] if cell["metadata"].get("tags") == ["injected-parameters"]
        ]
        assert len(injected) == 1 and f"model_seed = {seeds.model_seed}\n" in "".join(injected[0]["source"])
    notebook["cells"][-1]["source"] = "edited = 1"
    job.notebook.write_text(json.dumps(notebook))
    with pytest.raises(InputError, match="edited in the run folder"):
        batch.propagate(source, tmp_path / "e")


# --- shards


def test_shards_cover_the_directions_once(tmp_path):
    for count, directions in ((8, 500), (3, 7), (9, 4)):
        text = f"perturb: {{shards: {count}, num_directions: {directions}, perturbation_seed: 100}}\n"
        job = jobs(real_experiment(tmp_path / f"{count}", text))["perturb"]
        parts = [shards.shard_parameters(job, index) for index in range(shards.shard_count(job))]
        seeds = [part["perturbation_seed"] + i for part in parts for i in range(part["num_directions"])]
        assert seeds == list(range(100, 100 + directions))
        assert all(part["num_directions"] for part in parts)


def test_a_sharded_sweep_has_the_radii_of_a_whole_one(tmp_path):
    from volume_lib.problems import get_problem
    from volume_lib.problems.splits import make_dataset
    from volume_lib.sweep.run import run_sweep
    from volume_lib.training.runs import train_models
    from volume_lib.volume.radii import threshold_radii

    text = "train: {epochs: 200, dataset_quantities: [0, 20]}\nperturb: {shards: 2, num_directions: 11}\n"
    job = jobs(real_experiment(tmp_path, text))["perturb"]
    problem = get_problem("swiss_roll")
    dataset = make_dataset(problem, base_data_size=10, dataset_quantities=[0, 20], data_seed=5, test_size=50)
    folder = job.folder / "models_and_data"
    models = train_models(problem, dataset, folder=folder, model_seed=0, epochs=200, batch_size=200)
    stale = storage.shard_dir(job.folder, 0) / "data_7" / "data_7.npz"  # of an attempt with another landscape
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"stale")
    for index in range(2):
        result = runner.run_shard(job, index, ONE)
        assert result.state == "done", result
    shards.merge_shards(job)
    assert not (job.folder / ".shards").exists()
    whole = tmp_path / "whole"
    parameters = {**job.parameters, "num_directions": 11}
    run_sweep(problem, models, dataset, whole, **parameters)
    for path in run_sweep(problem, models, dataset, whole, **parameters):
        merged = storage.load_sweep(job.folder / path.relative_to(whole))
        one, other = threshold_radii(merged, 0.1), threshold_radii(storage.load_sweep(path), 0.1)
        np.testing.assert_array_equal(one.seeds, other.seeds)
        # of rays that no estimate depends on, each part has its own bracket; the crossing lies in both
        np.testing.assert_allclose(one.crossing, other.crossing, rtol=5e-6)
        assert (one.lower <= other.radius).all() and (other.lower <= one.radius).all()
        np.testing.assert_allclose(one.radius.max(), other.radius.max(), rtol=3e-6)
    before = {path: path.stat().st_mtime_ns for path in job.folder.rglob("*.npz")}
    run_sweep(problem, models, dataset, job.folder, **parameters)  # what the notebook does: it is all there
    assert before == {path: path.stat().st_mtime_ns for path in job.folder.rglob("*.npz")}


def test_a_part_that_fails_says_why(tmp_path):
    job = jobs(real_experiment(tmp_path, "perturb: {shards: 2}\n"))["perturb"]
    job.folder.mkdir()
    result = runner.run_shard(job, 1, ONE)
    assert (result.state, result.cell) == ("failed", "part 1 of the sweep")
    assert "dataset.pt: does not exist; 'Train Low Test Models.ipynb' writes it" in result.error
    with pytest.raises(InputError, match="parts of the sweep are missing"):
        shards.merge_shards(job)


def test_parts_that_cannot_be_merged_are_a_failure_on_record(tmp_path):
    own = jobs(tiny.make(tmp_path))
    assert runner.run_step(own["train"], ONE).state == "done"
    result = runner.run_step(own["perturb"], ONE, sharded=True)
    assert result.state == "failed" and "parts of the sweep are missing" in result.error
    verdict = steps.judge(own["perturb"])
    assert verdict.state == "failed" and verdict.reason.startswith("merging")


# --- the whole engine


def test_a_batch_goes_on_past_failures(tmp_path, capfd):
    experiment = tiny.make(tmp_path, runs=3)
    tiny.put(jobs(experiment, 1)["perturb"], "raise RuntimeError('broken')")
    report = batch.run(tmp_path, steps=tiny.STEPS, workers=2)
    assert report.exit_code == 1
    assert [result.job.name for result in report.of("failed")] == ["model_1_data_1 perturb"]
    assert [result.job.name for result in report.of("blocked")] == ["model_1_data_1 volume"]
    assert len(report.of("done")) == 13
    told = str(report)
    assert "13 done, 1 failed, 1 blocked" in told and storage.PERTURB_NOTEBOOK in told
    assert "cell 3: RuntimeError: broken" in told
    assert "Dask dashboard: http://" in capfd.readouterr().out
    table = batch.status(tmp_path)
    assert "failed: model_1_data_1 perturb: cell 3: RuntimeError: broken" in str(table)
    assert "RuntimeError: broken" in table._repr_html_() and "background:#d5efdc" in table._repr_html_()

    tiny.put(jobs(experiment, 1)["perturb"])
    report = batch.run(tmp_path, steps=tiny.STEPS, workers=1)
    assert report.exit_code == 0 and len(report.of("done")) == 2 and len(report.of("skipped")) == 13
    for run in experiment.run_seeds:
        counts = tiny.executions(tmp_path / run.name)
        assert all(counts[f"end {step}"] == 1 for step in tiny.STEPS)
    assert batch.run(tmp_path, steps=tiny.STEPS).of("skipped") and no_leftovers(tmp_path)


def test_some_runs_and_some_steps(tmp_path):
    experiment = tiny.make(tmp_path, runs=3)
    report = batch.run(tmp_path, runs=slice(1, 2), steps=["cutoff", "train"], workers=1)
    assert [result.job.name for result in report.results] == ["model_1_data_1 train", "model_1_data_1 cutoff"]
    assert [step for step, state in states(experiment, 1).items() if state == "done"] == ["train", "cutoff"]
    assert not (tmp_path / "model_0_data_0" / tiny.LOG).exists()
    with pytest.raises(InputError, match="has 3 runs, 0 to 2"):
        batch.run(tmp_path, runs=[7])
    with pytest.raises(InputError, match=r'trian: unknown step .did you mean "train"'):
        batch.run(tmp_path, steps=["trian"])


def test_a_scheduler_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT", "1s")
    tiny.make(tmp_path)
    with pytest.raises(InputError, match=r"--scheduler tcp://127.0.0.1:9: no Dask scheduler answers"):
        batch.run(tmp_path, scheduler="tcp://127.0.0.1:9")
    with pytest.raises(InputError, match=r"tls://127.0.0.1:9: needs keys in Dask's configuration"):
        batch.run(tmp_path, scheduler="tls://127.0.0.1:9")
    assert no_leftovers(tmp_path)


def launcher(folder: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "volume_lib", "run", str(folder), "--steps", ",".join(tiny.STEPS), *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **pipes)


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_interruption_that_something_swallows_is_remembered():
    before = signal.getsignal(signal.SIGINT)
    with engine._interruptions() as asked:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert asked.is_set()
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_and_a_second_launcher(tmp_path):
    experiment = tiny.make(tmp_path, bodies={"perturb": "time.sleep(60)"})
    run = tmp_path / "model_0_data_0"
    with launcher(tmp_path, "--workers", "1") as process:
        wait_until(lambda: tiny.executions(run)["begin perturb"])
        second = launcher(tmp_path)
        told, _ = second.communicate(timeout=30)
        assert second.returncode == 2 and f"process {process.pid}" in told and told.count("\n") == 1
        assert steps.judge(jobs(experiment)["perturb"]).state == "running"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everyone
        told, _ = process.communicate(timeout=20)
        assert process.returncode == 130 and "1 done, 1 stopped, 3 not begun" in told, told
    assert steps.judge(jobs(experiment)["perturb"]).state == "interrupted" and no_leftovers(tmp_path)


@pytest.mark.slow
def test_a_launcher_killed_and_started_again(tmp_path):
    experiment = tiny.make(tmp_path, runs=2, bodies={"perturb": "time.sleep(1)"})
    with launcher(tmp_path, "--workers", "2") as process:
        wait_until(lambda: tiny.executions(tmp_path / "model_0_data_0")["begin perturb"])
        process.kill()
    with launcher(tmp_path, "--workers", "2") as process:
        told, _ = process.communicate(timeout=60)
    assert process.returncode == 0, told
    for run in range(2):
        assert set(states(experiment, run).values()) == {"done"}
    assert tiny.executions(tmp_path / "model_0_data_0")["begin train"] == 1
    assert no_leftovers(tmp_path)


@pytest.mark.slow
def test_a_scheduler_with_workers_that_die_and_hang(tmp_path):
    """Separate processes on loopback: one worker killed inside a notebook, one stopped for a while."""
    experiment = tiny.make(tmp_path, runs=3, bodies={"train": "time.sleep(1)"})
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "4s"}
    dask = [sys.executable, "-m", "distributed.cli"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment, "cwd": tmp_path}
    scheduler_file = tmp_path / "scheduler.json"
    at = f"--scheduler-file={scheduler_file}"
    command = [
        *dask[:2],
        "distributed.cli.dask_scheduler",
        at,
        "--port=0",
        "--host=127.0.0.1",
        "--no-dashboard",
    ]
    everything = [subprocess.Popen(command, **quiet)]
    try:
        wait_until(scheduler_file.exists)
        address = json.loads(scheduler_file.read_text())["address"]
        command = [
            *dask[:2],
            "distributed.cli.dask_worker",
            at,
            "--nthreads=1",
            "--no-nanny",
            "--no-dashboard",
        ]
        workers = [subprocess.Popen(command, **quiet) for _ in range(3)]
        everything += workers
        with launcher(tmp_path, "--scheduler", address) as process:
            begun = [tmp_path / run.name for run in experiment.run_seeds]
            wait_until(lambda: all(tiny.executions(run)["begin train"] for run in begun))
            workers[0].kill()
            workers[1].send_signal(signal.SIGSTOP)  # longer than the scheduler waits: its step goes elsewhere
            time.sleep(7)
            workers[1].send_signal(signal.SIGCONT)
            told, _ = process.communicate(timeout=60)
        assert process.returncode == 0, told
    finally:
        for one in everything:
            one.kill()
            one.wait()
    for i, run in enumerate(experiment.run_seeds):
        counts = tiny.executions(tmp_path / run.name)
        assert all(counts[f"end {step}"] == 1 for step in tiny.STEPS), counts
        assert set(states(experiment, i).values()) == {"done"}
    assert no_leftovers(tmp_path)


def test_an_analysis_needs_no_data_set(tmp_path, monkeypatch):
    """A report of results that were shipped, where nobody has the samples."""
    tiny.make(tmp_path, runs=1)
    looked = []
    monkeypatch.setattr(engine, "check_against_data", looked.append)

    @contextlib.contextmanager
    def nowhere(*_):
        raise InputError("as far as this goes")
        yield

    monkeypatch.setattr(engine, "connected", nowhere)
    for steps_, times in ((["analysis"], 0), (["train"], 1)):
        with pytest.raises(InputError, match="as far as this goes"):
            batch.run(tmp_path, steps=steps_)
        assert len(looked) == times
