"""Colours of figures: contrast with the white of the paper, and apart for colour-blind readers.

Contrast is that of WCAG 2.1 (relative luminance, https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio). Colour
blindness is simulated as in Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of
Color Vision Deficiency" (IEEE TVCG 15, 2009), with their matrices of severity 1 on linear RGB; distances are
CIE 1976 ΔE in Lab, where 2.3 is just noticeable.
"""

from __future__ import annotations

import itertools

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb

from volume_lib import plots
from volume_lib.plots import style
from volume_lib.problems import get_problem
from volume_lib.slices import Plane

SIGHT = {
    "full": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = RGB_TO_XYZ @ np.ones(3)


def linear(colour: str) -> np.ndarray:
    values = np.array(to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    dark, bright = sorted(linear(colour) @ np.array([0.2126, 0.7152, 0.0722]) for colour in (a, b))
    return (bright + 0.05) / (dark + 0.05)


def contrast_with_white(colour: str) -> float:
    return contrast(colour, "white")


def lab(rgb: np.ndarray) -> np.ndarray:
    t = RGB_TO_XYZ @ rgb / WHITE
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(a: str, b: str, sight: str) -> float:
    seen = [lab(np.clip(SIGHT[sight] @ linear(colour), 0, 1)) for colour in (a, b)]
    return float(np.linalg.norm(seen[0] - seen[1]))


def test_the_formulas_on_what_is_known():
    assert contrast_with_white("#000000") == pytest.approx(21)
    assert contrast_with_white("#767676") == pytest.approx(4.54, abs=0.01)  # the lightest grey for text
    assert lab(np.ones(3)) == pytest.approx([100, 0, 0], abs=1e-6)
    assert distance("#000000", "#FFFFFF", "deuteranopia") == pytest.approx(100, abs=0.01)


@pytest.mark.parametrize("colour", [*style.PALETTE, style.GREY, style.LIGHT])
def test_lines_and_markers_stand_out_from_the_paper(colour):
    assert contrast_with_white(colour) >= 3


def test_text_stands_out_from_the_paper():
    assert contrast_with_white("black") >= 4.5 and contrast_with_white(style.GREY) >= 4.5


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_stay_apart(sight):
    for a, b in itertools.combinations(style.PALETTE, 2):
        assert distance(a, b, sight) >= 10, (a, b)
    for a, b in itertools.pairwise(style.PALETTE):
        assert distance(a, b, sight) >= 15, (a, b)


def test_outlines_on_a_slice_are_seen_wherever_they_lie():
    """White in black: one of the two stands out from every colour of the slice; markers have both, too."""
    ground = [to_hex(colour) for colour in mpl.colormaps["viridis"](np.linspace(0, 1, 50))]
    for colour in ground:
        assert max(contrast(colour, "white"), contrast(colour, "black")) >= 3
    a = np.linspace(-1, 1, 21)
    losses = a[None] ** 2 + a[:, None] ** 2 + 0.01
    plane = Plane(torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), np.zeros((1, 2)), "a")
    ax = plots.loss_slice(losses, a, a, plane, minima=[0], threshold=0.5)
    black, white = ax.collections[-2:]
    assert [to_hex(line.get_edgecolor()[0]) for line in (black, white)] == ["#000000", "#ffffff"]
    assert black.get_linewidth()[0] >= white.get_linewidth()[0] + 0.8
    (mark,) = ax.lines
    assert to_hex(mark.get_markeredgecolor()) == "#ffffff" and mark.get_path_effects()


def test_samples_stand_out_from_the_ground_of_their_own_class():
    """Whatever the ground: the black edge does."""
    problem = get_problem("swiss_roll")
    x, y = problem.load().x_train[:100], problem.load().y_train[:100]
    ax = plots.decision_boundary(problem, problem.build_model({}, 0, None), x, y, resolution=20)
    points = [drawn for drawn in ax.collections if len(drawn.get_offsets()) > 1]
    assert len(points) == 2
    assert all(to_hex(drawn.get_edgecolor()[0]) == "#000000" for drawn in points)
    for colour in style.PALETTE:
        tint = np.array(to_rgb(colour)) * 0.45 + 0.55
        if colour != "#000000":
            assert contrast(to_hex(tint), "black") >= 3
