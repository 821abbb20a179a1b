"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tiny_experiment as tiny
from typer.testing import CliRunner

from volume_lib import batch, storage
from volume_lib.batch.agenda import parse_runs
from volume_lib.batch.beginnings import DEMO
from volume_lib.batch.check import check_against_data
from volume_lib.batch.resources import Resources
from volume_lib.batch.runner import run_step
from volume_lib.batch.steps import jobs_of
from volume_lib.cli import app
from volume_lib.errors import InputError
from volume_lib.experiment.file import parse_experiment, read_experiment


def call(*words) -> tuple[int, str]:
    """Exit code and everything printed."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "nowhere"], "nowhere/experiment.yaml: does not exist"),
        (["make", "nowhere"], "does not exist"),
        (["status", "nowhere"], "nowhere: no experiment.yaml here or below"),
        (["clean", "nowhere", "--what", "all"], "no experiment.yaml here or below"),
        (["propagate", "nothing.py", "nowhere"], "nothing.py: does not exist"),
        (["run", "nowhere", "--seeds", "a"], "--seeds a: must be positions of runs"),
        (
            ["run", "nowhere", "--workers", "2", "--scheduler", "tcp://h:1"],
            "--workers and --scheduler: give one",
        ),
        (["new", "x", "--problem", "mnit"], 'problem "mnit" is unknown (did you mean "mnist"?)'),
    ],
)
def test_mistakes_are_one_line_and_code_2(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output = call(*words)
    assert code == 2 and output.startswith("error: ") and output.count("\n") == 1 and told in output
    assert not list(tmp_path.iterdir())


def test_an_unknown_command_or_option():
    assert call("rnu")[0] == 2 and call("run", "x", "--forse")[0] == 2


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        (None, None),
        ("0:10", slice(0, 10)),
        (":3", slice(None, 3)),
        ("2:", slice(2, None)),
        ("4", [4]),
        ("0,4", [0, 4]),
    ],
)
def test_positions_of_runs(text, runs):
    assert parse_runs(text) == runs


@pytest.mark.parametrize("text", ["", "a:b", "1:2:3:4", "1;2"])
def test_what_are_no_positions(text):
    with pytest.raises(InputError, match="--seeds"):
        parse_runs(text)


def test_new_writes_an_experiment_that_can_be_run(tmp_path):
    code, output = call("new", tmp_path / "e", "--problem", "swiss_roll")
    assert code == 0 and "run" in output
    experiment = read_experiment(tmp_path / "e")
    check_against_data(experiment)
    levels = experiment.train.dataset_quantities
    assert levels[0] == 0 and levels[-1] + experiment.train.base_data_size <= 10_000
    code, output = call("new", tmp_path / "e", "--problem", "swiss_roll")
    assert code == 2 and "is there already" in output


def test_new_for_a_problem_of_ones_own(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\nfrom volume_lib.problems import Problem\n"
        "from volume_lib.records import Data\n\n\nclass Mine(Problem):\n    num_classes = 2\n"
        "    model_classes = {'L': nn.Linear}\n\n    def load(self, root=None):\n"
        "        x, y = torch.randn(700, 2), torch.zeros(700, dtype=torch.long)\n"
        "        return Data(x, y, x, y)\n\n    def default_model_kwargs(self, model_class):\n"
        "        return {'in_features': 2, 'out_features': 2}\n"
    )
    assert call("new", tmp_path, "--problem", "mine.py:Mine")[0] == 0
    experiment = read_experiment(tmp_path)
    check_against_data(experiment)
    assert experiment.train.dataset_quantities == [0, 540]


def test_make_and_status(tmp_path):
    (tmp_path / "experiment.yaml").write_text("problem: swiss_roll\n")
    code, output = call("make", tmp_path)
    assert code == 0 and output == f"{tmp_path / 'model_0_data_0'}\n"
    code, output = call("status", tmp_path)
    assert code == 0 and output.count("pending") == 6 and "\033" not in output


def test_run_reports_and_its_exit_code_is_1_on_failure(tmp_path):
    experiment = tiny.make(tmp_path)
    tiny.put(jobs_of(experiment, experiment.run_seeds[0])[0], "1 / 0")
    code, output = call("run", tmp_path, "--workers", 1, "--steps", "train")
    assert code == 1
    assert f"{storage.TRAIN_NOTEBOOK}: cell 3: ZeroDivisionError: division by zero" in output
    tiny.put(jobs_of(experiment, experiment.run_seeds[0])[0])
    assert run_step(jobs_of(experiment, experiment.run_seeds[0])[0], Resources(1)).state == "done"
    code, output = call("run", tmp_path, "--steps", "train")
    assert (code, output.splitlines()[-1][:13]) == (0, "1 done before")


def test_clean_lists_asks_and_obeys(tmp_path):
    job = jobs_of(experiment := tiny.make(tmp_path), experiment.run_seeds[0])[0]
    tiny.put(
        job, "os.makedirs('models_and_data'); open('models_and_data/samples.png', 'wb').write(bytes(2500000))"
    )
    assert run_step(job, Resources(1)).state == "done"
    model = tmp_path / "model_0_data_0" / "models_and_data" / "dataset.pt"
    for answer, there in (("n\n", True), ("y\n", False)):
        result = CliRunner().invoke(app, ["clean", str(tmp_path), "--what", "models"], input=answer)
        assert (
            result.exit_code == 0 and "2.5 MB" in result.output and str(model.parent.parent) in result.output
        )
        assert model.exists() is there
    code, output = call("clean", tmp_path, "--what", "models", "--yes")
    assert code == 0 and "nothing to delete" in output


def test_propagate(tmp_path):
    tiny.make(tmp_path / "e", runs=2)
    (tmp_path / "f.py").write_text("1")
    code, output = call("propagate", tmp_path / "f.py", tmp_path / "e")
    assert code == 0 and output.count("f.py") == 2


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(folder):
        raise OSError(28, "cannot write: No space left on device", str(folder))

    monkeypatch.setattr(batch, "make", full)
    code, output = call("make", tmp_path)
    assert code == 1 and output.startswith("error: [Errno 28]") and output.count("\n") == 1


def test_the_demo_is_a_sound_experiment():
    experiment = parse_experiment(DEMO)
    assert len(experiment.run_seeds) == 3
    check_against_data(experiment)


def test_as_a_module():
    command = [sys.executable, "-m", "volume_lib", "--help"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(word in done.stdout for word in ["demo", "new", "make", "run", "status", "clean", "propagate"])
