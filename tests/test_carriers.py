"""Which rays are refined: the numbers that depend on them are those of all rays at full precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volume_lib.search.carriers import LARGEST, carriers, needs_all
from volume_lib.search.crossings import Crossing
from volume_lib.search.points import Target, bracket
from volume_lib.search.prediction import History
from volume_lib.volume import diagnostics

XRTOL, REST = 1e-6, 1e-3


def bracketed(exact, width, generator):
    """Ends around the crossings, at a random place inside: what a search of that precision may hand back."""
    upper = exact * (1 + width * generator.uniform(0, 1, len(exact)))
    return upper / (1 + width), upper


def numbers(radii, n):
    """What the estimate makes of radii, and how it draws its resamples."""
    powers = n * np.log(radii)
    low, high = diagnostics.bootstrap_interval(powers, 300, np.random.default_rng(0))
    mean = np.logaddexp.reduce(powers) - np.log(len(radii))
    return np.array([mean, low, high]), diagnostics.effective_directions(powers)


@st.composite
def spreads(draw):
    """Radii of many shapes: tied, in steps, as alike as a network's, or over decades."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.sampled_from([1, 2, 9, 10, 11, 30, 200, 1000]))
    spread = draw(st.sampled_from([0.0, 1e-7, 1e-4, 1e-3, 0.03, 0.3, 3.0]))
    logs = spread * generator.standard_normal(count)
    kind = draw(st.sampled_from(["normal", "steps", "tail"]))
    if kind == "steps":
        logs = np.round(logs / (spread or 1), 1) * spread
    if kind == "tail":
        logs = spread * generator.exponential(1.0, count)
    return np.exp(logs), generator


@given(spreads(), st.sampled_from([2, 5, 17, 18, 100, 4353, 235_146, 10**6]))
@settings(max_examples=150, deadline=None)
def test_nothing_that_is_left_out_matters(drawn, n):
    """The same numbers as with every ray at 1e-6, however the others lie within their brackets of 1e-3."""
    exact, generator = drawn
    fine_lower, fine = bracketed(exact, XRTOL, generator)
    lower, upper = bracketed(exact, REST, generator)
    chosen = carriers(lower, upper, n)
    while True:  # as a sweep does: what is refined can only leave fewer to refine
        mixed_lower, mixed = np.where(chosen, fine_lower, lower), np.where(chosen, fine, upper)
        again = chosen | carriers(mixed_lower, mixed, n)
        if (again == chosen).all():
            break
        chosen = again
    (ours, effective), (theirs, all_effective) = numbers(mixed, n), numbers(fine, n)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9 * np.abs(theirs).max() + 1e-9)
    assert effective == pytest.approx(all_effective, rel=1e-9)
    top = np.argsort(-fine, kind="stable")[:LARGEST]
    np.testing.assert_array_equal(np.argsort(-mixed, kind="stable")[:LARGEST], top)


class RadialRays:
    """Losses known in closed form: ray ``d`` meets ``level`` at ``radii[k, d]·level^(1/power)``."""

    sizes = (10, 20)

    def __init__(self, radii, power):
        self.radii, self.power, self.num_rows = radii, power, radii.shape[1]

    def load(self, directions):
        """All rays are loaded."""

    def has_precise(self, landscape):
        return False

    def __call__(self, rows, coefficients, landscape, stride=1, precise=False):
        losses = (coefficients / self.radii[: landscape + 1, rows]).T ** self.power
        return losses, np.ones_like(losses)


@given(spreads(), st.sampled_from([2, 18, 100, 4353, 10**6]), st.sampled_from([0.5, 2.0, 6.0]))
@settings(max_examples=25, deadline=None)
def test_a_search_gives_the_numbers_of_the_exact_radii(drawn, n, power):
    """Mean, interval and largest radii of every landscape and threshold to the precision of refined rays."""
    radii, generator = drawn
    radii = np.stack([radii, radii * np.exp(0.01 * generator.standard_normal(len(radii)))])[:, :200]
    rays, targets, history = RadialRays(radii, power), [Target(1.0), Target(0.3)], History()
    search = Crossing().suited(rays.num_rows, n)
    points = search.trace(rays, targets, history)
    everyone, norms = np.arange(rays.num_rows), np.ones(rays.num_rows)
    while True:
        ends = np.array([[bracket(own, everyone, target) for target in targets] for own in points])
        wanted = np.array([[search.unfinished(*pair, norms, n) for pair in own] for own in ends])
        if not wanted.any():
            break
        search.refine(rays, points, targets, history, wanted)
    for k, t in np.ndindex(2, 2):
        exact = np.minimum(radii[k] * targets[t].value ** (1 / power), search.max_coefficient)
        ours = np.minimum(ends[k, t, 1], search.max_coefficient)
        np.testing.assert_allclose(ours, exact, rtol=1.001 * REST)
        np.testing.assert_allclose(np.sort(ours)[-LARGEST:], np.sort(exact)[-LARGEST:], rtol=1.001 * XRTOL)
        (found, _), (true, _) = numbers(ours, n), numbers(exact, n)
        np.testing.assert_allclose(found, true, rtol=1e-12, atol=1.001 * n * XRTOL)


def test_few_are_chosen_of_many_alike_in_high_dimension():
    generator = np.random.default_rng(0)
    lower, upper = bracketed(np.exp(0.03 * generator.standard_normal(500)), REST, generator)
    assert LARGEST <= carriers(lower, upper, 235_146).sum() < 25
    assert LARGEST <= carriers(lower, upper, 4353).sum() < 50


def test_rays_that_never_crossed_count_where_they_ended_and_a_volume_of_zero_asks_for_nothing_less():
    ended = np.full(20, 1000.0)
    assert carriers(ended, ended, 1000).all()
    one = np.array([*np.linspace(1, 2, 30), 1000.0])  # alone above all
    assert carriers(one, one, 100_000).sum() == LARGEST
    zero = np.zeros(20)
    assert carriers(zero, zero, 1000).all()


@pytest.mark.parametrize(("directions", "n", "every"), [(10, 10**6, True), (11, 17, True), (11, 18, False)])
def test_where_all_would_be_chosen_it_is_known_beforehand(directions, n, every):
    assert needs_all(directions, n) == every
