"""Figures of estimates against exact volumes: how they converge with the number of directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from volume_lib.plots import style, ticks

if TYPE_CHECKING:
    from volume_lib.validation.record import Convergence

LOOKS = {
    "none": {"color": style.PALETTE[1], "marker": "o", "ls": "-", "ms": 5.0, "mfc": "none"},
    "filter": {"color": style.PALETTE[2], "marker": "x", "ls": "--", "ms": 3.5},
    "curvature": {"color": style.PALETTE[0], "marker": "s", "ls": "-", "ms": 3.0},
}


def convergence(curves: Sequence[Convergence], ax: Axes | None = None, *, title: str = "") -> Axes:
    """Estimate less exact log volume (nats) against the number of directions, one line for each scaling.

    The bands are the 95 % intervals. The vertical axis is linear within one nat and logarithmic beyond.
    """
    ax = style.new_axes(ax)
    ax.axhline(0, color=style.GREY, lw=0.8, zorder=0)
    for curve in curves:
        look = LOOKS.get(curve.scaling, {"color": style.GREY})
        ax.fill_between(
            curve.directions,
            curve.low - curve.exact,
            curve.high - curve.exact,
            color=look["color"],
            alpha=0.15,
            lw=0,
        )
        ax.plot(curve.directions, curve.estimate - curve.exact, **look, lw=1, mew=0.9, label=curve.scaling)
    ticks.log_axis(ax.xaxis)
    worst = max((np.abs(np.concatenate([c.low, c.high]) - c.exact).max() for c in curves), default=1.0)
    _error_axis(ax, worst)
    return style.finish(ax, "directions", "error of log volume (nats)", title)


def convergence_grid(
    curves: Mapping[tuple[str, str], Sequence[Convergence]], *, panel: float = 1.45
) -> Figure:
    """One panel for each (row, column) label: :func:`convergence` of its curves. Rows and columns appear in
    the order in which their labels first do; all share the horizontal axis."""
    rows = list(dict.fromkeys(row for row, _ in curves))
    columns = list(dict.fromkeys(column for _, column in curves))
    figure, axes = plt.subplots(
        len(rows),
        len(columns),
        figsize=(panel * len(columns) + 0.5, 0.9 * panel * len(rows) + 0.5),
        dpi=style.DISPLAY_DPI,
        layout="constrained",
        squeeze=False,
        sharex=True,
    )
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            ax = convergence(curves[row, column], axes[i, j], title=column if i == 0 else "")
            ax.set_xlabel("directions" if i == len(rows) - 1 else "", fontsize=style.FONT)
            ax.set_ylabel(f"{row}\nerror (nats)" if j == 0 else "", fontsize=style.FONT)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=len(labels), frameon=False, fontsize=style.FONT
    )
    return figure


def _error_axis(ax: Axes, worst: float) -> None:
    """Symmetric-log axis with few, plain ticks."""
    ax.set_yscale("symlog", linthresh=1.0, linscale=0.7)
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, -1.3), max(high, 1.3))  # what happens within a fraction of a nat is no matter
    decades = int(np.ceil(np.log10(max(worst, 1.0))))
    step = max(1, -(-decades // 3))
    powers = [10.0**d for d in range(0, decades + step, step)]
    ax.yaxis.set_major_locator(FixedLocator([-p for p in reversed(powers)] + [0.0] + powers))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(_signed_power))


def _signed_power(value: float, _: int | None = None) -> str:
    if abs(value) < 1000:
        return f"{value:g}".replace("-", "−")
    return f"${'-' if value < 0 else ''}10^{{{round(np.log10(abs(value)))}}}$"


def rewritten(
    factors: Sequence[float],
    changes: Mapping[str, Sequence[float]],
    ax: Axes | None = None,
    *,
    exact: Mapping[str, Sequence[float]] | None = None,
    quantity: str = "log_volume",
    threshold: float | None = None,
) -> Axes:
    """Change of a ``quantity`` (nats) against the ``factors`` (K,) by which a network was rewritten.

    ``changes``: way of measuring → (K,), a line each, of regions at the ``threshold`` of the loss.
    ``exact``: the true changes of these, dashed in the same colour.
    """
    ax = style.new_axes(ax, height=0.85)
    exact = exact or {}
    for i, (name, values) in enumerate(changes.items()):
        look: dict[str, Any] = {"color": style.PALETTE[i], "marker": style.MARKERS[i]}
        ax.plot(factors, values, **look, ms=4.5, lw=1, label=name)
        if name in exact:
            ax.plot(factors, exact[name], color=look["color"], lw=1.6, ls=(0, (2, 2)), zorder=1)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(list(factors)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    unit = ticks.nats_axis(ax.yaxis, list(changes.values()))
    lines = [] if threshold is None else [style.threshold_words(threshold)]
    lines.append("directions; dashed: exact" if exact else "directions")
    style.legend(ax, "\n".join(lines))
    words = style.volume_label(quantity, unit)
    return style.finish(ax, "factor of the first layer, divisor of the next", f"change of {words}")
