"""Figures of one run's ``results.json``: log volumes, what they predict, how sure their order is.

``results`` is the dictionary of one landscape and threshold, or several of them; lists are in the
order of ``model_data_levels``. A log volume of ``None`` or −inf is a zero volume and is drawn as an
open triangle at the foot of the axes. Files without the newer keys draw without error bars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy.stats import rankdata

from volume_lib.analysis import minima_of
from volume_lib.plots import style, ticks
from volume_lib.records import ADDITIONAL

Results = Mapping[str, Any]


def log_volumes(
    results: Results | Sequence[Results],
    ax: Axes | None = None,
    *,
    quantity: str = "log_exp_r_n",
    levels: Sequence[float] | None = None,
) -> Axes:
    """``quantity`` (nats) of each minimum against what it was trained with, one line for each landscape.

    Of several landscapes, colours and markers are those of the landscape; of one, those of the minima.
    ``quantity`` names the key without ``_values``: ``log_exp_r_n``, ``log_exp_r_n_acc``,
    ``log_volume`` or ``log_mass_rays``.
    Error bars: the bootstrap interval over directions, where the file has one.
    """
    several = [results] if isinstance(results, Mapping) else list(results)
    ax = style.new_axes(ax, height=0.85)
    models = sorted({level for r in several for level in minima_of(r)})
    styles = style.level_styles([*(levels or []), *models])
    landscapes = style.level_styles(r["loss_landscape_data_param"] for r in several)
    nothing = 0
    for result in sorted(several, key=lambda r: r["loss_landscape_data_param"]):
        x = np.asarray(minima_of(result), dtype=float)
        y = as_floats(result[f"{quantity}_values"])
        order = np.argsort(x)
        landscape = int(result["loss_landscape_data_param"])
        here = landscapes[landscape] if len(several) > 1 else None
        finite = order[np.isfinite(y[order])]
        ax.plot(
            x[finite], y[finite], **(here or {"color": style.LIGHT}), lw=1, ms=4.5, zorder=1,
            label=f"+{landscape:,}" if here else None,
        )  # fmt: skip
        errors = _errors(result, quantity, y)
        nothing += np.sum(~np.isfinite(y))
        for i in order:
            look = here or styles[float(x[i])]
            if np.isfinite(y[i]):
                ax.errorbar(
                    x[i], y[i], yerr=errors[:, i : i + 1], **look, ms=4.5, ls="none", lw=0.9, capsize=2
                )
            else:
                style.no_volume(ax, float(x[i]), look["color"])
    ticks.data_axis(ax, models)
    unit = ticks.nats_axis(ax.yaxis, [as_floats(r[f"{quantity}_values"]).max() for r in several])
    if len(several) > 1:
        words = style.data_label(ADDITIONAL, several[0].get("dataset_type", "data"))
        lines = [threshold_words(several[0], quantity), style.NO_VOLUME if nothing else ""]
        style.legend(ax, "\n".join(filter(None, [f"landscape: {words}", *lines])))
    else:
        title = landscape_words(several[0], quantity) + (f"; {style.NO_VOLUME}" if nothing else "")
        ax.set_title(title, fontsize=style.FONT, loc="left")
    return style.finish(ax, data_words(several[0]), style.volume_label(quantity, unit))


def volume_against_test_loss(
    results: Results,
    ax: Axes | None = None,
    *,
    quantity: str = "log_exp_r_n",
    levels: Sequence[float] | None = None,
) -> Axes:
    """Test loss of each minimum against ``quantity`` in this landscape."""
    ax = style.new_axes(ax, height=0.85)
    models = minima_of(results)
    styles = style.level_styles([*(levels or []), *models])
    x, y = as_floats(results[f"{quantity}_values"]), as_floats(results["test_loss_values"])
    errors = _errors(results, quantity, x)
    for i in np.argsort(models):
        look = styles[models[i]]
        if np.isfinite(x[i]):
            ax.errorbar(x[i], y[i], xerr=errors[:, i : i + 1], **look, ms=5, ls="none", lw=0.9, capsize=2)
        else:
            ax.plot(
                0.02,
                y[i],
                marker="<",
                color=look["color"],
                mfc="none",
                ms=5,
                ls="none",
                transform=ax.get_yaxis_transform(),
            )
    ticks.loss_axis(ax, y)
    unit = ticks.nats_axis(ax.xaxis, x)
    in_order = [
        Line2D([], [], **styles[level], ms=5, ls="none", label=f"{level:,}") for level in sorted(models)
    ]
    nothing = "" if np.isfinite(x).all() else "; ◁ no volume"
    style.legend(
        ax, f"{landscape_words(results, quantity)}\nminimum: {data_words(results)}{nothing}", in_order
    )
    return style.finish(
        ax, style.volume_label(quantity, unit), f"test loss ({style.literal(results['loss_unit'])})"
    )


def rank_agreement(
    results: Results, ax: Axes | None = None, *, levels: Sequence[float] | None = None
) -> Axes:
    """Rank of each minimum by data, by log E[r^n] and by test loss: level lines where all three agree.

    Rank 1 is the minimum with the most data (or the largest batch size …), the least log E[r^n], the lowest
    test loss: more data mean a smaller volume in a fixed landscape and a lower test loss. Equal values
    share their mean rank. A minimum without a volume has no rank by it, and is left out of all three.
    """
    ax = style.new_axes(ax, height=0.8)
    everything = minima_of(results)
    styles = style.level_styles([*(levels or []), *everything])
    alive = np.flatnonzero(np.isfinite(as_floats(results["log_exp_r_n_values"])))
    models = [everything[i] for i in alive]
    key = results.get("key", ADDITIONAL)
    words = "data" if key == ADDITIONAL else key.replace("_", " ")
    columns = {
        f"{'largest' if key == 'batch_size' else 'most'} {words}": rankdata(-np.asarray(models, dtype=float)),
        "least volume": rankdata(as_floats(results["log_exp_r_n_values"])[alive]),
        "lowest test loss": rankdata(as_floats(results["test_loss_values"])[alive]),
    }
    for i in np.argsort(models):
        ax.plot(
            range(3),
            [ranks[i] for ranks in columns.values()],
            **styles[models[i]],
            lw=1.2,
            ms=5,
            label=f"{models[i]:,}",
        )
    ax.set_xticks(range(3), list(columns))
    ax.set_yticks(range(1, len(models) + 1))
    ax.set_xlim(-0.25, 2.25)
    ax.set_ylim(max(len(models), 1) + 0.4, 0.6)
    dead = [f"{everything[i]:,}" for i in range(len(everything)) if i not in alive]
    without = f"\nwithout a volume, and a rank: {', '.join(dead)}" if dead else ""
    style.legend(ax, f"{landscape_words(results)}\nminimum: {data_words(results)}{without}")
    return style.finish(ax, "ranked by", "rank")


def rank_probabilities(results: Results, ax: Axes | None = None) -> Axes:
    """How often a random subset of k directions orders the minima (or finds the largest) as all do."""
    ax = style.new_axes(ax)
    k = np.asarray(results["subset_sizes"], dtype=float)
    for key, label, look in (
        (
            "radii_rank_probabilities",
            "finds the largest",
            {"color": style.PALETTE[0], "marker": "o", "mfc": "white", "ms": 6, "lw": 2.4},
        ),
        (
            "radii_rank_probabilities_full",
            "orders all minima",
            {"color": style.PALETTE[1], "marker": "s", "ms": 3, "lw": 1},
        ),
    ):
        if key in results:
            ax.plot(k, as_floats(results[key]), **look, label=label)
    ticks.data_axis(ax, k)
    ax.set_ylim(-0.03, 1.05)
    style.legend(ax, f"{landscape_words(results)}\na random subset of directions …")
    return style.finish(ax, "directions in the subset", "probability")


def landscape_words(results: Results, quantity: str = "log_exp_r_n") -> str:
    """The landscape and the threshold of one result, for a title."""
    kind = {"poison": "poisoned samples", "noise": "noise samples"}.get(
        results.get("dataset_type", "data"), "samples"
    )
    where = f"landscape: +{int(results['loss_landscape_data_param']):,} {kind}"
    threshold = threshold_words(results, quantity)
    return f"{where}\n{threshold}" if threshold else where


def threshold_words(results: Results, quantity: str = "log_exp_r_n") -> str:
    """The threshold that bounds the regions of ``quantity``: of the loss, or of the accuracy."""
    if not quantity.endswith("_acc"):
        return style.threshold_words(results["loss_threshold"]) if "loss_threshold" in results else ""
    threshold = results.get("acc_threshold")
    return "" if threshold is None else f"accuracy threshold {threshold:g}"


def data_words(results: Results) -> str:
    """The words for :func:`~volume_lib.analysis.minima_of`, for an axis."""
    return style.data_label(results.get("key", ADDITIONAL), results.get("dataset_type", "data"))


def as_floats(values: Sequence[float | None]) -> np.ndarray:
    """(M,) floats; ``None``, which strict JSON writes for the log of nothing, becomes −inf."""
    return np.array([-np.inf if v is None else float(v) for v in values])


def _errors(results: Results, quantity: str, values: np.ndarray) -> np.ndarray:
    """(2, M) distances to the ends of the bootstrap interval; 0 where there is none."""
    estimate = quantity if f"{quantity}_ci" in results else "log_exp_r_n"
    intervals = results.get(f"{estimate}_ci")
    if not intervals:
        return np.zeros((2, len(values)))
    centre = as_floats(results[f"{estimate}_values"])
    bounds = np.array([as_floats(pair) for pair in intervals]).T
    with np.errstate(invalid="ignore"):
        errors = np.abs(bounds - centre)
    return np.where(np.isfinite(errors), errors, 0.0)
