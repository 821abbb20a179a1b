"""Figures of many runs: what each artist stands for, against an experiment known in closed form."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import synthetic_experiment as known

from volume_lib import analysis, plots, storage
from volume_lib.plots import style

LEVELS = (0, 40, 140)


@pytest.fixture
def folder(tmp_path):
    for seed in range(3):
        known.write_run(tmp_path, seed, LEVELS)
    return tmp_path


@pytest.fixture
def experiment(folder):
    return analysis.load_experiment(folder)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def ring(ax):
    (found,) = [line for line in ax.lines if line.get_markersize() == 10]
    return float(found.get_xdata()[0]), float(found.get_ydata()[0])


def test_small_multiples_name_each_landscape_and_ring_its_own_minimum(experiment):
    figure = plots.landscapes(experiment)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "landscape of 60 samples", "landscape of 100 samples"
    ]  # fmt: skip
    for ax, level in zip(figure.axes, LEVELS, strict=False):
        assert ax.get_legend() is None
        assert ring(ax) == pytest.approx((known.BASE + level, known.log_volume(1, level, level)))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["one seed", "mean ± sd", "trained here"]


def test_accuracy_colours_the_minima_with_one_scale(experiment):
    figure = plots.landscapes(experiment, colour="test_acc")
    bars = [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    assert len(bars) == 1 and bars[0].get_xlabel() == "test accuracy"
    accuracies = [1 - known.test_loss_value(1, m) for m in LEVELS]
    assert bars[0].get_xlim() == pytest.approx((min(accuracies), max(accuracies)))
    ax = plots.volume_against_data(experiment, 0, colour="test_acc")
    (bar,) = [other for other in ax.figure.axes if other.get_label() == "<colorbar>"]
    scale = bar._colorbar.mappable
    for accuracy, container in zip(accuracies, ax.containers, strict=True):
        assert container.lines[0].get_color() == scale.to_rgba(accuracy)


@pytest.mark.parametrize("column", ["test_loss", "test_acc"])
def test_loss_and_accuracy_against_data_size(experiment, column):
    ax = plots.against_data(experiment, column)
    assert ax.get_xlabel() == "training samples"
    assert ax.get_ylabel() == {"test_loss": "test loss (nats)", "test_acc": "test accuracy"}[column]
    for j, container in enumerate(ax.containers):
        mean = np.mean([known.test_loss_value(seed, LEVELS[j]) for seed in range(3)])
        expected = mean if column == "test_loss" else 1 - mean
        assert container.lines[0].get_ydata() == pytest.approx([expected], rel=1e-9)
    seeds = [line for line in ax.lines if line.get_color() == style.LIGHT]
    assert len(seeds) == 3 and seeds[2].get_xdata().tolist() == [60, 100, 200]


def test_losses_over_decades_are_averaged_in_their_logarithm(folder):
    for run in storage.list_runs(folder):
        seed = storage.run_seeds(run)[0]
        for level in LEVELS:
            path = storage.results_path(run, "data", level, 0.1)
            content = storage.load_results(path)
            content["test_loss_values"] = [10.0**-seed for _ in content["test_loss_values"]]
            storage.save_results(path, content)
    ax = plots.against_data(analysis.load_experiment(folder), "test_loss")
    assert ax.get_yscale() == "log"
    assert ax.containers[0].lines[0].get_ydata() == pytest.approx([0.1])  # of 1, 0.1 and 0.01


def test_reliability_of_the_order_is_the_mean_of_the_runs(experiment):
    ax = plots.stability(experiment)
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert set(lines) == {"finds the largest", "orders all minima"}
    assert lines["orders all minima"].get_ydata() == pytest.approx([0.2, 0.7, 1.0])
    assert "landscape of 60 samples" in ax.get_legend().get_title().get_text()


def test_the_law_in_each_minimums_own_landscape_is_drawn_where_it_was_fitted(experiment):
    fit = analysis.scaling_law(experiment, analysis.OWN)
    ax = plots.power_law(experiment, fit, analysis.OWN)
    means = [container.lines[0].get_ydata()[0] for container in ax.containers]
    assert means == pytest.approx([known.log_volume(1, m, m) for m in LEVELS])
    line = next(line for line in ax.lines if line.get_label().startswith("volume"))
    assert line.get_ydata()[[0, -1]] == pytest.approx([means[0], means[-1]])
    for drawn in (ax, plots.residuals(experiment, fit, landscape=analysis.OWN)):
        assert "landscape of its own data" in drawn.get_legend().get_title().get_text()


@pytest.mark.parametrize(
    "rule, words", [("no volume", "no volume"), ("leave out", "left out"), ("least volume", "least volume")]
)
def test_figures_say_that_networks_failed_and_how_they_count(folder, rule, words):
    for level in LEVELS:
        path = storage.results_path(folder / "model_0_data_10", "data", level, 0.1)
        content = storage.load_results(path)
        content["train_loss_values"][-1], content["log_exp_r_n_values"][-1] = 0.25, -math.inf
        storage.save_results(path, content)
    failed = analysis.load_experiment(folder, failed=rule)
    title = plots.volume_against_data(failed).get_legend().get_title().get_text()
    assert "1 network above the threshold after training" in title and words in title
    assert ("hollow" in title) == (rule == "no volume")


def test_the_table_of_ranks_says_where_minima_without_a_volume_stand(folder):
    """One network fails in every landscape, another in the largest alone: it has volumes in the others."""
    for run, fails in (("model_0_data_10", (0, 40, 140)), ("model_1_data_11", (140,))):
        for level in LEVELS:
            path = storage.results_path(folder / run, "data", level, 0.1)
            content = storage.load_results(path)
            if level in fails:
                content["train_loss_values"][-1], content["log_exp_r_n_values"][-1] = 0.25, -math.inf
            storage.save_results(path, content)
    ax = plots.rank_table(analysis.load_experiment(folder))
    shares = [[round(float(v), 6) for v in row] for row in ax.images[0].get_array()]
    assert shares == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    title = ax.get_title(loc="left").split("\n")
    assert title[2:] == [
        "2 networks above the threshold after training:", "no volume where their loss is above it",
        "minima without a volume have the last ranks",
    ]  # fmt: skip


def test_one_word_for_each_quantity(experiment):
    assert "log volume" in plots.volume_against_data(experiment, quantity="log_volume").get_ylabel()
    assert "log volume" not in plots.volume_against_data(experiment).get_ylabel()
    assert plots.rank_table(experiment).get_ylabel() == f"rank by {style.LOG_EXP_R_N}"
    assert plots.rank_table(experiment, quantity="log_volume").get_ylabel() == "rank by log volume"


# ---- of one run


def test_each_figure_of_a_landscape_names_it_and_explains_its_triangle():
    result = known.results(0, 40, LEVELS[1:], num_censored=[0, 0])
    result["log_exp_r_n_values"][0] = -math.inf
    single = plots.log_volumes(result)
    assert single.get_title(loc="left") == "landscape: +40 samples\nloss threshold 0.1; ▽ no volume"
    for draw in (plots.volume_against_test_loss, plots.rank_agreement, plots.rank_probabilities):
        assert "landscape: +40 samples" in draw(result).get_legend().get_title().get_text()
    without = plots.rank_agreement(result).get_legend().get_title().get_text()
    assert "without a volume, and a rank: 40" in without
    several = plots.log_volumes([result, known.results(0, 0, LEVELS)])
    assert several.get_legend().get_title().get_text().endswith("▽ no volume")


def test_colours_of_several_landscapes_mean_the_landscape_alone():
    ax = plots.log_volumes([known.results(0, level, [m for m in LEVELS if m >= level]) for level in (0, 40)])
    by_label = {h.get_label(): h for h in ax.get_legend_handles_labels()[0]}
    for label, handle in by_label.items():
        colour = handle.get_color()
        points = [c.lines[0] for c in ax.containers if c.lines[0].get_color() == colour]
        assert len(points) == {"+0": 3, "+40": 2}[label]
        assert {p.get_marker() for p in points} == {handle.get_marker()}


def test_numbers_of_directions_have_whole_ticks():
    few = {"subset_sizes": [1, 2, 3, 4, 5, 6], "radii_rank_probabilities": [0.5] * 6}
    ax = plots.rank_probabilities(known.results(0, 0, LEVELS, **few, radii_rank_probabilities_full=[0.1] * 6))
    ax.figure.canvas.draw()
    assert all(tick == round(tick) for tick in ax.get_xticks())


def said(drawn):
    """All titles of a figure, of its axes and its legends."""
    figure = style.figure_of(drawn)
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    return "\n".join([*titles, *(legend.get_title().get_text() for legend in legends)])


def test_each_figure_says_the_threshold_that_it_is_for(experiment):
    words = f"loss threshold {experiment.loss_threshold:g}"
    fit = analysis.scaling_law(experiment, 0)
    order = [analysis.rank_agreement(experiment, 0)]
    drawn = [
        *(
            f(experiment)
            for f in (plots.volume_against_data, plots.volume_against_landscape, plots.landscapes)
        ),
        *(f(experiment) for f in (plots.rank_table, plots.uncertainty, plots.stability)),
        plots.against_volume(experiment, "test_loss"),
        plots.power_law(experiment, fit),
        plots.power_law(experiment, fit, analysis.OWN),
        plots.residuals(experiment, fit),
        plots.agreement(order),
        plots.compare(analysis.compare(experiment, experiment)),
    ]
    result = known.results(0, 40, LEVELS[1:])
    run_figures = (plots.volume_against_test_loss, plots.rank_agreement, plots.rank_probabilities)
    drawn += [f(result) for f in run_figures]
    drawn += [plots.log_volumes(result), plots.log_volumes([result, known.results(0, 0, LEVELS)])]
    for figure in drawn:
        assert said(figure).count(words) == 1, said(figure)
    by_acc = {"acc_threshold": 0.9, "log_exp_r_n_acc_values": result["log_exp_r_n_values"]}
    by_accuracy = plots.log_volumes(result | by_acc, quantity="log_exp_r_n_acc")
    assert "accuracy threshold 0.9" in said(by_accuracy) and "loss threshold" not in said(by_accuracy)


def test_every_panel_has_ticks_and_whole_rings(experiment):
    figure = plots.landscapes(experiment)
    figure.canvas.draw()
    for ax in figure.axes:
        low, high = sorted(ax.get_xlim())
        labels = [
            t.get_text()
            for t, x in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True)
            if low <= x <= high
        ]
        assert len([label for label in labels if label]) >= 2, labels
        rings = [line for line in ax.lines if line.get_markersize() == 10]
        assert rings and not any(ring.get_clip_on() for ring in rings)


def test_no_axis_has_an_offset_over_the_legend(experiment):
    for ax in (plots.against_data(experiment, "test_acc"), plots.uncertainty(experiment)):
        ax.figure.canvas.draw()
        assert not ax.yaxis.get_offset_text().get_text()


def test_no_marker_of_a_level_looks_like_no_volume_or_an_error_bar():
    assert not {"v", "^v", "P", "+", "x"} & set(style.MARKERS)
    assert len(set(style.MARKERS)) == len(style.MARKERS) == len(style.PALETTE)
