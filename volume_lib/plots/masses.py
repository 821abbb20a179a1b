"""Figures of log masses: the path that an integration took, how it settled, and rays beside it.

``masses`` is the content of a ``mass.json`` (:func:`volume_lib.storage.load_masses`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from volume_lib.plots import style, ticks

Masses = Mapping[str, Any]


def integrands(masses: Masses, ax: Axes | None = None, *, levels: Sequence[float] | None = None) -> Axes:
    """What is integrated along the path, one colour for each minimum: forwards full, backwards dashed.

    The horizontal axis is what is integrated over, in logarithms, so that areas are nats: the pull k towards
    the minimum (visible region, and a connected one that chains from the reference did not find), or the
    ceiling of the loss. The left end is the region, the right end where the path is known. Where the two
    passes part, chains lag behind, and the area between the lines is the gap.
    """
    ax = style.new_axes(ax, height=0.85)
    styles = style.level_styles([*(levels or []), *masses["key_values"]])
    words = {"k": "pull towards the minimum k", "ceiling": "ceiling of the loss ℓ"}
    drawn = set()
    for value, record in zip(masses["key_values"], masses["records"], strict=True):
        path = record.get("path", ())
        # a pull has a ceiling too, the same one all along
        along = "k" if any(row["k"] > 0 for row in path) else "ceiling"
        rows = [row for row in path if row.get(along)]  # k = 0 has no logarithm
        drawn |= {along} if rows else set()
        places = np.array([row[along] for row in rows])
        for name, dashes in (("integrand", "-"), ("integrand_back", "--")):
            label = f"{value:,}" if name == "integrand" else None
            heights = [row[name] for row in rows]
            ax.plot(places, heights, dashes, color=styles[value]["color"], lw=1, label=label)
    ticks.log_axis(ax.xaxis)
    _legend_of_passes(ax, masses)
    title = " or ".join(words[along] for along in words if along in drawn) or words["ceiling"]
    return style.finish(ax, title, f"integrand ({style.literal(masses.get('loss_unit', 'nats'))})")


def mass_convergence(
    masses: Masses, ax: Axes | None = None, *, levels: Sequence[float] | None = None
) -> Axes:
    """Both passes' estimates of each minimum against the gradients spent: they bracket the log mass, and
    close in on it as the effort grows."""
    ax = style.new_axes(ax, height=0.85)
    styles = style.level_styles([*(levels or []), *masses["key_values"]])
    for value, record in zip(masses["key_values"], masses["records"], strict=True):
        history = record.get("history", ())
        spent = np.cumsum([row["gradients"] for row in history])
        look: dict[str, Any] = styles[value] | {"lw": 1, "ms": 4}
        ax.plot(spent, [row["forward"] for row in history], "-", **look, label=f"{value:,}")
        ax.plot(spent, [row["backward"] for row in history], "--", **look)
    if ax.lines:
        ticks.log_axis(ax.xaxis)
    _legend_of_passes(ax, masses)
    return style.finish(ax, "gradients of one chain", "log mass (nats)")


def _legend_of_passes(ax: Axes, masses: Masses) -> None:
    """Minima by colour, passes by dashes."""
    ax.plot([], [], "-", color=style.GREY, lw=1, label="forward")
    ax.plot([], [], "--", color=style.GREY, lw=1, label="backward")
    style.legend(
        ax, f"{where_words(masses)}\nminimum: {style.data_label(masses['key'], masses['dataset_type'])}"
    )


def where_words(masses: Masses) -> str:
    """The landscape and the threshold, for a title."""
    where = f"landscape: +{masses['loss_landscape_data_param']:,} samples"
    return f"{where}\n{style.threshold_words(masses['loss_threshold'])}"


def rays_and_integration(
    masses: Masses | Sequence[Masses], ax: Axes | None = None, *, levels: Sequence[float] | None = None
) -> Axes:
    """The log mass of every minimum by rays (open) and by integration (filled), with their intervals.

    Bars of rays are the bootstrap interval over directions, which knows of no direction that was not drawn;
    those of an integration span both passes. Of several files (runs), every one faintly.
    """
    several = [masses] if isinstance(masses, Mapping) else list(masses)
    ax = style.new_axes(ax, height=0.85)
    minima = sorted({value for found in several for value in found["key_values"]})
    styles = style.level_styles([*(levels or []), *minima])
    alpha = 1.0 if len(several) == 1 else 0.55
    nothing = False
    for found in several:
        for i, value in enumerate(found["key_values"]):
            position = minima.index(value)
            look: dict[str, Any] = styles[value] | {"alpha": alpha}
            by_rays, mass = found["log_mass_rays_values"][i], found["log_mass_values"][i]
            if not np.isfinite(mass):
                style.no_volume(ax, position, look["color"])
                nothing = True
                continue
            _bar(ax, position + 0.14, mass, found["log_mass_intervals"][i], look)
            if np.isfinite(by_rays):
                _bar(ax, position - 0.14, by_rays, found["log_mass_rays_ci"][i], look | {"mfc": "white"})
    ax.set_xticks(range(len(minima)), [f"{value:,}" for value in minima])
    ax.set_xlim(-0.6, len(minima) - 0.4)
    ax.plot([], [], "o", color=style.GREY, mfc="white", ms=4.5, label="by rays")
    ax.plot([], [], "o", color=style.GREY, ms=4.5, label="by integration")
    ticks.log_axis(ax.yaxis, "symlog", linthresh=100)
    first = several[0]
    style.legend(ax, where_words(first) + (f"\n{style.NO_VOLUME}" if nothing else ""))
    words = style.data_label(first["key"], first["dataset_type"])
    return style.finish(ax, f"minimum: {words}", f"log mass, {first['region']} region (nats)")


def _bar(ax: Axes, x: float, y: float, interval: Sequence[float], look: dict[str, Any]) -> None:
    ends = np.array([[max(0.0, y - interval[0])], [max(0.0, interval[1] - y)]])
    ax.errorbar(x, y, yerr=np.nan_to_num(ends), **look, ms=4.5, ls="none", lw=0.9, capsize=2)
