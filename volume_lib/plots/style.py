"""One look for every figure: size, colours, legends, saving; axes: :mod:`volume_lib.plots.ticks`.

The palette begins with Okabe and Ito's ("Color Universal Design", 2008); in place of its light colours, which
are lost on paper, it has others that keep apart with colour blindness. Every level has a marker of its own.
Sizes suit a printed column of 8 cm. Nothing here changes matplotlib's global settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, ScalarFormatter

from volume_lib.errors import InputError
from volume_lib.plots.ticks import signed
from volume_lib.records import plain_value
from volume_lib.storage import atomic_write

COLUMN = 8 / 2.54
"""Width of a figure, in inches: one printed column of 8 cm."""
FONT = 7.5
SMALL = 6.5
PANEL = 5.8
"""Words within small multiples, half a column wide."""
DISPLAY_DPI = 200
PRINT_DPI = 400

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6B5010", "#5A22E0", "#000000", "#3C97CF")
MARKERS = ("o", "s", "^", "D", ">", "*", "X", "h")
"""None looks like the open ▽ of no volume, or is lost in its error bars."""
GREY = "#6B6B6B"
LIGHT = "#939393"

DATA_AXIS = {
    ("additional", "data"): "additional training samples",
    ("additional", "poison"): "poisoned samples added",
    ("additional", "noise"): "noise samples added",
    ("batch_size", "data"): "batch size",
    ("epochs", "data"): "epochs of training",
    ("sam_rho", "data"): "SAM's radius ρ",
    ("target_train_loss", "data"): "training loss at which training ends",
    ("label_noise", "data"): "share of wrong labels",
    ("hidden_dims", "data"): "width of the hidden layers",
    ("unknown", "data"): "values of the minima (of what, the files do not say)",
}
"""What the horizontal axis of an experiment shows, by what varies and the kind of additional data."""

LOG_EXP_R_N = r"$\log\,\mathrm{E}[r^n]$"
VOLUME_WORDS = {
    "log_exp_r_n": LOG_EXP_R_N,
    "log_exp_r_n_acc": rf"{LOG_EXP_R_N} by accuracy",
    "log_volume": "log volume",
    "log_mass_rays": "log mass by rays",
    "log_mass": "log mass",
}
"""One word for each quantity, everywhere: log volume is that of parameter space, log mass the probability
under a reference, and nothing else."""
NO_VOLUME = "▽ no volume"


def literal(text: str) -> str:
    """A user's words (a unit, a name), drawn as they are written: a ``$`` begins no formula."""
    return text.replace("$", r"\$")


def plain_words(quantity: str) -> str:
    """The words for a quantity of :data:`VOLUME_WORDS` in running text, without formulas."""
    return VOLUME_WORDS[quantity].replace(LOG_EXP_R_N, "log E[rⁿ]")


def volume_label(quantity: str, unit: str) -> str:
    """Axis label of a quantity of :data:`VOLUME_WORDS` in ``unit``."""
    return f"{VOLUME_WORDS[quantity]} ({unit})"


def data_label(key: str = "additional", dataset_type: str = "data") -> str:
    """The words for what varies between the models: ``"additional training samples"``, ``"batch size"`` …"""
    return DATA_AXIS.get((key, dataset_type)) or DATA_AXIS.get((key, "data")) or key.replace("_", " ")


def threshold_words(threshold: float) -> str:
    """What the titles of figures say of the loss that bounds the regions."""
    return f"loss threshold {threshold:g}"


def level_styles(levels: Iterable[float]) -> dict[int | float, dict[str, Any]]:
    """Colour and marker of each level, ready for ``ax.plot(**style)``.

    Levels are counted from the largest: every landscape has the minima of the larger levels, so a
    figure that shows only those gives them the colours that they have in the figure of all levels.
    Where levels are missing at the upper end, pass all levels of the experiment.
    """
    ordered = sorted({plain_value(level) for level in levels}, reverse=True)
    if len(ordered) <= len(PALETTE):
        colours: Sequence[Any] = PALETTE
    else:
        colours = [to_hex(c) for c in mpl.colormaps["viridis"](np.linspace(0, 0.95, len(ordered)))]
    return {
        level: {"color": colours[i], "marker": MARKERS[i % len(MARKERS)]} for i, level in enumerate(ordered)
    }


def new_axes(ax: Axes | None, *, height: float = 0.75) -> Axes:
    """``ax`` itself, or the axes of a new figure one column wide; ``height`` in column widths."""
    if ax is None:
        _, ax = plt.subplots(figsize=(COLUMN, COLUMN * height), dpi=DISPLAY_DPI, layout="compressed")
    return ax


def new_panels(n: int, *, height: float = 0.6) -> list[Axes]:
    """``n`` axes in rows of two, in a new figure one column wide; a row is ``height`` column widths high."""
    rows = -(-n // 2)
    _, axes = plt.subplots(
        rows, min(n, 2), figsize=(COLUMN, COLUMN * height * rows), dpi=DISPLAY_DPI, layout="compressed",
        squeeze=False, sharex=True, sharey=True,
    )  # fmt: skip
    for spare in axes.flat[n:]:
        spare.remove()
    return list(axes.flat[:n])


def small_multiples(
    draw: Callable[[Any, Axes], Any], items: Sequence[Any], *, columns: int = 2, height: float = 0.72
) -> Figure:
    """One panel for each of ``items``: ``draw(item, ax)``, with what their legends share above them all.

    The first line of a panel's legend title (or its own title) becomes the panel's; further lines, which say
    how to read markers, are said once. The figure is one printed column wide for every two columns.
    """
    columns = min(columns, len(items))
    rows = -(-len(items) // columns)
    panel = COLUMN / 2
    size = (panel * max(columns, 2), panel * height * rows * (2 if columns == 1 else 1) + 0.35)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, dpi=DISPLAY_DPI, layout="constrained", squeeze=False
    )
    told: dict[str, Any] = {}
    notes: dict[str, None] = {}
    for i, (item, ax) in enumerate(zip(items, axes.flat, strict=False)):
        draw(item, ax)
        drawn = ax.get_legend()
        if drawn is not None:
            title, *more = drawn.get_title().get_text().split("\n")
            if title and not ax.get_title(loc="left"):
                ax.set_title(title, fontsize=PANEL, loc="left", x=-0.08)
            notes |= dict.fromkeys(more)
            labels = [text.get_text() for text in drawn.get_texts()]
            told |= dict(zip(labels, drawn.legend_handles, strict=True))
            drawn.remove()
        if i + columns < len(items):
            ax.set_xlabel("")
        if i % columns:
            ax.set_ylabel("")
        ax.tick_params(which="both", labelsize=PANEL)
        for label in (ax.xaxis.label, ax.yaxis.label):
            label.set_fontsize(SMALL)
    for spare in axes.flat[len(items) :]:
        spare.remove()
    if told or notes:
        figure.legend(
            list(told.values()), list(told), title="\n".join(notes) or None, title_fontsize=SMALL,
            fontsize=SMALL, loc="outside upper left", ncols=min(len(told), 2 * columns) or 1, frameon=False,
            handlelength=1.6, columnspacing=1.0, alignment="left",
        )  # fmt: skip
    return figure


def finish(ax: Axes, xlabel: str = "", ylabel: str = "", title: str = "") -> Axes:
    """Labels, ticks and frame in the one style, whichever settings the axes were made under."""
    ax.set_xlabel(xlabel, fontsize=FONT)
    ax.set_ylabel(ylabel, fontsize=FONT)
    if title:
        ax.set_title(title, fontsize=FONT, loc="left")
    for which, length in (("major", 3), ("minor", 1.5)):
        ax.tick_params(which=which, labelsize=SMALL, length=length, width=0.6, pad=2)
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_offset_text().set_fontsize(SMALL)
        if isinstance(axis.get_major_formatter(), ScalarFormatter):  # its offset would stand over the legend
            axis.set_major_formatter(FuncFormatter(lambda value, _: signed(f"{value:.6g}")))
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_linewidth(0.6)
    return ax


def legend(ax: Axes, title: str = "", handles: Sequence[Any] | None = None) -> None:
    """A legend above the axes, in as many columns as fit, so that it never covers data."""
    labels = [h.get_label() for h in handles] if handles is not None else ax.get_legend_handles_labels()[1]
    if not labels:
        return
    width_inches = ax.get_position().width * figure_of(ax).get_figwidth()
    characters = max(12.0, 17 * max(width_inches, 1.2))
    columns = int(np.clip(characters // (max(map(len, labels)) + 6), 1, len(labels)))
    rows = int(np.ceil(len(labels) / columns))
    ax.legend(
        **({"handles": list(handles)} if handles is not None else {}),
        title=title or None,
        title_fontsize=SMALL,
        fontsize=SMALL,
        ncols=int(np.ceil(len(labels) / rows)),
        loc="lower left",
        bbox_to_anchor=(0.0, 1.01),
        borderaxespad=0.0,
        frameon=False,
        handlelength=1.6,
        columnspacing=1.0,
        handletextpad=0.4,
        alignment="left",
    )


def no_volume(ax: Axes, x: float, colour: str) -> None:
    """Open triangle at the foot of the axes: the log of nothing has no height."""
    ax.plot(
        x, 0.03, marker="v", mfc="none", color=colour, ms=5, ls="none", transform=ax.get_xaxis_transform()
    )


def figure_of(drawn: Figure | Axes) -> Figure:
    """The figure itself, or the one that the axes lie in."""
    figure = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    if not isinstance(figure, Figure):
        raise InputError(f"{type(drawn).__name__}: neither a figure nor axes in one")
    return figure


def close(drawn: Figure | Axes) -> None:
    """Let go of a figure: nothing shows it once more."""
    plt.close(figure_of(drawn))


def save(figure: Figure | Axes, path: str | Path, dpi: int = PRINT_DPI) -> Path:
    """Write the figure (or the figure of an axes) to ``path``, atomically; the suffix says the format."""
    path = Path(path)
    figure = figure_of(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.lstrip(".").lower() or "png"
    # Times and versions stay out of the files: the same figure gives the same bytes.
    metadata: Mapping[str, Any] = {"pdf": {"CreationDate": None}, "png": {"Software": None}}.get(kind, {})
    with atomic_write(path) as temporary, mpl.rc_context({"pdf.fonttype": 42}):
        figure.savefig(temporary, dpi=dpi, format=kind, metadata=dict(metadata))
    return path


def keep(figure: Figure | Axes, stem: str | Path) -> None:
    """Write the figure for the screen, ``<stem>.png``, and for the paper, ``<stem>.pdf``."""
    for suffix in ("png", "pdf"):
        save(figure, f"{stem}.{suffix}")
