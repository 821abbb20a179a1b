"""Axes that can be read: on each at least two labelled ticks, whose labels stand apart.

Which ticks those are depends on what an axis shows and on how long it is drawn, so :class:`LogTicks` settles
it when a figure is drawn: small panels get fewer, an axis of less than a decade some between its powers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, Formatter, FuncFormatter, Locator, MaxNLocator, NullFormatter

MOST = 6
"""Ticks on a log axis, at most."""
_DIGIT, _BETWEEN = 0.058, 0.06  # inches: of a label of 6.5 points, and between two
_LINE = 0.14


class LogTicks(Locator):
    """The most ticks, up to :data:`MOST`, that fit along a log or symlog axis; never fewer than two.

    They are the first that fit of: whole numbers times powers of ten, even steps (within a decade), 1, 2 and
    5, 1 and 3, 1 alone times them, every other power, every third …
    """

    axis: Any

    def __call__(self) -> list[float]:
        return self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        low, high = sorted((float(vmin), float(vmax)))
        if self.axis.get_scale() == "log" and low <= 0:
            low = self.axis.get_minpos()
        spare: list[float] = []
        for ticks in self._choices(low, high):
            ticks = [tick for tick in ticks if low <= tick <= high]
            if len(ticks) < 2:
                continue
            if len(ticks) <= MOST and self._fit(ticks, low, high):
                return ticks
            spare = ticks
        return spare

    def _choices(self, low: float, high: float) -> Iterator[list[float]]:
        """Ticks from many to few, those outside the view among them."""
        both = low < 0 < high
        near, far = sorted((abs(low), abs(high)))
        if self.axis.get_scale() == "symlog":
            threshold = self.axis.get_transform().linthresh
            near = min(threshold if both else max(near, threshold), far / 10)
        powers = np.arange(np.floor(np.log10(near)), np.ceil(np.log10(far)) + 1)
        steps = [powers[::step] for step in range(1, len(powers))] or [powers]
        grids = [np.outer(10.0**powers, digits).ravel() for digits in (range(1, 10), (1, 2, 5), (1, 3))]
        grids += [10.0**some for some in steps]
        if not both and far < 10 * near:
            grids.insert(1, np.asarray(MaxNLocator(4).tick_values(low, high)))
        for grid in grids:
            sizes = np.unique(np.abs(grid))
            sizes = sizes[sizes >= near * (1 - 1e-9)]
            zero = [0.0] if low <= 0 <= high else []
            yield [*-sizes[::-1], *zero, *sizes]

    def _fit(self, ticks: list[float], low: float, high: float) -> bool:
        axes = self.axis.axes
        dpi = axes.get_figure(root=True).dpi
        along_x = self.axis is axes.xaxis
        length = (axes.bbox.width if along_x else axes.bbox.height) / dpi
        start, *places, end = self.axis.get_transform().transform(np.array([low, *ticks, high]))
        gaps = np.diff(places) / (end - start) * length
        if not along_x:
            return bool((gaps >= _LINE).all())
        widths = np.array([_DIGIT * _length(label) for label in LogLabels().format_ticks(ticks)])
        return bool((gaps >= (widths[1:] + widths[:-1]) / 2 + _BETWEEN).all())


class LogLabels(Formatter):
    """Plain numbers while they are short; else powers of ten, or multiples of them."""

    def __init__(self) -> None:
        self._ticks: list[float] = []

    def set_locs(self, locs: Any) -> None:
        self._ticks = [abs(value) for value in locs if value]

    def __call__(self, x: float, pos: int | None = None) -> str:
        if x == 0:
            return "0"
        sizes = np.array([*self._ticks, abs(x)])
        powers = np.log10(sizes)
        whole = bool(np.allclose(powers, powers.round(), atol=1e-6))
        if (sizes.max() < 1e4 or not whole) and sizes.min() >= 1e-3 and sizes.max() < 1e6:
            return signed(plain_label(x))
        power = int(np.floor(np.log10(abs(x)) + 1e-9))
        times = "" if whole else rf"{abs(x) / 10.0**power:.3g}\cdot"
        return f"${'-' if x < 0 else ''}{times}10^{{{power}}}$"


def _length(label: str) -> int:
    """How many characters of a label are drawn."""
    return len(re.sub(r"[${}^]", "", label.replace(r"\cdot", "·")))


def log_axis(axis: Axis, scale: str = "log", **how: Any) -> None:
    """Make ``axis`` one of a log (or symlog) scale, with ticks that can be read."""
    axes: Any = axis.axes
    (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)(scale, **how)
    label_log(axis)


def label_log(axis: Axis) -> None:
    """The ticks and labels of :func:`log_axis`, for an axis that has its scale."""
    axis.set_major_locator(LogTicks())
    axis.set_major_formatter(LogLabels())
    axis.set_minor_formatter(NullFormatter())


def wants_log(values: Any, ratio: float = 30.0) -> bool:
    """Whether the positive ``values`` span more than ``ratio``: a linear axis would hide the small ones."""
    v = np.asarray(values, dtype=float)
    v = v[np.isfinite(v) & (v > 0)]
    return v.size > 1 and v.max() / v.min() > ratio


def data_axis(ax: Axes, values: Any, *, log: bool = False) -> None:
    """Horizontal axis for amounts (samples, batch sizes): linear, log, or symlog when 0 is among them."""
    v = np.unique(np.asarray(values, dtype=float))
    v = v[np.isfinite(v)]
    if not (log or wants_log(v, ratio=10.0)):
        figure: Any = ax.get_figure(root=True)
        small = ax.get_position().width * figure.get_figwidth() < 1.6
        ticks = 3 if small and v.size and abs(v).max() >= 1e3 else 6  # long labels in a small panel
        ax.xaxis.set_major_locator(MaxNLocator(ticks, integer=bool((v == v.round()).all())))
        ax.xaxis.set_major_formatter(FuncFormatter(plain_label))
        return
    if v.min() > 0:
        log_axis(ax.xaxis)
        return
    smallest = v[v > 0].min()
    log_axis(ax.xaxis, "symlog", linthresh=smallest, linscale=0.4)
    ax.set_xlim(left=-0.25 * smallest)
    decades = 10.0 ** np.arange(np.floor(np.log10(smallest)), np.ceil(np.log10(v.max())) + 1)
    ax.xaxis.set_minor_locator(
        FixedLocator([m for m in np.outer(decades, range(1, 10)).flat if m >= smallest])
    )


def loss_axis(ax: Axes, values: Any, axis: str = "y") -> bool:
    """A log axis when the losses span it; whether it is one."""
    if not wants_log(values, ratio=8.0):
        return False
    log_axis(ax.yaxis if axis == "y" else ax.xaxis)
    return True


def radius_axis(ax: Axes, values: np.ndarray) -> bool:
    """A log axis when the radii span it; whether it is one."""
    if not (wants_log(values, ratio=20) and values.min() > 0):
        ax.xaxis.set_major_locator(MaxNLocator(6))
        return False
    log_axis(ax.xaxis)
    return True


def nats_axis(axis: Axis, values: Any) -> str:
    """Tick labels for log volumes, and their unit: nats, or 10³, 10⁶ … nats where plain numbers were long."""
    v = np.abs(np.asarray(values, dtype=float))
    v = v[np.isfinite(v)]
    largest = v.max() if v.size else 0.0
    power = 3 * int(np.log10(largest) // 3) if largest >= 1e5 else 0
    axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: signed(f"{value / 10**power:,.7g}")))
    return rf"$10^{power}$ nats" if power else "nats"


def signed(number: str) -> str:
    """A formatted number with a minus sign instead of a hyphen, as the other axes have."""
    return number.replace("-", "−")


def plain_label(value: float, _: int | None = None) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:g}"
