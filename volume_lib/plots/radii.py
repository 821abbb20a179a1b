"""Figures of threshold radii: their distribution, its tail, and which of them carry the volume.

``radii`` maps a level to its (D,) radii or to :class:`volume_lib.volume.estimate.Radii`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy.stats import norm

from volume_lib.plots import style, ticks


def radii_histogram(
    radii: Mapping[float, Any],
    ax: Axes | None = None,
    *,
    levels: Sequence[float] | None = None,
    title: str = "",
    bins: int = 30,
) -> Axes:
    """Distribution of the threshold radii of each minimum, with a tick at each one's largest radius.

    ``radii`` maps a level to its (D,) radii or to :class:`volume_lib.volume.estimate.Radii`; the minima
    share their bins. Directions that never crossed (censored) stand at their lower bound and are
    counted in the legend.
    """
    ax = style.new_axes(ax, height=0.85)
    values = {level: np.asarray(getattr(r, "radius", r), dtype=float) for level, r in radii.items()}
    styles = style.level_styles([*(levels or []), *values])
    everything = np.concatenate([v for v in values.values() if v.size] or [np.zeros(1)])
    use_log = ticks.radius_axis(ax, everything)
    low, high = everything.min(), everything.max()
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.geomspace(low, high, bins + 1) if use_log else np.linspace(low, high, bins + 1)
    for level in sorted(values):
        colour = styles[level]["color"]
        censored = int(np.sum(getattr(radii[level], "censored", np.zeros(0))))
        label = f"{level:,}" + (f" ({censored:,} never crossed)" if censored else "")
        ax.hist(values[level], edges, histtype="stepfilled", color=colour, alpha=0.25)
        ax.hist(values[level], edges, histtype="step", color=colour, lw=1.0, label=label)
        if values[level].size:
            ax.plot(
                values[level].max(),
                -0.015,
                marker="^",
                color=colour,
                ms=4,
                ls="none",
                clip_on=False,
                transform=ax.get_xaxis_transform(),
                zorder=5,
            )
    style.legend(ax, title or "minimum; ▲ largest radius")
    return style.finish(ax, "threshold radius", "directions")


def radii_summary(
    radii: Mapping[float, Any],
    ax: Axes | None = None,
    *,
    levels: Sequence[float] | None = None,
    minimum: str = "additional training samples",
    title: str = "",
) -> Axes:
    """Quartiles (bar), median (filled), mean (hollow), largest radius (▸) of each minimum, and its range.

    ``minimum``: what the levels count, in words (:func:`volume_lib.plots.style.data_label`).
    """
    ax = style.new_axes(ax, height=0.75)
    styles = style.level_styles([*(levels or []), *radii])
    ordered = sorted(radii)
    for row, level in enumerate(ordered):
        colour = styles[level]["color"]
        radius = np.asarray(getattr(radii[level], "radius", radii[level]), dtype=float)
        low, middle, high = np.quantile(radius, [0.25, 0.5, 0.75])
        ax.plot([radius.min(), radius.max()], [row, row], color=colour, lw=0.8)
        ax.plot([low, high], [row, row], color=colour, lw=6, alpha=0.35, solid_capstyle="butt")
        ax.plot(middle, row, marker="o", color=colour, ms=5, ls="none")
        ax.plot(radius.mean(), row, marker="o", color=colour, mfc="white", ms=5, ls="none")
        ax.plot(radius.max(), row, marker=">", color=colour, ms=5, ls="none")
    ax.set_yticks(range(len(ordered)), [f"{level:,}" for level in ordered])
    ax.set_ylim(len(ordered) - 0.5, -0.5)
    grey = {"color": style.GREY, "ls": "none", "ms": 4.5}
    handles = [
        Line2D([], [], color=style.GREY, lw=5, alpha=0.35, label="quartiles"),
        Line2D([], [], marker="o", label="median", **grey),
        Line2D([], [], marker="o", mfc="white", label="mean", **grey),
        Line2D([], [], marker=">", label="largest", **grey),
    ]
    style.legend(ax, title, handles)
    return style.finish(ax, "threshold radius", f"minimum: {minimum}")


def radii_tail(
    radii: Mapping[float, Any],
    ax: Axes | None = None,
    *,
    levels: Sequence[float] | None = None,
    title: str = "",
) -> Axes:
    """How the largest radii thin out: the share of directions beyond each radius, against a normal law's.

    ``radii`` as for :func:`radii_histogram`. Dashed: the normal distribution of the same mean and standard
    deviation. Points above it are a heavier tail, in which more directions would find larger radii yet.
    """
    ax = style.new_axes(ax, height=0.85)
    styles = style.level_styles([*(levels or []), *radii])
    most = max(len(getattr(r, "radius", r)) for r in radii.values())
    for level, found in sorted(radii.items()):
        ordered = np.sort(np.asarray(getattr(found, "radius", found), dtype=float))
        beyond = (len(ordered) - np.arange(len(ordered)) - 0.5) / len(ordered)
        ax.plot(ordered, beyond, **styles[level], ms=2, lw=0, mew=0, label=f"{level:,}")
        if len(ordered) > 1 and ordered[-1] > ordered[0]:
            line = np.linspace(ordered[0], ordered[-1] + 0.1 * np.ptp(ordered), 200)
            law = norm.sf(line, ordered.mean(), ordered.std(ddof=1))
            ax.plot(line, law, color=styles[level]["color"], lw=0.8, ls=(0, (4, 2)))
    ticks.log_axis(ax.yaxis)
    ax.set_ylim(0.3 / most, 1.3)
    style.legend(ax, title or "minimum; dashed: normal law")
    return style.finish(ax, "threshold radius", "share of directions beyond")


def weight_shares(
    radii: Mapping[float, Any],
    n: int,
    ax: Axes | None = None,
    *,
    levels: Sequence[float] | None = None,
    title: str = "",
) -> Axes:
    """How much of the mean of ``r^n`` the k largest radii carry: near 1 at k = 1, one direction is all.

    Lines that come to lie on each other show as bands: the first minimum's is the broadest.
    """
    ax = style.new_axes(ax, height=0.85)
    styles = style.level_styles([*(levels or []), *radii])
    longest, handles = 1, []
    for i, (level, found) in enumerate(sorted(radii.items())):
        radius = np.sort(np.asarray(getattr(found, "radius", found), dtype=float))[::-1]
        if not radius.size or radius[0] == 0:
            continue
        with np.errstate(divide="ignore"):
            weights = np.exp(n * (np.log(radius) - np.log(radius[0])))
        k = np.arange(1, len(radius) + 1)
        colour, width = styles[level]["color"], 1 + 1.2 * (len(radii) - 1 - i)
        ax.plot(k, np.cumsum(weights) / weights.sum(), color=colour, lw=width, solid_capstyle="butt")
        handles.append(Line2D([], [], color=colour, lw=1.5, label=f"{level:,}"))
        longest = max(longest, len(radius))
    ticks.data_axis(ax, [1, longest], log=longest > 10)
    ax.set_ylim(0, 1.05)
    style.legend(ax, title or "minimum", handles)
    return style.finish(ax, "largest radii taken together", r"share of $\sum r^n$")
