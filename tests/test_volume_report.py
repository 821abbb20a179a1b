import math

import numpy as np
import pytest

from volume_lib import storage, volume
from volume_lib.records import Sweep
from volume_lib.volume import words


def results(*, values, half=1.0, resolution=0.0, effective=400.0, censored=0, **extra):
    """A results dictionary with intervals of ±half; numbers stand for all minima or one each."""

    def each(entry):
        return list(entry) if isinstance(entry, list | tuple) else [entry] * len(values)

    halves = each(half)
    return {
        "log_exp_r_n_values": values,
        "log_exp_r_n_ci": [[v - h, v + h] for v, h in zip(values, halves, strict=True)],
        "log_exp_r_n_resolution": each(resolution),
        "effective_directions": each(effective),
        "num_censored": each(censored),
        "num_directions": 500,
        "model_data_levels": [0, 540, 1940][: len(values)],
        **extra,
    }


def test_intervals_apart_with_many_directions_are_beyond_doubt():
    text = words.describe_order(results(values=[30.0, 20.0, 10.0]))
    assert text == (
        "From the largest volume to the smallest: +0, +540, +1,940. "
        "Ordered beyond doubt: +0 above +540, +540 above +1,940."
    )


def test_intervals_that_meet_are_not_ordered():
    text = words.describe_order(results(values=[30.0, 10.0, 11.0]))
    assert "Ordered beyond doubt: +0 above +1,940." in text
    assert "Not ordered, their intervals meet: +1,940 and +540." in text


@pytest.mark.parametrize("resolution", [9.0, math.nan, math.inf, None])
def test_a_coarse_resolution_of_the_larger_leaves_the_order_open(resolution):
    apart = results(values=[30.0, 20.0], resolution=[resolution, 0.0])
    assert "Not ordered, their intervals meet: +0 and +540." in words.describe_order(apart)


def test_few_effective_directions_bound_the_larger_but_not_the_smaller():
    text = words.describe_order(results(values=[30.0, 20.0], effective=[400.0, 1.25]))
    assert "doubt: +0 above +540 (1.2 effective directions carry the mean of +540)." in text
    assert "Ordered beyond doubt" not in text
    text = words.describe_order(results(values=[30.0, 20.0], effective=[1.25, 400.0]))
    assert "Ordered beyond doubt: +0 above +540." in text


def test_directions_that_never_crossed_leave_the_smaller_open():
    text = words.describe_order(results(values=[30.0, 20.0], censored=[0, 3]))
    assert "but not beyond doubt: +0 above +540 (3 directions of +540 never crossed)." in text
    assert "Ordered beyond doubt" in words.describe_order(results(values=[30.0, 20.0], censored=[3, 0]))


def test_minima_without_volume_are_named():
    text = words.describe_order(results(values=[30.0, 20.0, -math.inf]))
    assert "Ordered beyond doubt: +0 above +540." in text
    assert text.endswith("No volume, above the threshold without any perturbation: +1,940.")


def test_the_order_in_one_line_says_how_sure_each_step_is():
    found = results(values=[30.0, 29.9, -math.inf])
    assert words.order_line(found) == "+0 ≈ +540"
    assert words.order_line(results(values=[20.0, 30.0])) == "+540 ≫ +0"
    assert words.order_line(results(values=[20.0, 30.0], effective=[1.0, 1.0])) == "+540 > +0"
    assert words.order_line(results(values=[-math.inf])) == "none has a volume"


def test_one_minimum_has_no_order():
    assert words.describe_order(results(values=[1.0])) == "One minimum, +0: nothing to order."


def test_other_experiments_name_what_varies():
    text = words.describe_order(
        results(values=[3.0, 30.0], key="batch_size", key_values=[10, 100], model_data_levels=[0, 0])
    )
    assert "batch_size 100 above batch_size 10" in text


def sweep_of(radii, level):
    rays = [
        {"coefficients": np.array([0, r]), "loss": np.array([0.0, 1.0]), "accs": np.ones(2),
         "perturbation_seed": i, "perturbation_norm": 1.0}
        for i, r in enumerate(radii)
    ]  # fmt: skip
    return Sweep(
        rays, 0, level, "data", 60, 0.5, 0.9, 0.1, 3, {}, "none", 0.0, "grid", [0.1], None, value=level
    )


def test_the_table_shows_what_estimate_volumes_found(tmp_path):
    found = volume.estimate_volumes([sweep_of([1.0, 2.0], 0), sweep_of([1.0, 1.0], 1940)], 0.1)
    shown = words.table(found)
    assert shown.header[0] == "minimum"
    assert [row[0] for row in shown.rows] == ["+0", "+1,940"]
    first = dict(zip(shown.header, shown.rows[0], strict=True))
    assert first["log E[r^n]"] == f"{math.log(4.5):,.2f}"
    assert first["effective directions"] == f"{81 / 65:.1f} of 2"
    assert first["resolution"] == "open"  # crossed at the first coefficient there is
    assert first["log volume"] == f"{math.log(4.5 * 4 / 3 * math.pi):,.2f}"
    assert str(shown).count("\n") == 3
    assert shown._repr_html_().count("<td>") == 2 * len(shown.header)
    storage.save_results(tmp_path / "results.json", found)
    assert str(words.table(storage.load_results(tmp_path / "results.json"))) == str(shown)


def test_no_volume_in_the_table():
    shown = words.table(results(values=[3.0, -math.inf], effective=[20.0, 0.0]))
    assert shown.rows[1][1:3] == ("no volume", "")
    assert "log volume" not in shown.header
