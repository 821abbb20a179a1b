"""First crossings: closed forms, dense scans, float64 bisection, awkward curves and the scan rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volume_lib.errors import InputError
from volume_lib.search.crossings import Crossing, Grid
from volume_lib.search.points import Points, Target, bracket
from volume_lib.search.prediction import History

XRTOL = 1e-6


class Curves:
    """Rays given by formulas: ``loss(row, c, landscape)``, no network behind them."""

    def __init__(self, loss, num_rows=1, sizes=(10,), acc=lambda row, c, k: np.ones_like(c)):
        self.loss, self.acc, self.sizes, self.num_rows, self.calls = loss, acc, sizes, num_rows, 0

    def has_precise(self, landscape):
        return False

    def __call__(self, rows, coefficients, landscape, stride=1, precise=False):
        self.calls += len(rows)
        columns = range(landscape + 1)
        values = [
            np.stack([np.asarray(f(rows, coefficients, k), dtype=float) for k in columns], 1)
            for f in (self.loss, self.acc)
        ]
        return values[0].reshape(len(rows), -1), values[1].reshape(len(rows), -1)


def solver(**more):
    """The search that solves all rays alike, to ``XRTOL``."""
    return Crossing(xrtol_rest=XRTOL, **more)


def first_crossings(rays, thresholds=(0.1,), search=None, history=None, acc=None):
    targets = [Target(t) for t in thresholds] + ([] if acc is None else [Target(acc, "acc")])
    points = (search or solver()).trace(rays, targets, history or History())
    rows = np.arange(rays.num_rows)
    return [[bracket(points[k], rows, target) for target in targets] for k in range(len(rays.sizes))], points


@given(
    st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=5),
    st.floats(1, 4),
    st.floats(1e-3, 10),
)
@settings(max_examples=60, deadline=None)
def test_power_curves_are_solved_to_the_tolerance(curvatures, power, threshold):
    """loss = a·c^p crosses T at (T/a)^(1/p), whatever the scale."""
    a = np.array(curvatures)
    rays = Curves(lambda rows, c, k: a[rows] * c**power, len(a))
    search = solver(max_coefficient=1e300)
    ((result,),), _ = first_crossings(rays, (threshold,), search)
    exact = (threshold / a) ** (1 / power)
    lo, hi = result
    assert (lo <= exact * (1 + 1e-12)).all() and (exact <= hi * (1 + 1e-12)).all()
    assert (hi / lo - 1 <= XRTOL * (1 + 1e-6)).all()


def test_what_earlier_rays_teach_saves_evaluations():
    generator = np.random.default_rng(0)
    history, counts = History(), []
    for size in (8, 64, 64):
        a = np.exp(0.2 * generator.standard_normal(size))
        rays = Curves(lambda rows, c, k, a=a: 1e-3 + a[rows] * c**3 * (1 + 0.1 * k), size, sizes=(10, 20))
        brackets, _ = first_crossings(rays, history=history)
        exact = ((0.1 - 1e-3) / a) ** (1 / 3)
        np.testing.assert_allclose(brackets[0][0][1], exact, rtol=XRTOL)
        counts.append(rays.calls / size)
    assert counts[2] < 0.7 * counts[0]


def test_the_first_of_several_crossings_is_found_if_it_lasts_a_rung():
    """Up over the threshold on [0.02, 0.03], back under it, up for good at 0.08."""

    def bump(rows, c, k):
        return np.where((c > 0.02) & (c < 0.03), 0.2, 0.01) + np.where(c > 0.08, 1.0, 0.0)

    ((result,),), _ = first_crossings(Curves(bump))
    np.testing.assert_allclose(result[1], 0.02, rtol=XRTOL)


def test_a_bump_seen_on_a_subset_is_looked_at_with_all_samples():
    def bump(rows, c, k):
        return 0.01 + 0.2 * np.exp(-((np.log(c + 1e-300) - np.log(0.02)) ** 2) / 0.05) + 10 * c**2

    rays = Curves(bump, sizes=(20_000,))
    ((result,),), _ = first_crossings(rays)
    grid = np.geomspace(1e-3, 1, 2_000_001)
    np.testing.assert_allclose(result[1], grid[np.argmax(bump(None, grid, 0) > 0.1)], rtol=1e-5)


def test_nan_and_infinite_losses_count_as_above():
    for bad in (np.nan, np.inf):
        rays = Curves(lambda rows, c, k, bad=bad: np.where(c > 0.37, bad, 0.05))
        ((result,),), _ = first_crossings(rays)
        np.testing.assert_allclose(result[1], 0.37, rtol=XRTOL)


def test_zero_loss_below_a_cliff():
    ((result,),), _ = first_crossings(Curves(lambda rows, c, k: np.where(c > 0.0123, 5.0, 0.0)))
    np.testing.assert_allclose(result[1], 0.0123, rtol=XRTOL)


def test_a_model_above_the_threshold_has_radius_zero_and_costs_nothing():
    rays = Curves(lambda rows, c, k: 0.5 + c)
    ((result,),), _ = first_crossings(rays)
    assert result[0] == 0 and result[1] == 0 and rays.calls < 20


def test_a_ray_that_never_crosses_is_censored_at_the_largest_coefficient():
    rays = Curves(lambda rows, c, k: np.where(rows == 0, 0.01, c), 2)
    ((result,),), points = first_crossings(rays, search=solver(max_coefficient=3.0))
    assert result[1][0] == np.inf and result[0][0] == 3.0
    np.testing.assert_allclose(result[1][1], 0.1, rtol=XRTOL)
    assert points[0].ray(0)[0][-1] == 3.0


def test_accuracy_thresholds_are_bisected():
    rays = Curves(lambda rows, c, k: c, acc=lambda rows, c, k: 1 - np.floor(c * 50) / 50)
    ((_, result),), _ = first_crossings(rays, acc=0.9)
    np.testing.assert_allclose(result[1], 0.12, rtol=XRTOL)  # 1 - 6/50 is the first value below 0.9


def test_higher_thresholds_and_nested_easier_landscapes_have_larger_radii():
    rays = Curves(lambda rows, c, k: (1 + k) * (np.exp(c) - 1), sizes=(10, 20, 30))
    brackets, _ = first_crossings(rays, thresholds=(0.02, 0.1, 0.5))
    radii = np.array([[hi[0] for _, hi in row] for row in brackets])
    assert (np.diff(radii, axis=1) > 0).all() and (np.diff(radii, axis=0) < 0).all()
    exact = np.log1p(np.array([0.02, 0.1, 0.5]) / np.array([[1], [2], [3]]))
    np.testing.assert_allclose(radii, exact, rtol=XRTOL)


def test_the_grid_rounds_the_crossing_up_to_its_next_coefficient():
    generator = np.random.default_rng(3)
    a, p = np.exp(generator.normal(0, 2, 40)), generator.uniform(0.7, 4, 40)
    grid = np.array(Grid().coefficients)
    (((_, coarse),),), _ = first_crossings(Curves(lambda r, c, k: a[r] * c ** p[r], 40), search=Grid())
    (((_, fine),),), _ = first_crossings(Curves(lambda r, c, k: a[r] * c ** p[r], 40))
    expected = np.array([grid[grid >= c][0] if c <= 1 else np.inf for c in fine])
    np.testing.assert_array_equal(coarse, expected)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_the_scan_rule_reads_the_radius_that_the_search_found(seed):
    """Monotone curves with steps and flat stretches: the points in order give the bracket's ends."""
    generator = np.random.default_rng(seed)
    knots = np.sort(generator.uniform(-6, 1, 12))
    values = np.cumsum(generator.exponential(0.8, 12) * generator.integers(0, 2, 12)) - 5

    def loss(rows, c, k):
        with np.errstate(divide="ignore"):
            return np.exp(np.interp(np.log(c), knots, values, left=-9, right=values[-1] + 3)) * (1 + 0.2 * k)

    thresholds = (0.02, 0.05, 0.1)
    brackets, points = first_crossings(Curves(loss, sizes=(5, 9)), thresholds)
    for k in range(2):
        c, losses, _ = points[k].ray(0)
        assert c[0] == 0 and (np.diff(c) > 0).all()
        for (lo, hi), threshold in zip(brackets[k], thresholds, strict=True):
            first = np.argmax(losses > threshold)
            assert c[first] == hi[0] and c[first - 1] == lo[0]
            assert hi[0] / lo[0] - 1 <= XRTOL * (1 + 1e-6)
            assert loss(0, hi[0], k) > threshold >= loss(0, lo[0], k)


def test_points_grow_and_sort():
    points = Points.start(2, 0.5, 1.0, capacity=2)
    for c in (0.3, 0.1, 0.2):
        points.add(np.array([1]), np.array([c]), np.array([c]), np.array([1.0]))
    np.testing.assert_array_equal(points.ray(1)[0], [0, 0.1, 0.2, 0.3])
    np.testing.assert_array_equal(points.ray(0)[0], [0])


@pytest.mark.parametrize("ratio", [1.1, 1.5])
def test_the_ladders_ratio_changes_nothing_on_monotone_rays(ratio):
    (((_, hi),),), _ = first_crossings(Curves(lambda rows, c, k: c**2, 3), search=solver(scan_ratio=ratio))
    np.testing.assert_allclose(hi, np.sqrt(0.1), rtol=XRTOL)


@pytest.mark.parametrize("xrtol_rest", [1e-2, 1e-3, 1e-5])
def test_all_rays_are_solved_to_one_precision_and_some_refined_to_the_other(xrtol_rest):
    """Roots known in closed form lie in every bracket; wanted brackets become narrow."""
    generator = np.random.default_rng(1)
    a, p = np.exp(0.3 * generator.standard_normal(50)), generator.uniform(1, 3, 50)
    rays = Curves(lambda r, c, k: a[r] * c ** p[r] * (1 + k), 50, sizes=(10, 20))
    search, history, thresholds = Crossing(xrtol_rest=xrtol_rest), History(), (0.1, 0.02)
    targets = [Target(t) for t in thresholds]
    points = search.trace(rays, targets, history)
    exact = [[(t / a / (1 + k)) ** (1 / p) for t in thresholds] for k in range(2)]
    wanted = np.zeros((2, 2, 50), dtype=bool)
    wanted[1, 0, :7] = wanted[0, 1, 3] = True
    for refined in (np.zeros_like(wanted), wanted):
        if refined.any():
            before, spent = rays.calls, [own.filled.copy() for own in points]
            search.refine(rays, points, targets, history, wanted)
            assert (points[1].filled[7:] == spent[1][7:]).all()  # nothing was done on the others
            assert rays.calls - before <= 4 * wanted.sum()
        for k, (own, roots) in enumerate(zip(points, exact, strict=True)):
            for t, target in enumerate(targets):
                lo, hi = bracket(own, np.arange(50), target)
                assert (lo <= roots[t] * (1 + 1e-12)).all() and (roots[t] <= hi * (1 + 1e-12)).all()
                widest = np.where(refined[k, t], XRTOL, xrtol_rest)
                assert (hi / lo - 1 <= widest * (1 + 1e-6)).all()


def test_a_lower_precision_takes_fewer_evaluations():
    generator = np.random.default_rng(2)
    a = np.exp(0.2 * generator.standard_normal(64))
    counts = []
    for search in (solver(), Crossing()):
        rays = Curves(lambda r, c, k: a[r] * c**3 * (1 + 0.1 * k), 64, sizes=(10, 20))
        search.trace(rays, [Target(0.1)], History())
        counts.append(rays.calls)
    assert counts[1] < counts[0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"xrtol": 0}, "xrtol must"),
        ({"xrtol_rest": 1e-9}, "xrtol_rest must"),
        ({"xrtol_rest": 0.5}, "xrtol_rest must"),
        ({"xrtol_rest": float("nan")}, "xrtol_rest must"),
    ],
)
def test_impossible_precisions_are_refused(given, says):
    with pytest.raises(InputError, match=says):
        Crossing(**given)
