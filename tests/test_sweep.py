"""The sweep on real minima: float64, dense scans, resuming after a kill, memory, bad input."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from volume_lib import storage
from volume_lib.errors import InputError
from volume_lib.problems import get_problem
from volume_lib.problems.splits import make_dataset
from volume_lib.rays.directions import draw_batch
from volume_lib.rays.fast import FastRays
from volume_lib.rays.scaling import compute_scale
from volume_lib.sweep.run import run_sweep
from volume_lib.training.runs import train_models
from volume_lib.volume.estimate import estimate_volumes

LEVELS = (0, 60, 340)
SWEEP = {"num_directions": 40, "loss_thresholds": [0.1, 0.05]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three swiss-roll minima trained far below the thresholds, and their folder."""
    folder = tmp_path_factory.mktemp("run") / "models_and_data"
    problem = get_problem("swiss_roll")
    dataset = make_dataset(problem, base_data_size=60, dataset_quantities=LEVELS, data_seed=0)
    models = train_models(
        problem, dataset, folder=folder, model_seed=0, epochs=600, batch_size=100, target_train_loss=0.005
    )
    assert all(trained.train_loss[-1] < 0.02 for trained in models)
    return problem, models, dataset, folder


def radii(path, threshold):
    """Threshold radii by the scan rule, as any reader of the file would find them."""
    found = []
    for ray in storage.load_sweep(path).wiggle_results:
        above = ~(ray["loss"] <= threshold)
        found.append(
            ray["coefficients"][np.argmax(above)] * ray["perturbation_norm"] if above.any() else np.inf
        )
    return np.array(found)


@pytest.fixture(scope="module")
def swept(run, tmp_path_factory):
    problem, models, dataset, _ = run
    folder = tmp_path_factory.mktemp("swept")
    return folder, run_sweep(problem, models, dataset, folder, **SWEEP)


def test_one_file_for_every_minimum_and_landscape_not_larger_than_its_data(run, swept):
    folder, paths = swept
    names = [path.relative_to(folder).as_posix() for path in paths]
    assert names == [
        "data_0/data_0.npz", "data_0/data_60.npz", "data_60/data_60.npz",
        "data_0/data_340.npz", "data_60/data_340.npz", "data_340/data_340.npz",
    ]  # fmt: skip
    sweep = storage.load_sweep(paths[4])
    assert (sweep.additional_data, sweep.model_trained_data, sweep.base_dataset_size) == (60, 340, 60)
    assert [ray["perturbation_seed"] for ray in sweep.wiggle_results] == list(range(40))
    weights = run[1][2].model.state_dict()
    assert all(np.array_equal(sweep.state_dict[name], weights[name].numpy()) for name in weights)


def test_radii_against_float64_bisection(run, swept):
    """Relative error at most what the file says, 1e-6 or 1e-3, in at least 99.9 % of (direction, model,
    landscape, threshold); the largest ten of each landscape and threshold to 1e-6."""
    problem, models, dataset, _ = run
    errors, refined = [], []
    for trained in models:
        levels = [level for level in LEVELS if level <= trained.level]
        x, y = dataset.upto(levels[-1])
        model = copy.deepcopy(trained.model).double()
        rays = FastRays(
            problem, model, x.double(), y.double(), [60 + level for level in levels],
            compute_scale("filter", trained.model),
        )  # fmt: skip
        sweeps = [
            storage.load_sweep(storage.sweep_path(swept[0], "data", level, "additional", trained.value))
            for level in levels
        ]
        rays.load(draw_batch(range(40), len(rays.theta)))
        rows = np.arange(40)
        for k, sweep in enumerate(sweeps):
            for threshold in SWEEP["loss_thresholds"]:
                found = np.array([
                    ray["coefficients"][np.argmax(ray["loss"] > threshold)] for ray in sweep.wiggle_results
                ])  # fmt: skip
                column = sorted(SWEEP["loss_thresholds"]).index(threshold)
                said = np.array([ray["resolution"][column] for ray in sweep.wiggle_results])
                norms = np.array([ray["perturbation_norm"] for ray in sweep.wiggle_results])
                assert (said[np.argsort(-found * norms)[:10]] <= 1.000001e-6).all()
                assert (said <= 1.000001e-3).all()
                refined.append(said <= 1.000001e-6)
                lo, hi = found * (1 - 2e-3), found * (1 + 2e-3)
                for _ in range(28):
                    middle = (lo + hi) / 2
                    above = rays(rows, middle, k)[0][:, k] > threshold
                    lo, hi = np.where(above, lo, middle), np.where(above, middle, hi)
                errors.append(np.abs(found / hi - 1))
    errors, refined = np.concatenate(errors), np.concatenate(refined)
    assert np.mean(errors[refined] <= 1e-6) >= 0.999, f"worst {errors[refined].max():.2e}"
    assert np.mean(errors[~refined] <= 1e-3) >= 0.999, f"worst {errors[~refined].max():.2e}"
    assert 0.2 < refined.mean() < 0.9


def test_first_crossings_against_a_dense_scan(run, swept):
    """2,000 points up to each bracket: none above the threshold, on at least 99.5 % of the rays."""
    problem, models, dataset, _ = run
    trained, level, threshold = models[2], 340, 0.1
    x, y = dataset.upto(level)
    rays = FastRays(problem, trained.model, x, y, [len(x)], compute_scale("filter", trained.model))
    rays.load(draw_batch(range(40), len(rays.theta)))
    sweep = storage.load_sweep(storage.sweep_path(swept[0], "data", level, "additional", 340))
    found = np.array(
        [ray["coefficients"][np.argmax(ray["loss"] > threshold) - 1] for ray in sweep.wiggle_results]
    )
    earlier = np.zeros(40, dtype=bool)
    for fraction in np.linspace(0, 1, 2000, endpoint=False):
        earlier |= rays(np.arange(40), fraction * found, 0)[0][:, 0] > threshold * (1 + 1e-5)
    assert earlier.mean() <= 0.005


def test_the_grids_radius_is_the_crossings_rounded_up(run, swept, tmp_path):
    problem, models, dataset, _ = run
    options = SWEEP | {"num_directions": 5}
    paths = run_sweep(problem, models, dataset, tmp_path, search="grid", **options)
    grid = np.linspace(0, 1, 100) ** 2
    for coarse_path, fine_path in zip(paths, swept[1], strict=True):
        coarse, fine = storage.load_sweep(coarse_path), storage.load_sweep(fine_path)
        for threshold in SWEEP["loss_thresholds"]:
            for a, b in zip(coarse.wiggle_results, fine.wiggle_results, strict=False):
                first = np.argmax(b["loss"] > threshold)
                np.testing.assert_array_equal(a["coefficients"], grid)
                found = a["coefficients"][np.argmax(a["loss"] > threshold)]
                assert found in {grid[grid >= c][0] for c in b["coefficients"][first - 1 : first + 1]}


def test_batches_budgets_and_company_change_nothing_beyond_the_tolerance(run, swept, tmp_path):
    problem, models, dataset, _ = run
    run_sweep(problem, models[2:], dataset, tmp_path / "small", memory_budget=2e6, **SWEEP)
    run_sweep(problem, models[2:], dataset, tmp_path / "alone", landscape_levels=[340], **SWEEP)
    for folder, levels in (("small", LEVELS), ("alone", [340])):
        for level in levels:
            name = f"data_{level}/data_340.npz"
            for threshold in SWEEP["loss_thresholds"]:
                ours, theirs = radii(tmp_path / folder / name, threshold), radii(swept[0] / name, threshold)
                np.testing.assert_allclose(ours, theirs, rtol=1e-3)
                largest = np.argsort(-theirs)[:10]
                np.testing.assert_allclose(ours[largest], theirs[largest], rtol=1e-6)


def test_done_files_are_kept_and_other_settings_or_weights_are_swept_again(run, tmp_path):
    problem, models, dataset, _ = run
    options = {"num_directions": 3, "loss_thresholds": [0.1]}
    paths = run_sweep(problem, models[:2], dataset, tmp_path, **options)
    before = [path.stat().st_mtime_ns for path in paths]
    assert run_sweep(problem, models[:2], dataset, tmp_path, **options) == paths
    assert [path.stat().st_mtime_ns for path in paths] == before
    paths[0].write_bytes(paths[0].read_bytes()[:100])  # damaged: only its model is swept again
    run_sweep(problem, models[:2], dataset, tmp_path, **options)
    assert [path.stat().st_mtime_ns != old for path, old in zip(paths, before, strict=True)] == [
        True,
        False,
        False,
    ]
    run_sweep(problem, models[:2], dataset, tmp_path, **(options | {"num_directions": 4}))
    assert len(storage.load_sweep(paths[2]).wiggle_results) == 4
    retrained = copy.deepcopy(models[1])
    with torch.no_grad():
        next(retrained.model.parameters()).mul_(1.01)
    stamp = paths[1].stat().st_mtime_ns
    run_sweep(problem, [models[0], retrained], dataset, tmp_path, **(options | {"num_directions": 4}))
    assert paths[1].stat().st_mtime_ns != stamp


def test_another_largest_coefficient_is_another_sweep_where_rays_end_there(run, tmp_path):
    problem, models, dataset, _ = run
    options = {"num_directions": 3, "loss_thresholds": [0.1]}
    (path,) = run_sweep(problem, models[:1], dataset, tmp_path, max_coefficient=1e-3, **options)
    assert np.isinf(radii(path, 0.1)).all()  # censored
    run_sweep(problem, models[:1], dataset, tmp_path, **options)
    assert np.isfinite(radii(path, 0.1)).all()
    stamp = path.stat().st_mtime_ns
    run_sweep(problem, models[:1], dataset, tmp_path, max_coefficient=500, **options)
    assert path.stat().st_mtime_ns == stamp  # every ray crossed long before: the same file


def test_killed_at_ten_random_moments_and_resumed_gives_the_same_files(run, swept, tmp_path):
    program = (
        "import sys; from volume_lib import storage; from volume_lib.problems import get_problem\n"
        "from volume_lib.sweep.run import run_sweep\n"
        "models, dataset = storage.load_models_and_data(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "run_sweep(get_problem('swiss_roll'), models, dataset, sys.argv[2], num_directions=40,"
        " loss_thresholds=[0.1, 0.05])\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def sweep(folder, killed_after=None):
        """Run the program, or kill it some seconds after it began to sweep; returns how long it swept."""
        command = [sys.executable, "-c", program, str(run[3]), str(folder)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        ) as process:
            assert process.stdout.readline() == b"ready\n"
            begin = time.monotonic()
            if killed_after is not None:
                time.sleep(killed_after)
                process.send_signal(signal.SIGKILL)
        assert killed_after is not None or process.returncode == 0
        return time.monotonic() - begin

    seconds = sweep(tmp_path / "undisturbed")
    generator = np.random.default_rng(int(time.time()))
    for moment in generator.uniform(0, seconds, 10):
        sweep(tmp_path / "disturbed", moment)
    sweep(tmp_path / "disturbed")
    files = [path.relative_to(tmp_path / "undisturbed") for path in (tmp_path / "undisturbed").rglob("*.npz")]
    assert len(files) == len(swept[1])
    for name in files:
        assert (tmp_path / "disturbed" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("after", [1, 4])
def test_of_an_interrupted_model_only_the_batch_in_hand_is_walked_again(run, tmp_path, monkeypatch, after):
    """Stopped when so many batches of a model are done, and gone on with: the same files, nothing twice."""
    problem, models, dataset, _ = run
    options = SWEEP | {"memory_budget": 1.5e6}
    whole = run_sweep(problem, models[2:], dataset, tmp_path / "whole", **options)
    loaded, load = [], FastRays.load

    def counted(rays, directions):
        if rays.twin is not None:  # not the twin's own
            if stop and len(loaded) == after:
                raise Interrupted
            loaded.append(len(directions))
        load(rays, directions)

    monkeypatch.setattr(FastRays, "load", counted)
    stop = True
    with pytest.raises(Interrupted):
        run_sweep(problem, models[2:], dataset, tmp_path / "parts", **options)
    kept = list((tmp_path / "parts").rglob("*.npz"))
    assert len(kept) == after and all(path.parent.name == "data_340" for path in kept)
    before, stop = list(loaded), False
    parts = run_sweep(problem, models[2:], dataset, tmp_path / "parts", **options)
    assert [path.read_bytes() for path in parts] == [path.read_bytes() for path in whole]
    assert not (tmp_path / "parts" / ".partial").exists()
    undisturbed, loaded[:] = list(loaded), []
    run_sweep(problem, models[2:], dataset, tmp_path / "again", **options)
    assert undisturbed == loaded and len(before) == after < len(loaded) - 1


def test_batches_of_other_weights_settings_or_data_and_damaged_ones_are_not_gone_on_from(run, tmp_path):
    problem, models, dataset, _ = run
    expected = run_sweep(problem, models[1:2], dataset, tmp_path / "whole", **SWEEP)
    folder = storage.partial_dir(tmp_path / "here", "data", "additional", 60)
    partials = []
    for options, minima in (
        (SWEEP | {"scaling": "none"}, models[1:2]),
        (SWEEP | {"xrtol_rest": 1e-4}, models[1:2]),
    ):
        partials.append(_batches(problem, minima, dataset, tmp_path / f"other{len(partials)}", options))
    retrained = copy.deepcopy(models[1])
    with torch.no_grad():
        next(retrained.model.parameters()).mul_(1.01)
    partials.append(_batches(problem, [retrained], dataset, tmp_path / "weights", SWEEP))
    partials.append([b"PK damaged"])
    ours = _batches(problem, models[1:2], dataset, tmp_path / "ours", SWEEP)
    partials.append([ours[0], ours[1][:-200], *ours[2:]])
    for batches in partials:
        folder.mkdir(parents=True)
        for number, content in enumerate(batches):
            (folder / f"{number:06}.npz").write_bytes(content)
        found = run_sweep(problem, models[1:2], dataset, tmp_path / "here", **SWEEP)
        assert [path.read_bytes() for path in found] == [path.read_bytes() for path in expected]
        for path in found:
            path.unlink()


def _batches(problem, models, dataset, folder, options):
    """The files of the batches of a model, as they are when its sweep is interrupted at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "save_sweep", _interrupt)
        with pytest.raises(Interrupted):
            run_sweep(problem, models, dataset, folder, **options)
    return [path.read_bytes() for path in sorted(folder.rglob("*.npz"))]


def _interrupt(*_):
    raise Interrupted


def test_estimates_are_those_of_all_rays_at_full_precision(run, tmp_path):
    """Mean, interval, effective directions, order, the ten largest radii, and how few directions tell it."""
    problem, models, dataset, _ = run
    options = {
        "num_directions": 60,
        "loss_thresholds": [0.1, 0.05],
        "landscape_levels": [0],
        "acc_threshold": 0.97,
    }
    for scaling, seed in (("filter", 0), ("none", 1000), ("curvature", 5000)):
        given = options | {"scaling": scaling, "perturbation_seed": seed}
        sides = []
        for name, more in ((f"{scaling} two", {}), (f"{scaling} one", {"xrtol_rest": 1e-6})):
            paths = run_sweep(problem, models, dataset, tmp_path / name, **given, **more)
            sides.append([storage.load_sweep(path) for path in paths])
        for threshold in options["loss_thresholds"]:
            two, one = (estimate_volumes(sweeps, threshold, acc_threshold=0.97) for sweeps in sides)
            close = max(1.0, *two["log_exp_r_n_resolution"])
            for suffix in ("", "_acc"):
                for key in (f"log_exp_r_n{suffix}_values", f"log_exp_r_n{suffix}_ci"):
                    np.testing.assert_allclose(two[key], one[key], rtol=0, atol=close)
                effective = f"effective_directions{suffix}"
                np.testing.assert_allclose(two[effective], one[effective], rtol=0.02)
                ranks = f"log_exp_r_n{suffix}_ranks"
                assert two[ranks] == one[ranks]
            assert two["top_r_val_seeds"] == one["top_r_val_seeds"]
            np.testing.assert_allclose(two["top_r_vals"], one["top_r_vals"], rtol=1e-6)
            for key in ("radii_rank_probabilities", "radii_rank_probabilities_full"):
                np.testing.assert_allclose(two[key], one[key], atol=0.005)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"xrtol_rest": 1e-7}, "xrtol_rest"),
        ({"xrtol_rest": 0.2, "search": "grid"}, "xrtol_rest"),
        ({"num_directions": 0}, "num_directions"),
        ({"loss_thresholds": [0.1, 0]}, "loss_thresholds"),
        ({"loss_thresholds": []}, "loss_thresholds"),
        ({"acc_threshold": 1.5}, "acc_threshold"),
        ({"search": "newton"}, "search"),
        ({"scaling": "layer"}, "scaling"),
        ({"landscape_levels": [0, 9999]}, "landscape_levels"),
        ({"max_coefficient": -1}, "max_coefficient"),
        ({"device": "abacus"}, "device"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(run, tmp_path, change, says):
    problem, models, dataset, _ = run
    with pytest.raises(InputError, match=says):
        run_sweep(problem, models, dataset, tmp_path / "out", **(SWEEP | change))
    assert not (tmp_path / "out").exists()
