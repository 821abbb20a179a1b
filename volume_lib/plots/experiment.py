"""Figures of many runs: averages over seeds with their spread, every seed faintly behind.

``spread`` is ``"sd"`` (mean ± standard deviation over the seeds that have a volume) or ``"quartiles"``
(median and quartiles over all seeds). A hollow marker says that some seeds have no volume there, an open
triangle at the foot that none has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from volume_lib.analysis import ExperimentResults, mean_and_spread
from volume_lib.plots import style, ticks
from volume_lib.records import ADDITIONAL


def volume_against_data(
    experiment: ExperimentResults,
    landscape: int | None = None,
    ax: Axes | None = None,
    *,
    quantity: str = "log_exp_r_n",
    spread: str = "sd",
    colour: str | None = None,
) -> Axes:
    """``quantity`` (nats) of the minima of one landscape (by default the smallest) against their data.

    The ring marks the minimum that training in this landscape finds. ``colour``: a column whose mean over
    seeds colours the markers, as ``"test_acc"``, with a scale beside the axes; None: the minima's own.
    """
    ax = style.new_axes(ax, height=0.85)
    landscape = experiment.landscapes[0] if landscape is None else landscape
    x = experiment.minima_sizes
    values = experiment.matrix(quantity, landscape)
    seeds_behind(ax, x, values)
    colours = None
    if colour is not None:
        scale, colours = _mean_colours(experiment, colour)
        _colour_bar(ax, scale, experiment, colour)
    averages(ax, x, values, spread, experiment.minima, colours=colours)
    handles = [Line2D([], [], color=style.LIGHT, lw=0.7, label="one seed"), _spread_handle(spread)]
    centre = mean_and_spread(values, spread)[0]
    if experiment.key == ADDITIONAL and landscape in experiment.minima:
        own = experiment.minima.index(landscape)
        if np.isfinite(centre[own]):
            ring = {"marker": "o", "mfc": "none", "mec": "black", "mew": 0.8, "ls": "none"}
            ax.plot(x[own], centre[own], **ring, ms=10, zorder=5, clip_on=False)  # whole at the edge
            handles.append(Line2D([], [], **ring, ms=6, label="trained here"))
    ticks.data_axis(ax, x[~np.isnan(values).all(axis=0)])
    unit = ticks.nats_axis(ax.yaxis, values)
    style.legend(ax, title_words(experiment, landscape, values, quantity), handles)
    return style.finish(ax, minima_words(experiment), style.volume_label(quantity, unit))


def landscapes(
    experiment: ExperimentResults,
    *,
    quantity: str = "log_exp_r_n",
    spread: str = "sd",
    colour: str | None = None,
    columns: int = 2,
) -> Figure:
    """:func:`volume_against_data` in every landscape of two minima or more, as small multiples.

    The ring marks in each the minimum that was trained there.
    """
    several = [
        level
        for level in experiment.landscapes
        if len(np.unique(experiment.rows(landscape=level)["minimum"])) > 1
    ]

    def draw(level: int, ax: Axes) -> Axes:
        drawn = volume_against_data(experiment, level, ax, quantity=quantity, spread=spread, colour=colour)
        for bar in [other for other in drawn.figure.axes if other.get_label() == "<colorbar>"]:
            bar.remove()  # one for all panels, below
        return drawn

    figure = style.small_multiples(draw, several or experiment.landscapes, columns=columns)
    if colour is not None:
        figure.set_figheight(figure.get_figheight() + 0.55)  # the scale takes no room from the panels
        _colour_bar(figure.axes, _mean_colours(experiment, colour)[0], experiment, colour)
    return figure


def against_data(
    experiment: ExperimentResults, column: str = "test_loss", ax: Axes | None = None, *, spread: str = "sd"
) -> Axes:
    """``test_loss``, ``test_acc`` or ``train_loss`` of the minima against their data: every seed faintly, and
    mean and spread over seeds. Losses that span decades are averaged in their logarithm."""
    ax = style.new_axes(ax, height=0.8)
    x, values = experiment.minima_sizes, experiment.of_minima(column)
    logarithmic = column.endswith("_loss") and ticks.loss_axis(ax, values)
    forward, back = (np.log, np.exp) if logarithmic else (np.asarray, np.asarray)
    seeds_behind(ax, x, values)
    with np.errstate(divide="ignore"):
        centre, low, high = (back(part) for part in mean_and_spread(forward(values), spread))
    shown = np.isfinite(centre)
    ax.plot(x[shown], centre[shown], color=style.GREY, lw=1, zorder=2)
    styles = style.level_styles(experiment.minima)
    for j in np.flatnonzero(shown):
        reach = [[centre[j] - low[j]], [high[j] - centre[j]]]
        look = styles[experiment.minima[j]]
        ax.errorbar(x[j], centre[j], yerr=reach, **look, ms=5, lw=1, capsize=2, zorder=4)
    ticks.data_axis(ax, x)
    seed = Line2D([], [], color=style.LIGHT, lw=0.7, label="one seed")
    style.legend(ax, failed_words(experiment), [seed, _spread_handle(spread)])
    words = COLUMN_WORDS.get(column, column).format(loss_unit=style.literal(experiment.loss_unit))
    return style.finish(ax, minima_words(experiment), words)


def volume_against_landscape(
    experiment: ExperimentResults,
    ax: Axes | None = None,
    *,
    quantity: str = "log_exp_r_n",
    spread: str = "sd",
) -> Axes:
    """``quantity`` (nats) of each minimum against the size of the landscape, one line for each minimum.

    Where the runs have cutoffs, a line falls to the foot of the axes at the (median) landscape size from
    which on its minimum has no volume.
    """
    ax = style.new_axes(ax, height=0.95)
    styles = style.level_styles(experiment.minima)
    x = experiment.landscape_sizes
    cutoffs, everything = [], []
    handles = []
    for j, minimum in enumerate(experiment.minima):
        look = styles[minimum]
        values = np.stack([experiment.matrix(quantity, level)[:, j] for level in experiment.landscapes], 1)
        for run in values:
            ax.plot(x, np.where(np.isfinite(run), run, np.nan), color=look["color"], lw=0.4, alpha=0.25)
        centre, low, high = mean_and_spread(values, spread)
        shown = np.isfinite(centre)
        errors = np.stack([centre - low, high - centre])[:, shown]
        ax.errorbar(x[shown], centre[shown], yerr=errors, **look, ms=4, lw=1.2, elinewidth=0.8, capsize=1.5)
        handles.append(Line2D([], [], **look, lw=1.2, ms=4, label=f"{minimum:,}"))
        everything.append(values)
        cutoff = _median_cutoff(experiment, minimum)
        if shown.any() and cutoff is not None and cutoff > x[shown][-1]:
            cutoffs.append((x[shown][-1], centre[shown][-1], cutoff, look))
    _fall_to_the_foot(ax, cutoffs)
    ticks.data_axis(ax, [*x, *(cutoff for *_, cutoff, _ in cutoffs)])
    unit = ticks.nats_axis(ax.yaxis, np.concatenate(everything))
    lines = [threshold_words(experiment, quantity), f"minimum: {minima_words(experiment, sizes=False)}"]
    lines += ["× no volume from here on"] if cutoffs else []
    style.legend(ax, "\n".join(filter(None, lines)), handles)
    return style.finish(ax, landscape_axis_words(experiment), style.volume_label(quantity, unit))


def against_volume(
    experiment: ExperimentResults,
    column: str,
    landscape: int | None = None,
    ax: Axes | None = None,
    *,
    quantity: str = "log_exp_r_n",
    spread: str = "sd",
) -> Axes:
    """``test_loss``, ``test_acc`` … against ``quantity`` in one landscape: seeds small, centres large.

    Losses on a log axis are averaged in their logarithm.
    """
    ax = style.new_axes(ax, height=0.85)
    landscape = experiment.landscapes[0] if landscape is None else landscape
    volumes, others = experiment.matrix(quantity, landscape), experiment.matrix(column, landscape)
    styles = style.level_styles(experiment.minima)
    logarithmic = column.endswith("_loss") and ticks.loss_axis(ax, others)
    forward, back = (np.log, np.exp) if logarithmic else (np.asarray, float)
    handles = []
    for j, minimum in enumerate(experiment.minima):
        look = styles[minimum]
        known = np.isfinite(volumes[:, j]) & np.isfinite(others[:, j])
        if not known.any():
            continue
        ax.plot(volumes[known, j], others[known, j], **look, ms=2.5, ls="none", alpha=0.4, mew=0)
        x, x_low, x_high = np.concatenate(mean_and_spread(volumes[known, j : j + 1], spread))
        y, y_low, y_high = np.concatenate(mean_and_spread(forward(others[known, j : j + 1]), spread))
        y, y_low, y_high = back(y), back(y_low), back(y_high)
        ax.errorbar(
            x,
            y,
            xerr=[[x - x_low], [x_high - x]],
            yerr=[[y - y_low], [y_high - y]],
            **look,
            ms=5,
            lw=0.9,
            mec="white",
            mew=0.6,
        )
        handles.append(Line2D([], [], **look, ls="none", ms=4.5, label=f"{minimum:,}"))
    unit = ticks.nats_axis(ax.xaxis, volumes)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    title = title_words(experiment, landscape, volumes, quantity, drawn=False)
    style.legend(ax, f"{title}\nminimum: {minima_words(experiment, sizes=False)}", handles)
    words = COLUMN_WORDS.get(column, column).format(loss_unit=style.literal(experiment.loss_unit))
    return style.finish(ax, style.volume_label(quantity, unit), words)


def uncertainty(experiment: ExperimentResults, landscape: int | None = None, ax: Axes | None = None) -> Axes:
    """What limits each log E[r^n] in one landscape, in nats: seeds, directions, coefficient spacing.

    Medians over the runs of the bootstrap interval's width and of the resolution, and the standard
    deviation over the runs. What is 0 or unknown is not drawn.
    """
    ax = style.new_axes(ax, height=0.85)
    landscape = experiment.landscapes[0] if landscape is None else landscape
    x = experiment.minima_sizes
    values = experiment.matrix("log_exp_r_n", landscape)
    with np.errstate(invalid="ignore"):  # no volume has no width: −inf − −inf
        widths = experiment.matrix("ci_high", landscape) - experiment.matrix("ci_low", landscape)
        centre, low, _ = mean_and_spread(values)
        deviations = centre - low
    limits = {
        "seeds (standard deviation)": deviations,
        "directions (width of interval)": mean_and_spread(widths, "quartiles")[0],
        "coefficient spacing": mean_and_spread(experiment.matrix("resolution", landscape), "quartiles")[0],
    }
    for k, (name, sizes) in enumerate(limits.items()):
        shown = np.isfinite(sizes) & (sizes > 0)
        if shown.any():
            look = {"color": style.PALETTE[k], "marker": style.MARKERS[k], "ms": 4.5, "lw": 1}
            ax.plot(x[shown], sizes[shown], **look, label=name)
    ticks.data_axis(ax, x)
    ticks.loss_axis(ax, np.concatenate(list(limits.values())))
    style.legend(ax, f"{landscape_words(experiment, landscape)}\n{threshold_words(experiment)}")
    return style.finish(ax, minima_words(experiment), f"uncertainty of {style.LOG_EXP_R_N} (nats)")


COLUMN_WORDS = {
    "test_loss": "test loss ({loss_unit})",
    "train_loss": "training loss ({loss_unit})",
    "test_acc": "test accuracy",
    "cutoff": "cutoff (additional samples)",
}
"""Axis labels of the table's columns; losses in the experiment's unit."""


def minima_words(experiment: ExperimentResults, sizes: bool = True) -> str:
    """The words for what tells the minima apart."""
    if sizes and experiment.counts_training_data:
        return "training samples"
    return style.data_label(experiment.key, experiment.dataset_type)


def landscape_axis_words(experiment: ExperimentResults) -> str:
    if experiment.counts_training_data:
        return "training samples in the landscape"
    return f"{style.data_label(ADDITIONAL, experiment.dataset_type)} to the landscape"


def landscape_words(experiment: ExperimentResults, landscape: int) -> str:
    """The title of a figure of one landscape."""
    kind = {"poison": "poisoned samples", "noise": "noise samples"}.get(experiment.dataset_type, "samples")
    if experiment.counts_training_data:
        return (
            f"landscape of {experiment.landscape_sizes[experiment.landscapes.index(landscape)]:,.0f} samples"
        )
    return f"landscape: +{landscape:,} {kind}"


def threshold_words(experiment: ExperimentResults, quantity: str = "log_exp_r_n") -> str:
    """The threshold of the loss that bounds the regions; empty for a quantity that accuracy bounds."""
    return "" if quantity.endswith("_acc") else style.threshold_words(experiment.loss_threshold)


def no_volume_words(values: np.ndarray) -> str:
    """What the hollow markers and triangles of :func:`averages` say, as further lines of a title."""
    nothing = np.isneginf(values)
    whole = nothing.any(axis=0) & ~np.isfinite(values).any(axis=0)
    some = nothing.any(axis=0) & ~whole
    words = "\nhollow: no volume in some seeds" if some.any() else ""
    return words + ("\n▽ no volume in any seed" if whole.any() else "")


def failed_words(experiment: ExperimentResults) -> str:
    """How many networks ended above the threshold, and how they count, in two lines that fit above a figure;
    empty where none did."""
    count = len(experiment.failures)
    if not count:
        return ""
    networks = "1 network" if count == 1 else f"{count} networks"
    ways = {
        "no volume": "no volume where their loss is above it",
        "leave out": "left out",
        "least volume": "counted as the least volume",
    }
    return f"{networks} above the threshold after training:\n{ways[experiment.failed]}"


def title_words(
    experiment: ExperimentResults, landscape: int, values: np.ndarray, quantity: str, *, drawn: bool = True
) -> str:
    """The landscape, and in further lines the threshold, what markers without a volume mean, failed networks.

    ``drawn``: minima without a volume have markers; else they are only counted as not there.
    """
    lines = [landscape_words(experiment, landscape), threshold_words(experiment, quantity)]
    lines += [failed_words(experiment)]
    words = no_volume_words(values).strip("\n")
    if words and not drawn:
        words = "without those that have no volume"
    return "\n".join(line for line in [*lines, words] if line)


def _mean_colours(experiment: ExperimentResults, column: str) -> tuple[ScalarMappable, list[Any]]:
    """A scale, and a colour for each minimum by its mean over seeds of ``column``."""
    means = mean_and_spread(experiment.of_minima(column))[0]
    known = means[np.isfinite(means)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    scale = ScalarMappable(Normalize(low, high if high > low else low + 1e-9), "viridis_r")
    return scale, [scale.to_rgba(mean) if np.isfinite(mean) else style.GREY for mean in means]


def _colour_bar(
    axes: Axes | Sequence[Axes], scale: ScalarMappable, experiment: ExperimentResults, column: str
) -> None:
    figure = (axes if isinstance(axes, Axes) else axes[0]).figure
    # beside one axes; below several, whose width is needed for their ticks
    where = "right" if isinstance(axes, Axes) else "bottom"
    bar = figure.colorbar(scale, ax=axes, location=where, pad=0.03, fraction=0.05, aspect=30)
    bar.ax.tick_params(labelsize=style.SMALL, length=2, width=0.6)
    bar.outline.set_linewidth(0.6)
    words = COLUMN_WORDS.get(column, column).format(loss_unit=style.literal(experiment.loss_unit))
    bar.set_label(words, fontsize=style.SMALL)


def _median_cutoff(experiment: ExperimentResults, minimum: float) -> float | None:
    """Median over the runs of the landscape size from which on the minimum has no volume; None if unknown."""
    rows = experiment.rows(minimum=minimum)
    cutoffs = np.array([rows["cutoff"][rows["run"] == run][0] for run in dict.fromkeys(rows["run"])])
    cutoffs = cutoffs[~np.isnan(cutoffs)]
    if not cutoffs.size or not np.isfinite(np.median(cutoffs)):
        return None
    return float(np.median(cutoffs) + experiment.landscape_sizes[0] - experiment.landscapes[0])


def _fall_to_the_foot(ax: Axes, cutoffs: Sequence[tuple[float, float, float, dict[str, Any]]]) -> None:
    """Dashed from a minimum's last volume to a cross at its cutoff: the log of nothing has no height."""
    if not cutoffs:
        return
    bottom, top = ax.get_ylim()
    bottom -= 0.08 * (top - bottom)
    ax.set_ylim(bottom, top)
    for last_x, last_y, cutoff, look in cutoffs:
        ax.plot([last_x, cutoff], [last_y, bottom], color=look["color"], lw=0.9, ls=(0, (2, 2)), zorder=1)
        ax.plot(
            cutoff,
            bottom,
            marker="x",
            color=look["color"],
            ms=4.5,
            mew=1.2,
            ls="none",
            clip_on=False,
            zorder=5,
        )


def seeds_behind(ax: Axes, x: np.ndarray, values: np.ndarray) -> None:
    for run in values:
        shown = np.isfinite(run)
        ax.plot(x[shown], run[shown], color=style.LIGHT, lw=0.7, zorder=1)


def averages(
    ax: Axes,
    x: np.ndarray,
    values: np.ndarray,
    spread: str,
    levels: Sequence[float],
    *,
    line: bool = True,
    colours: Sequence[Any] | None = None,
) -> None:
    centre, low, high = mean_and_spread(values, spread)
    shown = np.isfinite(centre)
    if line:
        ax.plot(x[shown], centre[shown], color=style.GREY, lw=1, zorder=2)
    styles = style.level_styles(levels)
    for j, level in enumerate(levels):
        if colours is not None:
            # the lightest colours of a scale would be lost on paper without an edge
            edge = {"mec": "black", "mew": 0.5, "ecolor": style.GREY}
            styles[level] = {"color": colours[j], "marker": styles[level]["marker"], **edge}
        if np.isfinite(centre[j]):
            hollow: dict[str, Any] = {"mfc": "white"} if np.isneginf(values[:, j]).any() else {}
            reach = np.nan_to_num([[centre[j] - low[j]], [high[j] - centre[j]]], posinf=0.0)
            ax.errorbar(
                x[j], centre[j], yerr=reach, **styles[level], **hollow, ms=5, lw=1, capsize=2, zorder=4
            )
        elif np.isneginf(centre[j]):
            style.no_volume(ax, x[j], styles[level]["color"])


def _spread_handle(spread: str) -> Line2D:
    label = {"sd": "mean ± sd", "quartiles": "median, quartiles"}[spread]
    return Line2D([], [], color=style.GREY, marker="o", ms=4, lw=1, label=label)
