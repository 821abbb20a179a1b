"""Figures of log masses show the path that was walked: by its pull, or by its ceiling."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from volume_lib.plots import masses


def row(k: float, ceiling: float, integrand: float) -> dict[str, float]:
    return {"k": k, "ceiling": ceiling, "integrand": integrand, "integrand_back": integrand - 1}


OUTWARD = {"path": [row(100.0, 0.05, 30.0), row(3.0, 0.05, 20.0), row(0.0, 0.05, 5.0)]}
"""From the minimum out: the pull falls to 0 under one ceiling."""
INWARD = {"path": [row(0.0, 2.0, 3.0), row(0.0, 0.5, 8.0), row(0.0, 0.1, 12.0)]}
ABOVE: dict[str, list[dict[str, float]]] = {}
"""A minimum above the threshold has no record."""


def drawn(*records):
    found = {"key_values": list(range(len(records))), "records": list(records), "key": "additional_data"}
    place = {"loss_landscape_data_param": 0, "loss_threshold": 0.1}
    ax = masses.integrands(found | place | {"dataset_type": "data"})
    plt.close("all")
    return ax, [line for line in ax.lines if len(line.get_xdata())]


@pytest.mark.parametrize(
    "record, places, words",
    [(OUTWARD, [100.0, 3.0], "pull towards"), (INWARD, [2.0, 0.5, 0.1], "ceiling of the loss")],
)
def test_the_integrand_stands_over_what_is_integrated(record, places, words):
    ax, lines = drawn(record, ABOVE)
    heights = [row["integrand"] for row in record["path"]][: len(places)]
    for line, shift in zip(lines, (0, 1), strict=True):  # both passes
        np.testing.assert_array_equal(line.get_xdata(), places)
        np.testing.assert_array_equal(line.get_ydata(), np.array(heights) - shift)
    assert ax.get_xlabel().startswith(words) and " or " not in ax.get_xlabel()


def test_paths_of_both_kinds_in_one_figure_are_both_drawn_and_named():
    ax, lines = drawn(INWARD, OUTWARD)
    assert [len(line.get_xdata()) for line in lines] == [3, 3, 2, 2]
    assert ax.get_xlabel() == "pull towards the minimum k or ceiling of the loss ℓ"
