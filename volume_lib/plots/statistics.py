"""Figures of what the statistics of an experiment say: ranks, their agreement, power laws, comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from volume_lib.analysis import (
    OWN,
    Agreement,
    Comparison,
    ExperimentResults,
    PowerLaw,
    mean_and_spread,
    mean_stability,
)
from volume_lib.plots import experiment as experiment_plots
from volume_lib.plots import style, ticks
from volume_lib.records import ADDITIONAL


def rank_table(
    experiment: ExperimentResults,
    landscape: int | None = None,
    ax: Axes | None = None,
    *,
    quantity: str = "log_exp_r_n",
) -> Axes:
    """Share of the seeds in which each minimum has each rank by ``quantity``, 1 being the largest.

    Minima of equal volume share their ranks equally; those without any have the last.
    """
    ax = style.new_axes(ax, height=0.85)
    landscape = experiment.landscapes[0] if landscape is None else landscape
    values = experiment.matrix(quantity, landscape)
    present = np.asarray(~np.isnan(values).all(axis=0))
    values = values[:, present]
    minima = [m for m, there in zip(experiment.minima, present, strict=True) if there]
    shares = np.zeros((len(minima), len(minima)))
    for run in values:
        known = np.flatnonzero(~np.isnan(run))
        for value in np.unique(run[known]):
            tied = known[run[known] == value]
            first = (run[known] > value).sum()
            shares[first : first + len(tied), tied] += 1 / len(tied)
    shares /= max(1, len(values))
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if share > 0:
            ax.text(
                column,
                row,
                f"{100 * share:.0f}%",
                ha="center",
                va="center",
                fontsize=style.SMALL,
                color="white" if share > 0.6 else "black",
            )
    ax.set_xticks(range(len(minima)), [f"{m:,}" for m in minima], rotation=30 if len(minima) > 4 else 0)
    ax.set_yticks(range(len(minima)), [str(rank + 1) for rank in range(len(minima))])
    lines = [
        experiment_plots.landscape_words(experiment, landscape),
        experiment_plots.threshold_words(experiment, quantity),
        experiment_plots.failed_words(experiment),
        "minima without a volume have the last ranks" if np.isneginf(values).any() else "",
    ]
    return style.finish(
        ax,
        f"minimum: {experiment_plots.minima_words(experiment, sizes=False)}",
        f"rank by {style.VOLUME_WORDS[quantity]}",
        "\n".join(filter(None, lines)),
    )


def agreement(
    agreements: Sequence[Agreement] | Mapping[str, Sequence[Agreement]],
    ax: Axes | None = None,
    *,
    xlabel: str = "landscape: additional samples",
) -> Axes:
    """Mean rank correlation with its interval for each landscape, every seed's behind; a series per name.

    Landscapes where no run has three minima to rank are not on the axis."""
    ax = style.new_axes(ax, height=0.85)
    series = agreements if isinstance(agreements, Mapping) else {agreements[0].method: agreements}
    landscapes = sorted({a.landscape for group in series.values() for a in group if np.isfinite(a.mean)})
    for k, (name, group) in enumerate(series.items()):
        shift = 0.16 * (k - (len(series) - 1) / 2)
        look: dict[str, Any] = {"color": style.PALETTE[k], "marker": style.MARKERS[k]}
        known = [a for a in group if np.isfinite(a.mean)]
        for a in known:
            at = landscapes.index(a.landscape) + shift
            seeds = a.per_run[~np.isnan(a.per_run)]
            ax.plot(
                np.full(len(seeds), at),
                seeds,
                color=look["color"],
                marker="_",
                ms=5,
                mew=0.6,
                ls="none",
                alpha=0.45,
            )
        x = np.array([landscapes.index(a.landscape) for a in known]) + shift
        means = np.array([a.mean for a in known])
        ends = np.array([a.interval for a in known]).reshape(-1, 2)
        errors = np.clip(np.stack([means - ends[:, 0], ends[:, 1] - means]), 0, None)
        ax.errorbar(x, means, yerr=errors, **look, ms=4.5, lw=1, ls="none", capsize=2, label=name)
    for level in (-1, 0, 1):
        ax.axhline(level, color=style.LIGHT, lw=0.6, zorder=0)
    ax.set_ylim(-1.1, 1.1)
    ax.set_xlim(-0.5, len(landscapes) - 0.5)
    ax.set_xticks(range(len(landscapes)), [f"{level:,}" for level in landscapes])
    everything = [a for group in series.values() for a in group]
    thresholds = {a.loss_threshold for a in everything if a.loss_threshold is not None}
    lines = [style.threshold_words(threshold) for threshold in sorted(thresholds)]
    style.legend(ax, "\n".join([*lines, "interval over seeds; dashes: single seeds"]))
    return style.finish(ax, xlabel, "rank correlation")


def power_law(
    experiment: ExperimentResults,
    fit: PowerLaw,
    landscape: int | str | None = None,
    ax: Axes | None = None,
    *,
    quantity: str = "log_exp_r_n",
) -> Axes:
    """``quantity`` (nats) against data size with the fitted line; the residuals are :func:`residuals`.

    ``landscape``: the one of the fit, or ``analysis.OWN``, each minimum in that of its own training data.
    """
    ax = style.new_axes(ax, height=0.85)
    values, title = _values_and_title(experiment, landscape, quantity)
    experiment_plots.seeds_behind(ax, fit.sizes, values)
    experiment_plots.averages(ax, fit.sizes, values, "sd", experiment.minima, line=False)
    known = fit.sizes[np.isfinite(fit.residuals).any(axis=0)]
    line = np.geomspace(known.min(), known.max(), 100)
    size = "size" if experiment.key == ADDITIONAL else experiment.key.replace("_", " ")
    words = power_law_words(fit, size)
    ax.plot(line, fit.predict(line), color="black", lw=1, ls=(0, (5, 2)), zorder=3, label=words)
    ticks.data_axis(ax, known, log=True)
    unit = ticks.nats_axis(ax.yaxis, values)
    style.legend(ax, title)
    return style.finish(ax, experiment_plots.minima_words(experiment), style.volume_label(quantity, unit))


def _values_and_title(
    experiment: ExperimentResults, landscape: int | str | None, quantity: str
) -> tuple[np.ndarray, str]:
    if landscape == OWN:
        values = experiment.own_landscapes(quantity)
        lines = ["each minimum in the landscape of its own data"]
        lines += [experiment_plots.threshold_words(experiment, quantity)]
        lines += [experiment_plots.failed_words(experiment)]
        return values, "\n".join(filter(None, lines)) + experiment_plots.no_volume_words(values)
    level = experiment.landscapes[0] if landscape is None else int(landscape)
    values = experiment.matrix(quantity, level)
    return values, experiment_plots.title_words(experiment, level, values, quantity)


def stability(experiment: ExperimentResults, landscape: int | None = None, ax: Axes | None = None) -> Axes:
    """How many directions find the largest minimum and the order of all: means over seeds, seeds faintly.

    Dashed: by the largest radius alone, where the results say.
    """
    ax = style.new_axes(ax, height=0.8)
    landscape = experiment.landscapes[0] if landscape is None else landscape
    looks = {
        "largest": ("finds the largest", 0, "o", "-"),
        "order": ("orders all minima", 1, "s", "-"),
        "largest_by_radius": ("finds it by the largest radius", 0, "o", "--"),
        "order_by_radius": ("orders all by it", 1, "s", "--"),
    }
    found = mean_stability(experiment, landscape)
    everything = [size for sizes, _ in found.values() for size in sizes]
    for name, (sizes, shares) in found.items():
        words, colour, marker, line = looks[name]
        look: dict[str, Any] = {"color": style.PALETTE[colour], "ls": line}
        ax.plot(sizes, shares.T, **look, lw=0.5, alpha=0.3)
        hollow: dict[str, Any] = {"mfc": "white"} if line == "--" else {}
        ax.plot(sizes, shares.mean(axis=0), **look, marker=marker, **hollow, ms=4, lw=1.2, label=words)
    if everything:
        ticks.data_axis(ax, everything)
    ax.set_ylim(-0.03, 1.05)
    title = experiment_plots.landscape_words(experiment, landscape)
    title += f"\n{experiment_plots.threshold_words(experiment)}"
    style.legend(ax, f"{title}\na random subset of directions …")
    return style.finish(ax, "directions in the subset", "share of subsets")


def residuals(
    experiment: ExperimentResults,
    fit: PowerLaw,
    ax: Axes | None = None,
    *,
    landscape: int | str | None = None,
) -> Axes:
    """What the power law leaves, in nats: each seed's distance from its own line."""
    ax = style.new_axes(ax, height=0.6)
    styles = style.level_styles(experiment.minima)
    ax.axhline(0, color="black", lw=0.8, ls=(0, (5, 2)))
    ax.plot(fit.sizes, fit.residuals.T, color=style.LIGHT, lw=0.6, zorder=1)
    for j, minimum in enumerate(experiment.minima):
        column = fit.residuals[:, j]
        ax.plot(np.full(len(column), fit.sizes[j]), column, **styles[minimum], ms=3.5, ls="none", alpha=0.7)
    ticks.data_axis(ax, fit.sizes[fit.sizes > 0], log=True)
    unit = ticks.nats_axis(ax.yaxis, fit.residuals)
    where, threshold = _values_and_title(experiment, landscape, "log_exp_r_n")[1].split("\n")[:2]
    title = "\n".join(filter(None, [where, threshold, experiment_plots.failed_words(experiment)]))
    style.legend(ax, title, [Line2D([], [], color=style.LIGHT, lw=0.7, label="one seed")])
    return style.finish(ax, experiment_plots.minima_words(experiment), f"residual ({unit})")


def compare(
    comparison: Comparison,
    ax: Axes | None = None,
    *,
    xlabel: str = "additional training samples",
    spread: str = "sd",
) -> Axes:
    """The quantity of a comparison for the minima of two experiments in one landscape, seeds behind."""
    ax = style.new_axes(ax, height=0.85)
    x = np.asarray(comparison.minima, dtype=float)
    for k, values in enumerate((comparison.first, comparison.second)):
        colour = style.PALETTE[k]
        for run in values:
            ax.plot(x, np.where(np.isfinite(run), run, np.nan), color=colour, lw=0.5, alpha=0.3)
        centre, low, high = mean_and_spread(values, spread)
        shown = np.isfinite(centre)
        ax.errorbar(
            x[shown],
            centre[shown],
            yerr=np.stack([centre - low, high - centre])[:, shown],
            color=colour,
            marker=style.MARKERS[k],
            ms=4.5,
            lw=1.2,
            elinewidth=0.8,
            capsize=2,
            label=style.literal(comparison.names[k]),
        )
    ticks.data_axis(ax, x)
    unit = ticks.nats_axis(ax.yaxis, np.concatenate([comparison.first, comparison.second]))
    if comparison.per_parameter:
        unit += " per parameter"
    lines = [f"landscape: +{comparison.landscape:,} samples"]
    if comparison.loss_threshold is not None:
        lines.append(style.threshold_words(comparison.loss_threshold))
    style.legend(ax, "\n".join(lines))
    return style.finish(ax, xlabel, style.volume_label(comparison.quantity, unit))


def power_law_words(fit: PowerLaw, size: str = "size") -> str:
    """``volume ∝ size^α``, and below it the exponent with its interval, for a legend."""
    low, high = fit.interval
    interval = f" [{_three(low)}, {_three(high)}]" if np.isfinite(low) else ""
    exponent = r"$\alpha$ = " + ticks.signed(f"{_three(fit.exponent)}{interval}")
    return rf"volume $\propto$ {size}$^{{\alpha}}$" + "\n" + exponent


def _three(value: float) -> str:
    """Three significant digits without powers of ten: ``-37,500``."""
    if abs(value) < 1000:
        return f"{value:.3g}"
    scale = 10.0 ** (int(np.floor(np.log10(abs(value)))) - 2)
    return f"{round(value / scale) * scale:,.0f}"
