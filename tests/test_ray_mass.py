"""The log mass by rays, against Gaussian probabilities that are known exactly, from directions to files."""

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import chi2, ncx2
from torch import nn

from volume_lib import Volume, measure, storage, volume
from volume_lib.errors import InputError
from volume_lib.integration import integrate_minima
from volume_lib.parameters import flatten, moved_names
from volume_lib.problems import get_problem
from volume_lib.problems.splits import make_dataset
from volume_lib.rays.directions import draw
from volume_lib.rays.moments import Moments
from volume_lib.rays.reference import fresh_models, make_reference
from volume_lib.rays.scaling import compute_scale
from volume_lib.sweep import completed, run_sweep
from volume_lib.sweep.older import with_moments
from volume_lib.training.runs import train_models
from volume_lib.volume import log_mass_rays, ray_mass


def along(directions, theta, scale, sigma):
    """What a reference of one width is along directions (D, n), in the arguments of ``log_mass_rays``."""
    n = len(theta)
    slopes, bends = Moments(theta, scale, [n])(directions)[:, :, 0].T
    norms = torch.linalg.vector_norm(directions.double(), dim=1).numpy()
    log_det = float(scale.double().log().sum()) - n * math.log(sigma)
    square = float(theta.double() @ theta.double()) / sigma**2
    return slopes / norms / sigma**2, bends / norms**2 / sigma**2, square, log_det, n


def fibonacci(count):
    """Points (count, 3) that cover the sphere evenly, each as heavy as any other."""
    i = torch.arange(count, dtype=torch.float64) + 0.5
    height, turn = 1 - 2 * i / count, math.pi * (1 + math.sqrt(5)) * i
    return torch.stack([(1 - height**2).sqrt() * turn.cos(), (1 - height**2).sqrt() * turn.sin(), height], 1)


@pytest.mark.parametrize("n", [2, 50, 5000])
@pytest.mark.parametrize("radius", [0.3, 1.0, 3.0])
def test_a_ball_about_the_centre_of_the_reference_needs_one_direction(n, radius):
    r = radius * math.sqrt(n)
    found = log_mass_rays(np.full(3, r), *along(torch.randn(3, n), torch.zeros(n), torch.ones(n), 2.0))
    exact = float(mpmath.log(mpmath.gammainc(n / 2, 0, r**2 / 8, regularized=True)))  # SciPy's underflows
    assert found.log_mass == pytest.approx(exact, abs=1e-6, rel=1e-9)
    assert found.effective_directions == pytest.approx(3)


@pytest.mark.parametrize("beside", [0.0, 0.7, -0.9])
def test_a_ball_by_dense_quadrature_over_all_directions(beside):
    """The minimum lies anywhere inside the ball, the ball anywhere in the reference."""
    theta, axis = torch.tensor([0.5, 0.2, -0.4]), torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    scale, sigma, radius = torch.tensor([0.6, 1.0, 1.7]), 0.8, 1.2
    directions = fibonacci(20_000)
    center = beside * axis / axis.norm()  # of the ball, seen from the minimum
    u = directions * scale.double()
    a, b, c = (u * u).sum(1), u @ center, center @ center - radius**2
    radii = ((b + (b * b - a * c).sqrt()) / a).numpy()
    found = log_mass_rays(radii, *along(directions, theta, scale, sigma))
    away = float((theta.double() + center).square().sum()) / sigma**2
    assert found.log_mass == pytest.approx(ncx2.logcdf(radius**2 / sigma**2, 3, away), abs=2e-5)


def test_an_ellipsoid_in_its_own_scaling_is_exact():
    axes = torch.linspace(0.5, 2.0, 12, dtype=torch.float64)
    directions = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
    slope, bend, square, log_det, n = along(directions, torch.zeros(12), axes, 1.0)
    ones = np.ones(4)  # the reference's widths are the axes: ‖S ĝ/σ‖ = 1
    found = log_mass_rays(3 * ones, slope, ones, square, log_det - float(axes.log().sum()), n)
    assert found.log_mass == pytest.approx(chi2.logcdf(9.0, 12), abs=1e-6) and (bend != 1).all()


def test_a_radius_of_zero_has_no_mass_and_lengths_must_agree():
    rays = along(torch.randn(2, 3), torch.ones(3), torch.ones(3), 1.0)
    assert log_mass_rays(np.zeros(2), *rays).log_mass == -math.inf
    with pytest.raises(InputError, match="radius"):
        log_mass_rays(np.ones(3), *rays)


# --- from the files of a sweep


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two small swiss-roll minima with its sweeps."""
    folder = tmp_path_factory.mktemp("run")
    problem = get_problem("swiss_roll")
    dataset = make_dataset(problem, base_data_size=30, dataset_quantities=[0, 30], data_seed=0)
    models = train_models(
        problem, dataset, folder=folder / "models_and_data", model_seed=0, epochs=600, batch_size=60,
        target_train_loss=0.02, model={"hidden_dims": [16, 16]},
    )  # fmt: skip
    run_sweep(problem, models, dataset, folder, num_directions=12, loss_thresholds=[0.1, 0.3])
    return problem, models, dataset, folder


def exact_mass(trained, problem, radii):
    """The same mean, one direction after the other, each integral by SciPy from the Gaussian's density."""
    model = trained.model
    names, theta = moved_names(model), flatten(model).double().numpy()
    n, scale = len(theta), compute_scale("filter", model).double().numpy()
    fresh = iter(range(1000))
    sigma = make_reference(
        model,
        names,
        build=lambda: problem.build_model(trained.model_kwargs, next(fresh), trained.model_class),
    ).sigma.numpy()
    logs = []
    for seed, r in zip(radii.seeds, radii.crossing, strict=True):
        g = draw(int(seed), n).double().numpy()
        u = scale * g / np.linalg.norm(g)

        def density(rho, u=u):  # in units of the largest: the log density plus that of the sphere
            x = (theta + rho * u) / sigma
            return (
                -0.5 * x @ x - np.log(sigma).sum() - n / 2 * math.log(2 * math.pi) + (n - 1) * math.log(rho)
            )

        grid = np.linspace(r / 2000, r, 2000)
        heights = np.array([density(rho) for rho in grid])
        top = heights.max()
        peak = grid[heights.argmax()]

        def share(rho, top=top, density=density):
            return math.exp(density(rho) - top)

        area, _ = quad(share, r / 1e6, r, points=[peak], limit=500, epsrel=1e-10)
        sphere = math.log(2) + n / 2 * math.log(math.pi) - math.lgamma(n / 2)
        logs.append(top + math.log(area) + sphere + np.log(scale).sum())
    return np.logaddexp.reduce(logs) - math.log(len(logs))


def test_every_file_of_a_sweep_has_its_log_mass(run):
    problem, models, _, folder = run
    sweeps = storage.load_sweeps(folder)
    for level, in_landscape in sweeps.items():
        results = volume.estimate_volumes(in_landscape, 0.3)
        minima = [trained for trained in models if trained.level >= level]
        for i, (sweep, trained) in enumerate(zip(in_landscape, minima, strict=True)):
            exact = exact_mass(trained, problem, volume.threshold_radii(sweep, 0.3))
            assert results["log_mass_rays_values"][i] == pytest.approx(exact, abs=1e-4)
            low, high = results["log_mass_rays_ci"][i]
            assert low <= results["log_mass_rays_values"][i] <= high + 1e-9
            assert 1 <= results["log_mass_rays_effective_directions"][i] <= 12
        path = storage.save_results(folder / "results.json", results)
        read = storage.load_results(path)
        assert read["log_mass_rays_values"] == results["log_mass_rays_values"]
        assert read["log_mass_reference"] == "init"


def older(sweep):
    """As it was before files held what a reference needs."""
    rays = [{k: v for k, v in ray.items() if k not in ("slopes", "bends")} for ray in sweep.wiggle_results]
    return replace(sweep, wiggle_results=rays, moved=[], init_widths=[])


def test_older_files_are_completed_from_their_seeds_and_read_as_before(run, tmp_path):
    problem, models, _, folder = run
    sweeps = storage.load_sweeps(folder)
    path = storage.save_sweep(tmp_path / "old.npz", older(sweeps[0][1]))
    old = storage.load_sweep(path)
    assert old.moved == [] and "slopes" not in old.wiggle_results[0]
    assert "log_mass_rays_values" not in volume.estimate_volumes([old], 0.3)
    radii = volume.threshold_radii(old, 0.3).crossing
    again = with_moments(problem, models[1], old)
    assert ray_mass(again, radii) == ray_mass(sweeps[0][1], radii)
    for level, some in completed({0: [older(s) for s in sweeps[0]]}, folder).items():
        found, wanted = (volume.estimate_volumes(s, 0.3) for s in (some, sweeps[level]))
        assert found["log_mass_rays_values"] == wanted["log_mass_rays_values"]
    assert completed({0: [old]}, tmp_path)[0] == [old]  # no models there
    other = replace(old, wiggle_results=[{**r, "perturbation_seed": 999} for r in old.wiggle_results])
    assert with_moments(problem, models[1], other) is other


def test_what_a_file_says_of_its_rays_is_checked(run, tmp_path):
    sweep = storage.load_sweeps(run[3])[0][0]
    for changes, told in (({"moved": ["nothing", *sweep.moved[1:]]}, "moved: nothing"),
                          ({"moved": sweep.moved[:-1]}, "ray_slopes"),
                          ({"init_widths": [1.0]}, "init_widths")):  # fmt: skip
        path = storage.save_sweep(tmp_path / "bad.npz", replace(sweep, **changes))
        with pytest.raises(InputError, match=told):
            storage.load_sweep(path)


def test_another_reference_from_the_same_file(run):
    sweep = storage.load_sweeps(run[3])[0][0]
    radii = volume.threshold_radii(sweep, 0.1).crossing
    theta = np.concatenate([sweep.state_dict[name].ravel() for name in sweep.moved]).astype(float)
    width = math.sqrt(np.mean(theta**2))
    assert ray_mass(sweep, radii, "rms").log_mass == pytest.approx(ray_mass(sweep, radii, width).log_mass)
    for bad in ("inti", -1.0, math.nan):
        with pytest.raises(InputError, match="reference"):
            ray_mass(sweep, radii, bad)


def test_measure_says_it_too():
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    x = torch.randn(50, 3)
    y = model(x).detach()
    found = measure(model, x, y, loss="mse", threshold=0.2, directions=400, progress=False)
    # its own region, by draws of its own initialisation's Gaussian: N(0, 1/(3·3)) for weights and bias
    sigma = make_reference(model, moved_names(model)).sigma
    assert np.allclose(sigma, 1 / 3, rtol=0.05)
    draws = torch.randn(400_000, 4, dtype=torch.float64) * sigma
    outputs = draws[:, :3] @ x.double().T + draws[:, 3:]
    share = float(((outputs - y.double().T).square().mean(1) <= 0.2).double().mean())
    low, high = found.log_mass_rays_interval
    assert low - 0.05 < math.log(share) < high + 0.05 and found.log_mass_rays_effective_directions > 20
    assert "log mass by rays" in str(found)


def test_measure_with_build_has_the_log_mass_of_the_workflow(tmp_path):
    """On the same weights, samples and directions; the record says what drew the widths, files keep it."""
    problem = get_problem("swiss_roll")
    dataset = make_dataset(problem, data_seed=3, dataset_quantities=[0])
    (trained,) = train_models(
        problem, dataset, folder=tmp_path / "run", model={"hidden_dims": [8]}, model_seed=1, epochs=50
    )
    (path,) = run_sweep(
        problem, [trained], dataset, tmp_path / "run", num_directions=5, perturbation_seed=7,
        loss_thresholds=[5.0], device="cpu",
    )  # fmt: skip
    sweep = storage.load_sweep(path)
    of_workflow = ray_mass(sweep, volume.threshold_radii(sweep, 5.0).crossing)
    given = {
        "loss": problem.per_sample_loss,
        "threshold": 5.0,
        "directions": 5,
        "seed": 7,
        "device": "cpu",
        "progress": False,
    }
    found = measure(trained.model, *dataset.upto(0), build=fresh_models(problem, trained), **given)
    assert found.log_mass_rays == pytest.approx(of_workflow.log_mass, abs=1e-3)
    assert found.log_mass_rays_widths == "build" and "under build" in str(found)
    assert Volume.load(found.save(tmp_path / "saved")).log_mass_rays_widths == "build"
    assert measure(trained.model, *dataset.upto(0), **given).log_mass_rays_widths == "reset_parameters"
    with pytest.raises(InputError, match="build: its model has no parameter"):
        measure(trained.model, *dataset.upto(0), build=lambda: nn.Linear(1, 1), **given)


def test_integrating_without_rays_is_kept_too(run, tmp_path):
    problem, models, dataset, _ = run
    (path,) = integrate_minima(
        problem, models[:1], dataset, tmp_path, loss_thresholds=[0.3], minutes=0.01, chains=2,
        region="connected",
    )  # fmt: skip
    masses = storage.load_masses(path)
    assert math.isnan(masses["log_mass_rays_values"][0]) and math.isfinite(masses["log_mass_values"][0])


def test_each_minimum_in_the_landscape_of_its_own_data_beside_all_in_the_smallest(run, tmp_path):
    problem, models, dataset, _ = run

    def measured(**asked):
        asked = {"loss_thresholds": [0.3], "minutes": 0.01, "chains": 2, "region": "connected"} | asked
        paths = integrate_minima(problem, models, dataset, tmp_path, **asked)
        return {path.parent.parent.name: path.read_bytes() for path in paths}, paths

    first, paths = measured(own_landscapes=[0, 30])
    shared, own = (storage.load_masses(path) for path in paths)
    assert (shared["key_values"], own["key_values"]) == ([0, 30], [30])
    alone, beside = shared["same_region"]
    assert alone == own["same_region"][0] == {} and beside["with"] == 0
    assert not beside["joined"] or beside["highest"] < 0.3
    with pytest.raises(InputError, match="own_landscapes: 7 is not one of"):
        measured(own_landscapes=[7])
    # in landscape 0 only its own is asked for now; what is there of the other is kept
    assert measured(landscape_levels=[30], own_landscapes=[0])[0] == first
