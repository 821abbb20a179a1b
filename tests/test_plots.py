"""What the figures draw: their artists hold the numbers they were given."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import dataclasses
import itertools
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import synthetic_experiment as known
import torch
from matplotlib.colors import to_hex
from torch import nn

from volume_lib import analysis, plots, storage
from volume_lib.errors import InputError
from volume_lib.plots import style
from volume_lib.problems import get_problem
from volume_lib.records import Sweep, TrainedModel
from volume_lib.slices import Plane

LEVELS = [0, 540, 1940, 5940]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    for seed in range(3):
        known.write_run(folder, seed)
    return analysis.load_experiment(folder)


def model(level, losses=(2.0, 1.0, 0.5), **more):
    tests = [loss + 0.1 for loss in losses]
    fields = {"key": "additional", "value": level} | more
    return TrainedModel(
        nn.Identity(), "MLP", {}, 0, "mnist", "data", level, list(losses), tests, [1.0], [0.9], **fields
    )


def sweep(level, crossing, landscape=0):
    """Three rays of loss c/crossing², the middle one's crossing of a threshold t at exactly t·crossing²."""
    coefficients = np.linspace(0, 4 * crossing, 401)
    rays = [
        {"coefficients": coefficients, "loss": 0.01 + coefficients / scale, "perturbation_norm": 2.0}
        for scale in (0.5 * crossing, crossing, 2 * crossing)
    ]
    return Sweep(
        rays,
        landscape,
        level,
        "data",
        60,
        0.1,
        0.9,
        0.01,
        10,
        {},
        "filter",
        0.0,
        "grid",
        [0.1],
        None,
        value=level,
    )


def xy(ax, **look):
    """Points of the lines of ``ax`` whose properties are ``look``."""
    found = [line for line in ax.lines if all(getattr(line, f"get_{k}")() == v for k, v in look.items())]
    return [tuple(np.asarray(v, dtype=float) for v in line.get_data()) for line in found]


def marked(ax):
    """{x: y} of every single marked point."""
    return {
        float(x[0]): float(y[0])
        for x, y in (line.get_data() for line in ax.lines if line.get_marker() in style.MARKERS)
        if np.size(x) == 1
    }


@pytest.mark.parametrize("given", [False, True])
def test_every_figure_draws_where_it_is_told_and_saves_nothing(given, experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models, sweeps = [model(level) for level in LEVELS], [sweep(level, 0.5) for level in LEVELS]
    result = known.results(0, 0, known.LEVELS)
    fit = analysis.fit_power_law(experiment.minima_sizes, experiment.matrix("log_exp_r_n", 0))
    agreements = [analysis.rank_agreement(experiment, level) for level in experiment.landscapes]
    roll = get_problem("swiss_roll")
    data = roll.load()
    net = roll.build_model({}, seed=0)
    calls = [
        lambda ax: plots.training_curves(models, ax),
        lambda ax: plots.accuracy_curves(models, ax),
        lambda ax: plots.test_loss(models, ax),
        lambda ax: plots.test_accuracies([60, 600, 2000, 6000], [0.5, 0.7, 0.8, 0.9], ax),
        lambda ax: plots.ray_profiles(sweeps, [0.1, 0.5], ax),
        lambda ax: plots.radii_histogram({0: np.arange(5.0), 540: np.arange(4.0)}, ax),
        lambda ax: plots.loss_curves(known.cutoffs(known.LEVELS, 1000), ax, loss_threshold=0.1),
        lambda ax: plots.log_volumes(result, ax),
        lambda ax: plots.volume_against_test_loss(result, ax),
        lambda ax: plots.rank_agreement(result, ax),
        lambda ax: plots.rank_probabilities(result, ax),
        lambda ax: plots.samples(roll, data.x_train[:50], data.y_train[:50], ax),
        lambda ax: plots.decision_boundary(
            roll, net, data.x_train[:50], data.y_train[:50], ax, resolution=10
        ),
        lambda ax: plots.volume_against_data(experiment, ax=ax),
        lambda ax: plots.volume_against_landscape(experiment, ax),
        lambda ax: plots.against_volume(experiment, "test_loss", ax=ax),
        lambda ax: plots.rank_table(experiment, ax=ax),
        lambda ax: plots.agreement(agreements, ax),
        lambda ax: plots.power_law(experiment, fit, ax=ax),
        lambda ax: plots.residuals(experiment, fit, ax),
        lambda ax: plots.compare(analysis.compare(experiment, experiment), ax),
    ]
    for call in calls:
        ax = plt.subplots()[1] if given else None
        count = len(plt.get_fignums())
        returned = call(ax)
        assert returned is ax or not given
        assert len(plt.get_fignums()) == count + (not given)
        returned.figure.canvas.draw()
        plt.close("all")
    assert list(tmp_path.iterdir()) == []


def test_a_level_keeps_its_colour_in_every_landscape():
    everything = style.level_styles(LEVELS)
    assert {level: everything[level] for level in LEVELS[2:]} == style.level_styles(LEVELS[2:])
    looks = [(s["color"], s["marker"]) for s in style.level_styles(range(20)).values()]
    assert len({colour for colour, _ in looks}) == 20


def test_colours_of_a_level_agree_between_figures(experiment):
    expected = style.level_styles(experiment.minima)
    curves = plots.loss_curves(known.cutoffs(known.LEVELS, 1000))
    for line in curves.lines:
        if line.get_label().replace(",", "").isdigit():
            assert line.get_color() == expected[int(line.get_label())]["color"]
    points = plots.log_volumes(known.results(0, 40, known.LEVELS[1:]), levels=known.LEVELS)
    colours = {line.get_xdata()[0]: line.get_color() for line in points.lines if len(line.get_xdata()) == 1}
    assert colours[40] == expected[40]["color"] and colours[940] == expected[940]["color"]


def test_training_curves_and_final_test_losses():
    models = [model(540, (4.0, 0.2)), model(0, (3.0, 0.1))]
    curves = xy(plots.training_curves(models), linestyle="-")
    assert curves[0][0].tolist() == [1, 2] and curves[0][1].tolist() == [3.0, 0.1]
    assert xy(plots.training_curves(models), linestyle="--")[1][1].tolist() == pytest.approx([4.1, 0.3])
    assert marked(plots.test_loss(models)) == pytest.approx({0: 0.2, 540: 0.3})


def test_accuracies_are_drawn_against_the_epoch():
    curves = {0: ([0.5, 1.0], [0.4, 0.6]), 540: ([0.3, 0.9], [0.2, 0.7])}
    models = [
        dataclasses.replace(model(level), train_accs=train, test_accs=test)
        for level, (train, test) in curves.items()
    ]
    ax = plots.accuracy_curves(models)
    assert ax.get_xscale() == "log" and ax.get_ylabel() == "accuracy"
    for which, line in enumerate(("-", "--")):
        drawn = [(x.tolist(), y.tolist()) for x, y in xy(ax, linestyle=line)[:2]]
        assert drawn == [([1, 2], accuracies[which]) for accuracies in curves.values()]


def test_models_that_differ_in_batch_size_say_so():
    models = [model(0, key="batch_size", value=8), model(0, key="batch_size", value=512)]
    ax = plots.test_loss(models)
    assert set(marked(ax)) == {8.0, 512.0} and ax.get_xlabel() == "batch size"


def test_lengths_of_one_training_are_marked_on_its_curve():
    losses = {2: (4.0, 0.5), 3: (4.0, 0.6, 0.1)}
    models = [model(0, curve, key="epochs", value=epochs) for epochs, curve in losses.items()]
    ax = plots.training_curves(models)
    assert marked(ax) == pytest.approx({2: 0.6, 3: 0.2})  # of two with the same x, the test curve's came last
    solid = [line for line in ax.lines if line.get_linestyle() == "-"]
    assert [len(line.get_xdata()) for line in solid] == [3, 2]  # the shorter is drawn on top


def test_rays_of_lengths_have_the_colours_of_the_other_figures():
    values = list(range(100, 900, 100))  # as many as there are colours
    sweeps = [dataclasses.replace(sweep(0, 0.5), key="epochs", value=value) for value in values]
    ax = plots.ray_profiles(sweeps, [0.31], levels=[0])
    expected = [plots.level_styles(values)[value]["color"] for value in values]
    assert [handle.get_color() for handle in ax.get_legend().legend_handles] == expected


def test_ray_profiles_mark_the_median_crossing_by_the_scan_rule():
    ax = plots.ray_profiles([sweep(0, 0.5), sweep(540, 0.2)], [0.31])
    points = sorted(x for x, y in marked(ax).items() if y == 0.31)
    # 0.01 + c/crossing > 0.31 first holds one step beyond c = 0.3·crossing on a grid of crossing/100.
    assert points == pytest.approx([0.3 * 0.2, 0.3 * 0.5], abs=0.011 * 0.5)


def test_ray_profiles_survive_rays_that_never_cross_and_losses_of_nan():
    quiet = sweep(0, 0.5)
    quiet.wiggle_results[0]["loss"] = np.full(401, 1e-3)
    for ray in quiet.wiggle_results[1:]:
        ray["loss"] = np.where(np.arange(401) > 5, np.nan, 1e-3)
    ax = plots.ray_profiles([quiet], [0.1])
    assert marked(ax) == {quiet.wiggle_results[1]["coefficients"][6]: 0.1}
    ax.figure.canvas.draw()


def test_radii_histogram_counts_every_direction():
    radii = {
        0: np.array([1.0, 1.1, 5.0]),
        540: SimpleNamespace(radius=np.array([2.0, 3.0]), censored=np.array([True, False])),
    }
    ax = plots.radii_histogram(radii, bins=4)
    outlines = [p for p in ax.patches if not p.get_fill()]
    assert len(outlines) == 2
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert labels == ["0", "540 (1 never crossed)"]
    assert sorted(marked(ax)) == [3.0, 5.0]  # largest radii


def test_log_volumes_show_values_intervals_and_zero_volumes():
    result = known.results(0, 0, known.LEVELS) | {"test_acc_values": None}
    result["log_exp_r_n_values"][-1] = None
    result["log_exp_r_n_ci"][-1] = [None, None]
    ax = plots.log_volumes(result)
    points = marked(ax)
    for level in known.LEVELS[:-1]:
        assert points[level] == pytest.approx(known.log_volume(0, level, 0))
    hollow = [line for line in ax.lines if line.get_marker() == "v" and line.get_markerfacecolor() == "none"]
    assert [float(line.get_xdata()[0]) for line in hollow] == [940]
    bars = [c.get_segments()[0] for c in ax.collections]
    first = np.sort(bars[0][:, 1])
    assert first == pytest.approx([known.log_volume(0, 0, 0) - 3, known.log_volume(0, 0, 0) + 1])


def test_accuracy_volumes_have_their_own_intervals():
    result = known.results(0, 0, known.LEVELS)
    result["log_exp_r_n_acc_values"] = [v + 1000 for v in result["log_exp_r_n_values"]]
    result["log_exp_r_n_acc_ci"] = [[v - 7, v + 2] for v in result["log_exp_r_n_acc_values"]]
    bars = [c.get_segments()[0] for c in plots.log_volumes(result, quantity="log_exp_r_n_acc").collections]
    for level, bar in zip(known.LEVELS, bars, strict=True):
        value = known.log_volume(0, level, 0) + 1000
        assert np.sort(bar[:, 1]) == pytest.approx([value - 7, value + 2])


def test_words_fit_what_varies():
    result = known.results(0, 0, [0, 0, 0]) | {"key": "batch_size", "key_values": [8, 64, 512]}
    ticks = [t.get_text() for t in plots.rank_agreement(result).get_xticklabels()]
    assert ticks == ["largest batch size", "least volume", "lowest test loss"]
    curves = plots.loss_curves(known.cutoffs([8, 64], 1000), key="batch_size")
    assert curves.get_legend().get_title().get_text() == "minimum: batch size"
    radii = {8: np.array([1.0, 2.0]), 64: np.array([1.0, 2.0])}
    assert plots.radii_summary(radii, minimum="batch size").get_ylabel() == "minimum: batch size"


def test_hollow_markers_and_triangles_are_explained(tmp_path):
    for seed in range(2):
        known.write_run(tmp_path, seed)
    path = storage.results_path(tmp_path / "model_0_data_10", "data", 0, 0.1)
    gone = known.results(0, 0, known.LEVELS)
    gone["log_exp_r_n_values"][1] = -np.inf
    storage.save_results(path, gone)
    experiment = analysis.load_experiment(tmp_path)
    assert (
        "hollow: no volume in some"
        in plots.volume_against_data(experiment).get_legend().get_title().get_text()
    )
    one = dataclasses.replace(experiment, table=experiment.rows(run="model_0_data_10"))
    title = plots.volume_against_data(one).get_legend().get_title().get_text()
    assert "▽ no volume in any seed" in title and "hollow" not in title


def test_log_volumes_of_several_landscapes_and_of_older_files(tmp_path):
    many = [
        known.results(0, landscape, [m for m in known.LEVELS if m >= landscape]) for landscape in known.LEVELS
    ]
    lines = {
        line.get_label(): line for line in plots.log_volumes(many).lines if line.get_label().startswith("+")
    }
    assert set(lines) == {"+0", "+40", "+140", "+440", "+940"}
    assert lines["+440"].get_ydata() == pytest.approx([known.log_volume(0, m, 440) for m in (440, 940)])
    old = {
        k: many[0][k]
        for k in ("log_exp_r_n_values", "model_data_levels", "loss_landscape_data_param", "test_loss_values")
    }
    old = storage.load_results(storage.save_results(tmp_path / "results.json", old))
    assert len(marked(plots.log_volumes(old))) == 5
    assert len(marked(plots.volume_against_test_loss(old))) == 5


def test_order_of_levels_does_not_matter():
    forward = known.results(0, 0, known.LEVELS)
    backward = known.results(0, 0, known.LEVELS[::-1])
    assert marked(plots.log_volumes(forward)) == marked(plots.log_volumes(backward))
    assert marked(plots.volume_against_test_loss(forward)) == marked(plots.volume_against_test_loss(backward))


def test_ranks_are_level_where_data_volume_and_test_loss_agree():
    for line in plots.rank_agreement(known.results(0, 0, known.LEVELS)).lines:
        assert len(set(line.get_ydata())) == 1
    swapped = known.results(0, 0, known.LEVELS)
    swapped["test_loss_values"][0], swapped["test_loss_values"][1] = swapped["test_loss_values"][1::-1]
    crossed = [
        line.get_ydata() for line in plots.rank_agreement(swapped).lines if len(set(line.get_ydata())) > 1
    ]
    assert sorted(tuple(y) for y in crossed) == [(4, 4, 5), (5, 5, 4)]


def test_loss_curves_mark_the_cutoff_and_read_thinned_curves():
    cutoffs = known.cutoffs([0, 40], 1000)
    ax = plots.loss_curves(cutoffs, loss_threshold=0.1)
    assert set(marked(ax)) == {float(known.BASE + known.cutoff(m)) for m in (0, 40)}
    thin = {key: dict(entry) for key, entry in cutoffs.items()}
    for entry in thin.values():
        entry["samples"] = list(range(60, 1001, 20))
        entry["loss_curve"] = [entry["loss_curve"][s - 1] for s in entry["samples"]]
    assert set(marked(plots.loss_curves(thin, loss_threshold=0.1))) == {80.0, 160.0}


def test_averages_over_seeds_are_the_table_s(experiment):
    ax = plots.volume_against_data(experiment, 0)
    means = marked(ax)
    ring = [line for line in ax.lines if line.get_markersize() == 10]
    for m in known.LEVELS:
        assert means[known.BASE + m] == pytest.approx(known.log_volume(1, m, 0))  # seeds 0, 1, 2: 50 apart
    assert [float(line.get_xdata()[0]) for line in ring] == [known.BASE]
    bar = np.sort(ax.collections[0].get_segments()[0][:, 1])
    assert bar[1] - bar[0] == pytest.approx(2 * 50)  # ± the standard deviation of 0, 50, 100
    seeds = [y for x, y in xy(ax, color=style.LIGHT) if len(x) == 5]
    assert sorted(y[0] for y in seeds) == pytest.approx([known.log_volume(s, 0, 0) for s in range(3)])


def test_minima_end_at_their_cutoffs(experiment):
    ax = plots.volume_against_landscape(experiment)
    crosses = sorted(float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() == "x")
    inside = [known.cutoff(m) for m in known.LEVELS if known.cutoff(m) <= max(known.LEVELS)]
    assert crosses == [known.BASE + c for c in inside]
    containers = {c.get_label() for c in ax.containers}
    assert len(containers) == len(ax.containers) == 5
    lengths = sorted(len(c.lines[0].get_xdata()) for c in ax.containers)
    assert lengths == [1, 2, 3, 4, 5]  # a minimum is seen in the landscapes up to its own data


def test_against_volume_draws_every_seed_and_the_means(experiment):
    ax = plots.against_volume(experiment, "test_loss", 0)
    seeds = {tuple(line.get_xdata()) for line in ax.lines if np.size(line.get_xdata()) == 3}
    assert len(seeds) == 5
    centres = marked(ax)
    at = min(centres, key=lambda volume: abs(volume - known.log_volume(1, 140, 0)))
    assert at == pytest.approx(known.log_volume(1, 140, 0))
    assert centres[at] == pytest.approx(known.test_loss_value(1, 140))


def test_losses_over_decades_are_averaged_in_their_logarithm(tmp_path, monkeypatch):
    monkeypatch.setattr(known, "test_loss_value", lambda seed, minimum: 10.0 ** (-seed - minimum / 400))
    for seed in range(3):
        known.write_run(tmp_path, seed)
    ax = plots.against_volume(analysis.load_experiment(tmp_path), "test_loss", 0)
    assert ax.get_yscale() == "log"
    assert sorted(marked(ax).values()) == pytest.approx(sorted(10.0 ** (-1 - m / 400) for m in known.LEVELS))


def test_losses_that_are_no_nats_say_what_they_are(tmp_path):
    assert plots.training_curves([model(0)], loss_unit="squared error").get_ylabel() == "loss (squared error)"
    rays = dataclasses.replace(sweep(0, 0.5), loss_unit="squared error")
    assert plots.ray_profiles([rays], [0.31]).get_ylabel() == "loss (squared error)"
    for seed in range(2):
        known.write_run(tmp_path, seed, levels=(0, 40))
        for path in tmp_path.rglob("results.json"):
            storage.save_results(path, {**storage.load_results(path), "loss_unit": "squared error"})
    ax = plots.against_volume(analysis.load_experiment(tmp_path), "test_loss", 0)
    assert ax.get_ylabel() == "test loss (squared error)"


def test_rank_table_shares(experiment):
    shares = plots.rank_table(experiment, 0).images[0].get_array()
    assert np.array_equal(shares, np.eye(5))  # every seed: the less data, the larger the volume


def test_minima_without_volume_share_their_ranks(tmp_path):
    for seed in range(2):
        known.write_run(tmp_path, seed, levels=(0, 40, 140))
        path = storage.results_path(tmp_path / f"model_{seed}_data_{seed + 10}", "data", 0, 0.1)
        storage.save_results(
            path, {**storage.load_results(path), "log_exp_r_n_values": [7.0, -np.inf, -np.inf]}
        )
    shares = plots.rank_table(analysis.load_experiment(tmp_path), 0).images[0].get_array()
    assert np.array_equal(shares, [[1, 0, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]])


def test_the_power_laws_words_fit_into_the_figure(experiment):
    fit = analysis.fit_power_law(experiment.minima_sizes, experiment.matrix("log_exp_r_n", 0))
    wide = dataclasses.replace(fit, exponent=-75773.2, interval=(-115876.0, -35668.9))
    figure = plots.power_law(experiment, wide).figure
    figure.canvas.draw()
    box = figure.axes[0].get_legend().get_window_extent()
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1


def test_agreement_and_power_law_figures(experiment):
    ax = plots.agreement([analysis.rank_agreement(experiment, level) for level in experiment.landscapes])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "40", "140"]
    assert ax.containers[0].lines[0].get_ydata() == pytest.approx([1, 1, 1])
    fit = analysis.fit_power_law(experiment.minima_sizes, experiment.matrix("log_exp_r_n", 0))
    line = next(
        line for line in plots.power_law(experiment, fit).lines if line.get_label().startswith("volume")
    )
    assert "−30 [−30, −30]" in line.get_label()
    x, y = line.get_data()
    assert y == pytest.approx(5050 - 30 * np.log(x) - 10 * np.log(known.BASE))
    residual = np.concatenate(
        [np.asarray(line.get_ydata(), float) for line in plots.residuals(experiment, fit).lines]
    )
    assert np.abs(residual).max() < 1e-6


def test_samples_as_their_kind_asks():
    y = torch.arange(30) % 10
    image = plots.samples(
        SimpleNamespace(sample_kind="images", num_classes=10, class_names=None), torch.rand(30, 1, 8, 8), y
    )
    assert [t.get_text() for t in image.texts] == [str(v) for v in y[:25].tolist()]
    pairs = torch.tensor([[0, 1], [2, 2], [1, 0]])
    table = plots.samples(
        SimpleNamespace(sample_kind="pairs", num_classes=3, class_names=None), pairs, torch.tensor([1, 1, 2])
    )
    shown = np.ma.filled(table.images[0].get_array(), np.nan)
    assert (shown[0, 1], shown[2, 2], shown[1, 0]) == (1, 1, 2) and np.isnan(shown[0, 0])
    tokens = torch.randint(0, 65, (20, 16))
    rows = plots.samples(
        SimpleNamespace(sample_kind="sequences", num_classes=65, class_names=None), tokens, tokens
    )
    assert np.array_equal(rows.images[0].get_array(), tokens[:12])
    names = ("inner", "outer")
    x = torch.randn(40, 2)
    points = plots.samples(
        SimpleNamespace(sample_kind="points", num_classes=2, class_names=names), x, torch.arange(40) % 2
    )
    assert [t.get_text() for t in points.get_legend().get_texts()] == list(names)
    assert np.allclose(points.collections[1].get_offsets(), x[1::2])


def test_decision_boundary_shows_what_the_model_says():
    problem = SimpleNamespace(sample_kind="points", num_classes=3, class_names=None)
    net = nn.Linear(2, 3)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 0], [-1, 0], [0, 2]]))
        net.bias.zero_()
    x = torch.tensor([[-1.0, -1], [1, 1], [1, -1], [-1, 1]])
    mesh = plots.decision_boundary(problem, net, x, torch.tensor([1, 2, 0, 2]), resolution=21).collections[0]
    answer = np.asarray(mesh.get_array()).reshape(21, 21)
    assert answer[0, 0] == 1 and answer[0, -1] == 0 and answer[-1, 10] == 2


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_save_is_atomic_and_repeatable(tmp_path, suffix):
    ax = plots.test_loss([model(0), model(540)])
    first = plots.save(ax, tmp_path / f"a.{suffix}").read_bytes()
    again = plots.save(ax.figure, tmp_path / "deeper" / f"b.{suffix}").read_bytes()
    assert first == again and first[:4] in (b"\x89PNG", b"%PDF")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [f"a.{suffix}", f"b.{suffix}"]


def test_a_figure_is_one_column_wide_and_nothing_is_cut_off(experiment):
    ax = plots.volume_against_landscape(experiment)
    ax.figure.canvas.draw()
    renderer = ax.figure.canvas.get_renderer()
    assert ax.figure.get_figwidth() * 2.54 == pytest.approx(8)
    page, box = ax.figure.bbox, ax.get_tightbbox(renderer)
    assert page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1
    assert page.y0 - 1 <= box.y0 and box.y1 <= page.y1 + 1


def test_the_palette_is_told_apart_by_lightness_or_hue():
    assert len({to_hex(c) for c in style.PALETTE}) == len(style.PALETTE) == len(set(style.MARKERS))


def bowl():
    """A plane through the origin of which the loss is a² + 4b² + 0.01, but for one corner."""
    plane = Plane(
        torch.zeros(2), torch.tensor([1.0, 0]), torch.tensor([0, 1.0]), np.array([[0.0, 0.0]]), "coefficient"
    )
    a, b = np.linspace(-2, 2, 41), np.linspace(-1, 1, 21)
    losses = a**2 + 4 * b[:, None] ** 2 + 0.01
    losses[0, 0] = np.nan
    losses[-1, -1] = np.inf
    return plane, a, b, losses


def test_the_threshold_of_a_slice_is_where_the_loss_has_it():
    plane, a, b, losses = bowl()
    ax = plots.loss_slice(losses, a, b, plane, minima=[540], levels=LEVELS, threshold=1.0)
    outline = ax.collections[-1]
    vertices = np.concatenate([path.vertices for path in outline.get_paths()])
    assert vertices[:, 0] ** 2 + 4 * vertices[:, 1] ** 2 == pytest.approx(0.99, abs=0.02)
    point = next(line for line in ax.lines if line.get_label() == "540")
    assert point.get_color() == style.level_styles(LEVELS)[540]["color"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("coefficient", "coefficient")


def test_slices_side_by_side_fill_one_column_and_cut_nothing_off():
    plane, a, b, losses = bowl()
    axes = plots.loss_slices(
        np.stack([losses] * 2),
        a,
        b,
        plane,
        titles=["10 samples", "2,000 samples"],
        minima=[540],
        levels=LEVELS,
        loss_unit="squared error",
    )
    figure = axes[0].figure
    figure.canvas.draw()
    assert figure.get_figwidth() * 2.54 == pytest.approx(8)
    boxes = [ax.get_tightbbox() for ax in axes]
    assert boxes[0].x1 < boxes[1].x0
    inked = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert figure.bbox.x0 - 1 <= inked.x0 and inked.x1 <= figure.bbox.x1 + 1
    assert figure.bbox.y0 - 1 <= inked.y0 and inked.y1 <= figure.bbox.y1 + 1
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["minimum 540"]
    assert "loss (squared error)" in [ax.get_ylabel() for ax in figure.axes]


def test_slices_share_their_colours():
    plane, a, b, losses = bowl()
    axes = plots.loss_slices(
        np.stack([losses, 10 * losses]), a, b, plane, titles=["few", "many"], threshold=1.0
    )
    norms = [next(c for c in ax.collections if c.norm.vmax).norm for ax in axes]
    assert (norms[0].vmin, norms[0].vmax) == (norms[1].vmin, norms[1].vmax)
    assert norms[0].vmax == np.nanmax(np.where(np.isinf(losses), np.nan, losses)) * 10
    with pytest.raises(InputError, match="everywhere"):
        plots.loss_slice(np.full_like(losses, np.nan), a, b, plane)


def test_surface_holds_the_losses():
    plane, a, b, losses = bowl()
    surface, point = plots.loss_surface(losses, a, b, plane, minima=[0]).data
    finite = np.isfinite(losses)
    assert np.asarray(surface.z)[finite] == pytest.approx(np.log10(losses[finite]))
    assert np.isnan(np.asarray(surface.z, dtype=float)[~finite]).all()
    assert point.z[0] == pytest.approx(-2) and np.array_equal(surface.x, a)
    shared = plots.loss_limits(np.stack([losses, 10 * losses]))
    for factor in (1, 10):
        figure = plots.loss_surface(factor * losses, a, b, plane, limits=shared)
        assert figure.layout.scene.zaxis.range == pytest.approx(np.log10(shared))
        assert (figure.data[0].cmin, figure.data[0].cmax) == pytest.approx(np.log10(shared))


def test_a_film_has_a_frame_for_each_slice_and_one_second_at_the_end(tmp_path):
    from PIL import Image

    plane, a, b, losses = bowl()
    slices = np.stack([losses, 2 * losses, 3 * losses])
    path = plots.animate_slices(slices, a, b, plane, tmp_path / "film.gif", titles="abc", frames_per_second=4)
    film = Image.open(path)
    # Equal frames at the end are stored as one, shown for as long as all of them.
    durations = [film.seek(k) or film.info["duration"] for k in range(film.n_frames)]
    assert sum(durations) == (3 + 4) * 250 and film.n_frames >= 3
    assert [p.name for p in tmp_path.iterdir()] == ["film.gif"] and not plt.get_fignums()
    with pytest.raises(InputError, match=r"\.gif or an \.mp4"):
        plots.animate_slices(slices, a, b, plane, tmp_path / "film.avi", titles="abc")


def test_an_mp4_where_ffmpeg_exists_and_a_clear_word_where_not(tmp_path, monkeypatch):
    plane, a, b, losses = bowl()
    if plots.can_write_mp4():
        path = plots.animate_slices(losses[None], a, b, plane, tmp_path / "film.mp4", titles="a")
        assert path.read_bytes()[4:8] == b"ftyp"
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="ffmpeg is not installed"):
        plots.animate_slices(losses[None], a, b, plane, tmp_path / "other.mp4", titles="a")


def test_the_tail_is_the_share_of_directions_beyond():
    radii = {0: np.array([3.0, 1.0, 2.0, 4.0])}
    ax = plots.radii_tail(radii)
    x, y = next(line.get_data() for line in ax.lines if line.get_label() == "0")
    assert x.tolist() == [1, 2, 3, 4] and y == pytest.approx([0.875, 0.625, 0.375, 0.125])


@pytest.mark.parametrize(("low", "high"), [(0.2, 7.0), (0.02, 0.9), (1e-3, 50.0)])
def test_ticks_of_a_log_radius_axis_stand_apart(low, high):
    ax = plots.radii_histogram({0: np.geomspace(low, high, 50)})
    ax.figure.canvas.draw()
    ticks = [*ax.get_xticklabels(), *ax.get_xticklabels(minor=True)]
    left, right = ax.get_xlim()
    boxes = sorted(
        (
            tick.get_window_extent()
            for tick in ticks
            if tick.get_text() and left <= tick.get_position()[0] <= right
        ),
        key=lambda box: box.x0,
    )
    assert len(boxes) >= 2
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))


def test_weight_shares_that_coincide_are_all_seen():
    lines = plots.weight_shares({level: np.array([1.0, 9.0]) for level in LEVELS}, n=5000).lines
    widths = [line.get_linewidth() for line in lines]
    assert all(line.get_ydata() == pytest.approx([1, 1]) for line in lines)
    assert all(under > over + 1 for under, over in itertools.pairwise(widths))  # drawn from broad to narrow


def test_weight_shares_in_exact_numbers():
    ax = plots.weight_shares({0: np.array([1.0, 2.0, 0.0])}, n=3)
    assert ax.lines[0].get_ydata() == pytest.approx([8 / 9, 1, 1])
    huge = plots.weight_shares({0: np.array([1.0, 1 + 1e-6])}, n=10**6)
    assert huge.lines[0].get_ydata()[0] == pytest.approx(1 / (1 + np.exp(-1)), rel=1e-5)


def test_radii_summary_marks_mean_median_and_largest():
    ax = plots.radii_summary({0: np.array([1.0, 2.0, 9.0]), 540: np.array([3.0, 3.0, 3.0])})
    found = [
        (float(line.get_xdata()[0]), line.get_ydata()[0]) for line in ax.lines if len(line.get_xdata()) == 1
    ]
    assert found == [(2, 0), (4, 0), (9, 0), (3, 1), (3, 1), (3, 1)]


def test_uncertainty_shows_what_is_known(experiment):
    lines = {line.get_label(): line.get_ydata() for line in plots.uncertainty(experiment).lines}
    assert lines["seeds (standard deviation)"] == pytest.approx([50] * 5)
    assert lines["directions (width of interval)"] == pytest.approx([4] * 5)
    assert "coefficient spacing" not in lines  # these results do not say


def test_units_and_names_with_dollars_are_drawn_as_they_are_written(tmp_path):
    unit = "US$_{/$ of $"
    for seed in range(2):
        known.write_run(tmp_path, seed, levels=(0, 40))
        for path in tmp_path.rglob("results.json"):
            storage.save_results(path, {**storage.load_results(path), "loss_unit": unit})
    result, priced = storage.load_results(path), analysis.load_experiment(tmp_path)
    named = dataclasses.replace(analysis.compare(priced, priced), names=("a $x^$", "_$_$"))
    roll = get_problem("swiss_roll")
    data = roll.checked_data()
    roll.class_names = [unit, "$"]
    labels = []
    for draw in (
        lambda ax: plots.training_curves([model(0)], ax, loss_unit=unit),
        lambda ax: plots.test_loss([model(0), model(540)], ax, loss_unit=unit),
        lambda ax: plots.ray_profiles([dataclasses.replace(sweep(0, 0.5), loss_unit=unit)], [0.1], ax),
        lambda ax: plots.loss_curves(known.cutoffs(known.LEVELS, 1000), ax, loss_unit=unit),
        lambda ax: plots.volume_against_test_loss(result, ax),
        lambda ax: plots.against_volume(priced, "test_loss", ax=ax),
        lambda ax: plots.samples(roll, data.x_train[:50], data.y_train[:50], ax),
        lambda ax: plots.compare(named, ax),
    ):
        figure, ax = plt.subplots()
        draw(ax)
        plots.save(figure, tmp_path / "figure.png", dpi=40)  # where matplotlib would read a formula
        legend = ax.get_legend()
        own = [] if legend is None else [text.get_text() for text in legend.get_texts()]
        labels += [ax.get_xlabel(), ax.get_ylabel(), *own]
    assert sum(unit.replace("$", r"\$") in label for label in labels) >= 7
