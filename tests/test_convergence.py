import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from volume_lib import plots
from volume_lib.batch.kernels import Execution
from volume_lib.batch.resources import Resources
from volume_lib.errors import InputError
from volume_lib.rays.scaling import SCALINGS
from volume_lib.validation.bodies import log_spectrum, quadratic_bowl, tilted_bowl
from volume_lib.validation.convergence import converge

NOTEBOOK = Path(__file__).resolve().parents[1] / "visualization" / "analytic_check.ipynb"


def test_the_plain_estimate_of_a_small_bowl_comes_to_its_volume():
    curve = converge(quadratic_bowl(log_spectrum(3, 1)), [10, 3000, 100], scaling="none")
    assert curve.directions.tolist() == [10, 100, 3000]
    assert (curve.low <= curve.estimate).all()
    assert (curve.estimate <= curve.high).all()
    assert curve.low[-1] <= curve.exact <= curve.high[-1]
    assert np.all(np.diff(curve.high - curve.low) < 0)
    assert abs(curve.estimate[-1] - curve.exact) < 0.1


def test_fewer_directions_are_the_first_ones():
    bowl = quadratic_bowl(log_spectrum(5, 2))
    few, many = (converge(bowl, counts, scaling="none") for counts in ([20], [20, 50]))
    assert few.estimate[0] == many.estimate[0]


def test_curvature_repairs_a_bowl_along_the_axes_and_not_a_tilted_one():
    spectrum = log_spectrum(40, 4)
    error = {}
    for name, bowl in (("straight", quadratic_bowl(spectrum)), ("tilted", tilted_bowl(spectrum))):
        for scaling in ("none", "curvature"):
            curve = converge(bowl, [200], scaling=scaling)
            error[name, scaling] = curve.estimate[0] - curve.exact
    assert abs(error["straight", "curvature"]) < 1e-3
    assert error["straight", "none"] < -10
    assert error["tilted", "curvature"] < -10


def test_draws_are_limited_but_never_to_nothing():
    bowl = quadratic_bowl(np.ones(1000))
    assert converge(bowl, [2, 4, 8], scaling="none", largest_draw=5000).directions.tolist() == [2, 4]
    assert converge(bowl, [2, 4, 8], scaling="none", largest_draw=10).directions.tolist() == [2]
    with pytest.raises(InputError, match="directions must be whole numbers from 1"):
        converge(bowl, [0, 5], scaling="none")


def test_the_figure_shows_the_error_of_every_scaling():
    bowl = quadratic_bowl(log_spectrum(3, 1))
    curves = [converge(bowl, [5, 50], scaling=scaling) for scaling in ("none", "curvature")]
    ax = plots.convergence(curves)
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    for curve in curves:
        np.testing.assert_allclose(lines[curve.scaling], curve.estimate - curve.exact)
    low, high = ax.get_ylim()
    assert low < -1 < 1 < high
    figure = plots.convergence_grid({("1 decade", "n = 3"): curves, ("1 decade", "n = 4"): curves})
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["n = 3", "n = 4"]
    plt.close("all")


def test_the_notebook_runs_and_leaves_its_figures(tmp_path):
    notebook = tmp_path / "analytic_check.ipynb"
    notebook.write_bytes(NOTEBOOK.read_bytes())
    parameters = {
        "dimensions": [2, 50], "decades": [0, 3], "tilted_dimensions": [2], "tilted_decades": [1],
        "directions": [3, 20], "output": str(tmp_path / "figures"),
    }  # fmt: skip
    Execution(notebook, parameters, Resources(threads=1).environment()).run()
    assert (tmp_path / "figures" / "straight_bowls.png").stat().st_size > 10_000
    assert (tmp_path / "figures" / "tilted_bowls.png").stat().st_size > 10_000
    cells = json.loads(notebook.read_text())["cells"]
    outputs = [out.get("data", {}) for cell in cells for out in cell.get("outputs", [])]
    tables = ["".join(data["text/html"]) for data in outputs if "text/html" in data]
    bowls = [table for table in tables if "curvature" in table]
    assert "".join(bowls).count(">error<") == 2  # a table of straight bowls, one of tilted ones
    for scaling in SCALINGS:
        assert sum(table.count(f"<td>{scaling}</td>") for table in bowls) == 5  # five bowls in three scalings
