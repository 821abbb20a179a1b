"""Log axes: at least two labelled ticks on each, apart from each other, whatever it spans."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from volume_lib.plots import style, ticks

SPANS = [(1.2, 1.9), (20_000, 60_000), (60, 600), (0.02, 0.05), (0.0031, 0.0094), (7, 70), (60, 60_000)]
SPANS += [(1e-9, 3.0), (2.1e-5, 6e-5), (100, 6000), (1, 500), (5.2, 5.8), (1e3, 1e7)]


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def labels_in_view(axis):
    """The drawn labels of an axis, as (words, extent in pixels), within its view."""
    axis.figure.canvas.draw()
    low, high = sorted(axis.get_view_interval())
    along_x = axis is axis.axes.xaxis
    found = []
    for tick in axis.get_major_ticks():
        box = tick.label1.get_window_extent()
        if low <= tick.get_loc() <= high and tick.label1.get_text():
            found.append((tick.label1.get_text(), (box.x0, box.x1) if along_x else (box.y0, box.y1)))
    return sorted(found, key=lambda label: label[1])


def check(axis, enough=2):
    labels = labels_in_view(axis)
    assert enough <= len(labels) <= ticks.MOST, labels
    assert len({words for words, _ in labels}) == len(labels)
    for (_, (_, end)), (_, (start, _)) in pairwise(labels):
        assert end < start, labels
    minor = [tick.label1.get_text() for tick in axis.get_minor_ticks()]
    assert not any(minor)


@pytest.mark.parametrize("panels", [1, 2, 4])
@pytest.mark.parametrize("span", SPANS, ids=lambda span: f"{span[0]:g}-{span[1]:g}")
def test_every_log_axis_has_two_labels_or_more_that_do_not_touch(span, panels):
    figure = style.small_multiples(lambda _, ax: draw(ax, span), range(panels))
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            assert axis.get_scale() == "log"
            check(axis)


def draw(ax, span):
    values = np.geomspace(*span, 5)
    ax.plot(values, values)
    ticks.data_axis(ax, values, log=True)
    ticks.log_axis(ax.yaxis)
    style.finish(ax, "samples", "loss")


@pytest.mark.parametrize("panels", [1, 4])
@pytest.mark.parametrize("most", [300, 600, 19_950, 59_940])
def test_amounts_from_zero_keep_their_zero(most, panels):
    def levels(_, ax):
        values = [0, most / 100, most / 10, most]
        ax.plot(values, values)
        ticks.data_axis(ax, values)
        style.finish(ax)

    for ax in style.small_multiples(levels, range(panels)).axes:
        assert ax.get_xscale() == "symlog"
        check(ax.xaxis)
        assert labels_in_view(ax.xaxis)[0][0] == "0"


@pytest.mark.parametrize("values", [(-6000, -2000), (-1.4e6, -3e3), (-900, -150)])
def test_log_masses_have_ticks_below_zero(values):
    ax = style.new_axes(None)
    ax.plot([0, 1], values)
    ticks.log_axis(ax.yaxis, "symlog", linthresh=100)
    style.finish(ax)
    check(ax.yaxis)


def test_labels_are_plain_while_short_and_powers_or_their_multiples_else():
    labels = ticks.LogLabels()
    assert labels.format_ticks([20_000, 50_000]) == ["20,000", "50,000"]
    assert labels.format_ticks([0, 100, 10_000]) == ["0", "$10^{2}$", "$10^{4}$"]
    assert labels.format_ticks([0.02, 0.05]) == ["0.02", "0.05"]
    assert labels.format_ticks([1e-5, 1e-4]) == ["$10^{-5}$", "$10^{-4}$"]
    assert labels.format_ticks([2e-5, 5e-5]) == [r"$2\cdot10^{-5}$", r"$5\cdot10^{-5}$"]
    assert labels.format_ticks([-100_000, -1000]) == ["$-10^{5}$", "$-10^{3}$"]
    assert labels.format_ticks([-2000, -1000]) == ["−2,000", "−1,000"]


def test_log_axes_are_made_in_one_place():
    """Two scales keep ticks of their own: the factors of ``rewritten``, the errors of ``convergence``."""
    made = {
        path.name: text.count('set_xscale("') + text.count('set_yscale("')
        for path in Path(ticks.__file__).parent.glob("*.py")
        if "scale(" in (text := path.read_text(encoding="utf-8"))
    }
    assert {name: count for name, count in made.items() if count} == {"estimators.py": 2}
