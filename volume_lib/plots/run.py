"""Figures of one run: its data, its training, its rays, radii and volumes.

Every function takes an optional ``ax``, draws there (or in a new figure one column wide) and returns
it. ``levels`` are all levels of the experiment; pass them where a figure shows only some, so that
each level keeps its colour (see :func:`volume_lib.plots.style.level_styles`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from volume_lib.cutoffs import curve_samples
from volume_lib.plots import style, ticks
from volume_lib.records import ADDITIONAL, Sweep, TrainedModel
from volume_lib.storage import value_of
from volume_lib.thresholds import above

RAYS_SHOWN = 12
"""Directions of each minimum that :func:`ray_profiles` draws: enough to see their spread."""


def training_curves(
    models: Sequence[TrainedModel],
    ax: Axes | None = None,
    *,
    levels: Sequence[float] | None = None,
    loss_unit: str = "nats",
) -> Axes:
    """Training loss (solid) and test loss (dashed) of every model against the logarithm of the epoch.

    Lengths of one training share their curve: it has the colour of each up to the marker where that one ends.
    """
    ax = style.new_axes(ax, height=0.85)
    shown = _curves(ax, models, ("train_loss", "test_loss"), levels)
    ticks.loss_axis(ax, shown)
    return style.finish(ax, "epoch", f"loss ({style.literal(loss_unit)})")


def accuracy_curves(
    models: Sequence[TrainedModel], ax: Axes | None = None, *, levels: Sequence[float] | None = None
) -> Axes:
    """Training (solid) and test accuracy (dashed) of every model against the logarithm of the epoch.

    Drawn as :func:`training_curves`. Where networks learn their data early and the rule late (grokking),
    the two families lie decades apart.
    """
    ax = style.new_axes(ax, height=0.85)
    _curves(ax, models, ("train_accs", "test_accs"), levels)
    ax.set_ylim(-0.02, 1.02)
    return style.finish(ax, "epoch", "accuracy")


def _curves(
    ax: Axes, models: Sequence[TrainedModel], names: tuple[str, str], levels: Sequence[float] | None
) -> list[float]:
    """Two curves of every model with their legend; returns all values drawn."""
    styles = style.level_styles([*(levels or []), *(model.value for model in models)])
    shown: list[float] = []
    models = sorted(models, key=lambda model: model.value)
    snapshots = models[0].key == "epochs"
    for model in sorted(models, key=lambda model: -len(model.train_loss)):  # the shorter on top
        look = styles[model.value]
        for name, line, width in zip(names, ("-", "--"), (1.1, 0.8), strict=True):
            values = np.asarray(getattr(model, name), dtype=float)
            ax.plot(np.arange(1, len(values) + 1), values, line, color=look["color"], lw=width)
            if snapshots:
                end = {"ms": 4, "mec": "white", "mew": 0.5, "ls": "none", "zorder": 4}
                ax.plot(len(values), values[-1], **look, **end)
            shown.extend(values)
    handles = [
        Line2D([], [], **(look if snapshots else {"color": look["color"]}), lw=1.5, ms=4, label=f"{level:,}")
        for level, look in ((model.value, styles[model.value]) for model in models)
    ]
    handles += [
        Line2D([], [], color=style.GREY, ls=ls, lw=1, label=name)
        for ls, name in (("-", "train"), ("--", "test"))
    ]
    ticks.log_axis(ax.xaxis)  # of losses and accuracies alike: most happens in the first epochs
    style.legend(ax, _models_title(models), handles)
    return shown


def test_loss(
    models: Sequence[TrainedModel],
    ax: Axes | None = None,
    *,
    levels: Sequence[float] | None = None,
    loss_unit: str = "nats",
) -> Axes:
    """Final test loss of each model against what varies between them."""
    ax = style.new_axes(ax)
    models = sorted(models, key=lambda model: model.value)
    x = [model.value for model in models]
    y = [float(model.test_loss[-1]) for model in models]
    _level_points(ax, x, y, levels)
    ticks.data_axis(ax, x)
    ticks.loss_axis(ax, y)
    return style.finish(
        ax, style.data_label(models[0].key, models[0].dataset_type), f"test loss ({style.literal(loss_unit)})"
    )


def test_accuracies(
    sizes: Sequence[int],
    accs: Sequence[float],
    ax: Axes | None = None,
    *,
    levels: Sequence[float] | None = None,
    xlabel: str = "training samples",
) -> Axes:
    """Test accuracy (fraction of the test set) of each model against ``sizes``, both (M,)."""
    ax = style.new_axes(ax)
    order = np.argsort(sizes)
    x, y = np.asarray(sizes)[order], np.asarray(accs, dtype=float)[order]
    _level_points(ax, x.tolist(), y.tolist(), levels)
    ticks.data_axis(ax, x)
    return style.finish(ax, xlabel, "test accuracy")


def ray_profiles(
    sweeps: Sequence[Sweep],
    loss_thresholds: Sequence[float],
    ax: Axes | None = None,
    *,
    levels: Sequence[float] | None = None,
    rays: int = RAYS_SHOWN,
) -> Axes:
    """Loss along the first ``rays`` directions of each minimum of one landscape.

    The markers stand where the median direction first exceeds each threshold, over all directions
    by the scan rule; directions that never do count as beyond every coefficient.
    """
    ax = style.new_axes(ax, height=0.9)
    values = [sweep.value for sweep in sweeps]
    # levels count additional samples: where something else varies, they have no say in the colours
    styles = style.level_styles(levels if levels and set(values) <= set(levels) else values)
    lowest, furthest, handles = [], [], []
    for sweep in sorted(sweeps, key=lambda sweep: sweep.value):
        look = styles[sweep.value]
        for wiggle in sweep.wiggle_results[:rays]:
            loss = np.asarray(wiggle["loss"], dtype=float)
            ax.plot(wiggle["coefficients"], loss, color=look["color"], lw=0.5, alpha=0.55)
            lowest.extend(loss[np.isfinite(loss) & (loss > 0)][:1])
        for threshold in loss_thresholds:
            crossings = [_first_above(w, threshold) for w in sweep.wiggle_results]
            middle = float(np.median(crossings))
            if np.isfinite(middle):
                ax.plot(middle, threshold, **look, ms=4.5, mec="white", mew=0.6, ls="none", zorder=4)
        furthest += [
            c
            for c in map(lambda w: _first_above(w, max(loss_thresholds)), sweep.wiggle_results[:rays])
            if np.isfinite(c)
        ]
        handles.append(Line2D([], [], **look, lw=1.2, ms=3.5, label=f"{sweep.value:,}"))
    for threshold in loss_thresholds:
        ax.axhline(threshold, color=style.GREY, lw=0.7, ls=(0, (4, 3)), zorder=1)
    ticks.log_axis(ax.yaxis)
    ax.set_ylim(min([*lowest, *loss_thresholds]) / 2, 10 * max(loss_thresholds))
    if furthest:
        ax.set_xlim(0, 1.25 * max(furthest))
    style.legend(ax, f"landscape: +{sweeps[0].additional_data:,} samples\n{_models_title(sweeps)}", handles)
    return style.finish(ax, "coefficient", f"loss ({style.literal(sweeps[0].loss_unit)})")


def loss_curves(
    cutoffs: Mapping[str, Mapping[str, Any]],
    ax: Axes | None = None,
    *,
    loss_threshold: float | None = None,
    levels: Sequence[float] | None = None,
    key: str = ADDITIONAL,
    dataset_type: str = "data",
    loss_unit: str = "nats",
) -> Axes:
    """Mean loss of each minimum over the first samples, as more are added: cutoffs.json.

    ``key`` and ``dataset_type`` say what varies between the minima, ``loss_unit`` what losses are
    measured in: the file does not.

    The marker is where the curve first exceeds ``loss_threshold``: a landscape of that many samples
    or more gives this minimum no volume.
    """
    ax = style.new_axes(ax, height=0.85)
    entries = {value_of(name): entry for name, entry in cutoffs.items()}
    styles = style.level_styles([*(levels or []), *entries])
    shown: list[float] = []
    longest = 1
    for level, entry in sorted(entries.items()):
        look = styles[level]
        curve = np.asarray([np.nan if v is None else v for v in entry["loss_curve"]], dtype=float)
        samples = curve_samples(entry)
        keep = _thin(len(curve), 400)
        ax.plot(samples[keep], curve[keep], color=look["color"], lw=1.1, label=f"{level:,}")
        if loss_threshold is not None:
            inside = samples >= int(entry["base_train_size"])
            beyond = np.flatnonzero(inside & above(curve, loss_threshold))
            if beyond.size:
                at = beyond[0]
                ax.plot(samples[at], curve[at], **look, ms=4.5, mec="white", mew=0.6, ls="none", zorder=4)
        # What is seen below the base samples, down to 1e-20 for the first few, is no part of the question.
        shown.extend(curve[(curve > 0) & (samples >= int(entry["base_train_size"]))])
        longest = max(longest, int(samples[-1]))
    if loss_threshold is not None:
        ax.axhline(loss_threshold, color=style.GREY, lw=0.7, ls=(0, (4, 3)))
    if longest > 30:
        ticks.log_axis(ax.xaxis)
    ticks.loss_axis(ax, shown)
    if shown and ax.get_yscale() == "log":
        ax.set_ylim(bottom=min(shown) / 3)
    style.legend(ax, f"minimum: {style.data_label(key, dataset_type)}")
    return style.finish(ax, "samples in the landscape", f"mean loss ({style.literal(loss_unit)})")


def _first_above(wiggle: Mapping[str, Any], threshold: float) -> float:
    """Coefficient of the first loss above ``threshold`` (NaN counts as above); inf where there is none."""
    beyond = np.flatnonzero(above(wiggle["loss"], threshold))
    return float(wiggle["coefficients"][beyond[0]]) if beyond.size else np.inf


def _thin(n: int, most: int) -> np.ndarray:
    """At most about ``most`` of the indices 0 … n−1, evenly spaced in log, both ends among them."""
    if n <= most:
        return np.arange(n)
    return np.unique(np.geomspace(1, n, most).round().astype(int)) - 1


def _level_points(ax: Axes, x: Sequence[float], y: Sequence[float], levels: Sequence[float] | None) -> None:
    """A grey line through the points, each point in its level's colour."""
    styles = style.level_styles([*(levels or []), *x])
    ax.plot(x, y, color=style.LIGHT, lw=1, zorder=1)
    for xi, yi in zip(x, y, strict=True):
        ax.plot(xi, yi, **styles[xi], ms=5, ls="none")


def _models_title(records: Sequence[TrainedModel | Sweep]) -> str:
    first = records[0]
    return "minimum: " + style.data_label(first.key, first.dataset_type)
