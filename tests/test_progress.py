"""Bars: where they end, what they promise, and what they leave behind in a notebook and in a pipe."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch

from volume_lib import measure, progress
from volume_lib.batch.kernels import Execution
from volume_lib.batch.resources import Resources
from volume_lib.problems import get_problem
from volume_lib.problems.splits import make_dataset
from volume_lib.progress import Bar
from volume_lib.sweep.run import run_sweep
from volume_lib.training.runs import train_models


def drawn(file: io.StringIO) -> list[str]:
    return file.getvalue().splitlines()


def test_a_bar_that_ends_early_as_asked_stands_at_its_total():
    file = io.StringIO()
    with Bar(total=100, file=file) as bar:
        bar.update(32)
    assert drawn(file)[-1].startswith("100%") and "32/32" in drawn(file)[-1]


def test_measure_without_progress_shows_no_bar_of_what_it_calls(capfd):
    asked = {"loss": "mse", "threshold": 50.0, "directions": 3, "scaling": "curvature"}
    x = torch.randn(8, 2)
    measure(torch.nn.Linear(2, 1), x, x.sum(1, keepdim=True), **asked, progress=False)
    assert capfd.readouterr().err == ""
    measure(torch.nn.Linear(2, 1), x, x.sum(1, keepdim=True), **asked)
    assert "curvature" in capfd.readouterr().err


@pytest.mark.parametrize("error, word", [(ValueError, "failed"), (KeyboardInterrupt, "stopped")])
def test_a_bar_that_was_left_by_an_error_does_not(error, word):
    file = io.StringIO()
    with pytest.raises(error), Bar(total=100, file=file) as bar:
        bar.update(32)
        raise error
    last = drawn(file)[-1]
    assert " 32%" in f" {last}" and "32/100" in last and word in last


def test_what_was_there_before_promises_nothing():
    """90 of 100 done before; 5 in 5 s: another 5 s, whatever the first 90 took."""
    bar = Bar(total=100, file=io.StringIO(), smoothing=0)
    bar.skip(90)
    bar.update(5)
    bar.start_t -= 5
    told = bar.format_dict
    assert told["n"] == 95 and told["initial"] == 90
    line = bar.format_meter(**{**told, "elapsed": 5.0, "rate": None})
    assert "00:05<00:05" in line and "95/100" in line
    bar.close()


def test_a_pipe_gets_whole_lines_and_few_of_them(monkeypatch):
    """A thousand updates at once are one line at the start and one at the end."""
    file = io.StringIO()
    with Bar(total=1000, file=file) as bar:
        for _ in range(1000):
            bar.update()
    assert len(drawn(file)) == 2 and "\r" not in file.getvalue() and "\x1b" not in file.getvalue()
    assert bar.mininterval == progress.PIPE_SECONDS == 10


def test_an_executed_notebook_keeps_the_line_that_the_bar_ended_with(tmp_path):
    source = "from volume_lib.progress import Bar\n"
    source += "with Bar(total=40, desc='work') as bar:\n    bar.update(10)\n    bar.say('one line')\n"
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None}
    notebook = {"cells": [{**cell, "source": source}], "nbformat": 4, "nbformat_minor": 5}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = Path(tmp_path / "bar.ipynb")
    path.write_text(json.dumps({**notebook, "metadata": {"kernelspec": kernel}}))
    Execution(path, {}, Resources(threads=1).environment()).run()
    saved = json.loads(path.read_text())
    outputs = saved["cells"][-1]["outputs"]
    assert [output["output_type"] for output in outputs] == ["display_data", "stream"]
    assert "".join(outputs[0]["data"]["text/plain"]).startswith("work: 100%") and list(
        outputs[0]["data"]
    ) == ["text/plain"]
    assert "".join(outputs[1]["text"]) == "one line\n" and "widgets" not in saved["metadata"]


# --- the bars of training and sweep


@pytest.fixture
def small(tmp_path):
    problem = get_problem("swiss_roll")
    dataset = make_dataset(problem, base_data_size=10, dataset_quantities=[0, 20], data_seed=1, test_size=20)
    settings = {"model": {"hidden_dims": [8]}, "model_seed": 0, "batch_size": 40, "learning_rate": 0.01}

    def train(**more):
        return train_models(problem, dataset, folder=tmp_path / "models_and_data", **settings, **more)

    return problem, dataset, train


def test_a_training_that_stops_early_as_asked_ends_its_bar_and_leaves_a_line_for_each_model(small, capsys):
    _, _, train = small
    models = train(epochs=500, target_train_loss=0.6)
    told = capsys.readouterr()
    assert told.err.splitlines()[-1].startswith("training: 100%")
    lengths = [len(trained.train_loss) for trained in models]
    assert max(lengths) < 500
    assert sorted(line for line in told.err.splitlines() if "epochs" in line) == [
        f"additional {trained.value}: {length} epochs, train loss {trained.train_loss[-1]:.3g}, "
        f"test loss {trained.test_loss[-1]:.3g}"
        for trained, length in zip(models, lengths, strict=True)
    ]


def test_a_sweep_that_goes_on_counts_what_was_there_as_done_not_as_fast(small, capsys, tmp_path, monkeypatch):
    problem, dataset, train = small
    models = train(epochs=3)
    arguments = {"num_directions": 4, "loss_thresholds": [0.9]}
    run_sweep(problem, models[:1], dataset, tmp_path, **arguments)
    bars = []
    monkeypatch.setattr("volume_lib.sweep.run.Bar", lambda **options: bars.append(Bar(**options)) or bars[-1])
    capsys.readouterr()
    run_sweep(problem, models, dataset, tmp_path, **arguments)
    assert [line for line in capsys.readouterr().err.splitlines() if ", in " in line] == [
        "additional 0: there already, in 1 landscape",
        "additional 20: 4 directions, in 2 landscapes",
    ]
    (bar,) = bars
    assert (bar.initial, bar.n, bar.total) == (4 * 10, 4 * 10 + 4 * 30, 4 * 10 + 4 * 30)
