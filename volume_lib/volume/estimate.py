"""From losses along rays to log volumes.

With a direction ``g ~ N(0, I_n)`` and a diagonal scaling ``S``, a minimum ``θ`` is left along the ray
``θ + c·S·g``; its threshold radius is ``r = c*·‖g‖`` with ``c*`` the first coefficient at which the loss
exceeds the threshold. The directions ``g/‖g‖`` are uniform on the sphere, so that, with ``V_n`` the volume
of the unit ball,

    log_exp_r_n = log E[r^n]
    log_volume  = log_exp_r_n + log V_n + log det S          (nats, parameter space)

is the log volume of the region that is reached from ``θ`` along straight lines without crossing the
threshold (the connected sublevel set itself wherever that is star-shaped about ``θ``, convex ones above
all). ``log_volume`` estimates the same number for every ``S``; only its variance changes.

Example: a disc of radius 2 has area 4π, whichever directions are drawn.

>>> import numpy as np
>>> value = log_volume(log_mean_power(np.array([2.0, 2.0, 2.0]), n=2), n=2, log_det_scaling=0.0)
>>> bool(np.isclose(value, np.log(4 * np.pi)))
True
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from volume_lib.errors import InputError
from volume_lib.records import ADDITIONAL, Sweep, plain_value
from volume_lib.section import takes
from volume_lib.storage.weights import weights_digest
from volume_lib.thresholds import check_thresholds
from volume_lib.volume import diagnostics
from volume_lib.volume.diagnostics import log_mean
from volume_lib.volume.mass import RayMass, ray_mass
from volume_lib.volume.radii import Radii, threshold_radii
from volume_lib.volume.section import VolumeSettings


def log_mean_power(radii: np.ndarray, n: int) -> float:
    """``log mean(r^n)`` over the directions, in nats; ``-inf`` if every radius is 0.

    ``radii`` (D,) ≥ 0. Computed in logarithms: exact to float rounding where ``r^n`` itself overflows.
    """
    log_powers = _log_powers(radii, n)
    return log_mean(log_powers)


def log_ball_volume(n: int) -> float:
    """Log volume of the unit ball in ``n`` dimensions, in nats."""
    return 0.5 * n * math.log(math.pi) - math.lgamma(0.5 * n + 1)


def log_volume(log_exp_r_n: float, n: int, log_det_scaling: float) -> float:
    """True log volume in parameter space, in nats, from ``log E[r^n]``.

    ``log_det_scaling`` is the sum of the logarithms of the scaling's diagonal (0 for ``none``).
    """
    return log_exp_r_n + log_ball_volume(n) + log_det_scaling


@takes(VolumeSettings)
def estimate_volumes(
    sweeps: Sequence[Sweep],
    loss_threshold: float,
    *,
    seed: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """Estimate the volumes of all minima in one landscape: the contents of ``results.json``.

    ``sweeps`` (M,): one per minimum, all of the same landscape. Lists in the result have one entry per
    minimum, in increasing order of what varies between them (``key_values``; for most experiments the
    same as ``model_data_levels``). Log volumes are in nats, ``-inf`` for a volume of zero; radii are norms
    of the unscaled perturbation.

    Settings are those of :class:`~volume_lib.volume.section.VolumeSettings`. ``top_k`` (10): how many of the
    largest radii to keep with their seeds (None: all). ``bootstrap`` (1000): resamples behind
    ``log_exp_r_n_ci``. ``subset_sizes``: numbers of directions at which to ask how reliable the order is
    (default: 1, 2, 5, 10 … up to all). ``seed``: of the resampling; the same seed gives the same result.

    Ranks follow :func:`scipy.stats.rankdata` (ties share their average rank) with 1 = largest.
    ``loss_predicts_minimas`` (the whole order), ``largest_volume_has_least_data`` (the largest alone),
    ``loss_ordering_violations`` and the diagnostics are defined in :mod:`volume_lib.volume.diagnostics`.
    With ``acc_threshold``, the same numbers for the first coefficient whose accuracy falls below it.

    ``log_volume_values`` is left out where the files do not say the scaling's determinant, and
    ``log_mass_rays_values`` (:mod:`volume_lib.volume.mass`; with interval and effective directions) where
    they do not say how wide the network's tensors are at initialisation. Older files do not, which
    :mod:`volume_lib.sweep.older` finds again.

    Raises :class:`InputError` if there is nothing to compare, if the sweeps do not belong together or if
    a threshold is impossible. Warns about a minimum that is above the threshold to begin with (its
    volume is zero).
    """
    asked = VolumeSettings.checked(**settings)
    check_thresholds(loss_threshold, None)
    sweeps = sorted(sweeps, key=lambda sweep: sweep.value)
    _check_sweeps(sweeps)
    first = sweeps[0]
    n, num_directions = first.num_params, len(first.wiggle_results)
    sizes = diagnostics.subset_sizes(num_directions, asked.subset_sizes)

    radii = [threshold_radii(sweep, loss_threshold) for sweep in sweeps]
    both = list(zip(sweeps, radii, strict=True))
    for sweep, found in both:
        _warn_if_above(sweep, found, loss_threshold)
    test_losses = [float(sweep.test_loss) for sweep in sweeps]
    levels = [int(sweep.model_trained_data) for sweep in sweeps]
    by_loss = _measure(sweeps, radii, asked.bootstrap, seed)
    values = by_loss["log_exp_r_n_values"]
    powers = [_log_powers(found.crossing, s.num_params) for s, found in both]
    same_largest, same_order = diagnostics.rank_probabilities(powers, sizes, seed=seed)
    by_radius = diagnostics.rank_probabilities(powers, sizes, by_largest=True, seed=seed)
    tops = [np.argsort(-found.radius, kind="stable")[: asked.top_k] for found in radii]
    results = {
        "test_loss_values": test_losses,
        "test_acc_values": [float(sweep.test_accs) for sweep in sweeps],
        "train_loss_values": [float(sweep.train_loss) for sweep in sweeps],
        **by_loss,
        **_masses([ray_mass(s, r.crossing, bootstrap=asked.bootstrap, seed=seed) for s, r in both]),
        "model_data_levels": levels,
        "key": first.key,
        "key_values": [plain_value(sweep.value) for sweep in sweeps],
        "loss_landscape_data_param": int(first.additional_data),
        "base_dataset_size": int(first.base_dataset_size),
        "num_params": int(n),
        **_sizes([sweep.num_params for sweep in sweeps]),
        "num_directions": num_directions,
        "dataset_type": first.dataset_type,
        "loss_threshold": float(loss_threshold),
        "loss_unit": first.loss_unit,
        "scaling": first.scaling,
        "weights_digests": [weights_digest(sweep.state_dict) for sweep in sweeps],
        "log_det_scaling_values": [float(sweep.log_det_scaling) for sweep in sweeps],
        "top_r_vals": [found.radius[top].tolist() for found, top in zip(radii, tops, strict=True)],
        "top_r_val_seeds": [found.seeds[top].tolist() for found, top in zip(radii, tops, strict=True)],
        "subset_sizes": sizes,
        "radii_rank_probabilities": same_largest,
        "radii_rank_probabilities_full": same_order,
        "largest_radius_rank_probabilities": by_radius[0],
        "largest_radius_rank_probabilities_full": by_radius[1],
        "loss_predicts_minimas": diagnostics.volume_follows_data(values, levels),
        "largest_volume_has_least_data": diagnostics.largest_is_least_data(values, levels),
        "loss_ordering_violations": diagnostics.ordering_violations(values, test_losses),
        "test_loss_ranks": diagnostics.ranks(test_losses),
        "log_exp_r_n_ranks": diagnostics.ranks(values),
        "data_level_ranks": diagnostics.ranks(levels),
    }
    if asked.acc_threshold is not None:
        results |= _accuracy_results(sweeps, asked.acc_threshold, asked.bootstrap, seed)
    return results


def _sizes(counts: list[int]) -> dict[str, list[int]]:
    """Of networks of several sizes the size of each; ``num_params`` is that of the first."""
    return {"num_params_values": [int(n) for n in counts]} if len(set(counts)) > 1 else {}


def _measure(
    sweeps: Sequence[Sweep], radii: Sequence[Radii], bootstrap: int, seed: int, suffix: str = ""
) -> dict[str, list]:
    """The estimate and its diagnostics, one list entry per minimum."""
    both = [(found, sweep.num_params) for sweep, found in zip(sweeps, radii, strict=True)]
    powers = [_log_powers(found.radius, n) for found, n in both]
    values = [log_mean_power(found.radius, n) for found, n in both]
    # The same generator state for every minimum: the same resamples of the directions they share.
    intervals = [diagnostics.bootstrap_interval(p, bootstrap, np.random.default_rng(seed)) for p in powers]
    measured = {
        f"log_exp_r_n{suffix}_values": values,
        f"log_exp_r_n{suffix}_ci": [list(interval) for interval in intervals],
        f"log_exp_r_n{suffix}_resolution": [
            diagnostics.resolution(found.radius, found.lower, n) for found, n in both
        ],
        f"effective_directions{suffix}": [diagnostics.effective_directions(p) for p in powers],
        f"num_censored{suffix}": [int(found.censored.sum()) for found in radii],
        f"mean_radius{suffix}_values": [float(found.radius.mean()) for found in radii],
        f"median_radius{suffix}_values": [float(np.median(found.radius)) for found in radii],
    }
    determinants = [sweep.log_det_scaling for sweep in sweeps]
    if not np.isnan(determinants).any():
        measured[f"log_volume{suffix}_values"] = [
            log_volume(value, n, log_det)
            for value, (_, n), log_det in zip(values, both, determinants, strict=True)
        ]
    return measured


def _masses(found: Sequence[RayMass]) -> dict[str, Any]:
    """The same regions' log masses under the network's own initialisation, where all files say enough."""
    if any(math.isnan(mass.log_mass) for mass in found):
        return {}
    return {
        "log_mass_reference": "init",
        "log_mass_rays_values": [mass.log_mass for mass in found],
        "log_mass_rays_ci": [list(mass.interval) for mass in found],
        "log_mass_rays_effective_directions": [mass.effective_directions for mass in found],
    }


def _accuracy_results(
    sweeps: Sequence[Sweep], acc_threshold: float, bootstrap: int, seed: int
) -> dict[str, Any]:
    radii = [threshold_radii(sweep, acc_threshold=acc_threshold) for sweep in sweeps]
    measured = _measure(sweeps, radii, bootstrap, seed, suffix="_acc")
    values = measured["log_exp_r_n_acc_values"]
    levels = [sweep.model_trained_data for sweep in sweeps]
    return {
        "acc_threshold": float(acc_threshold),
        **measured,
        "accuracy_predicts_minimas": diagnostics.volume_follows_data(values, levels),
        "largest_accuracy_volume_has_least_data": diagnostics.largest_is_least_data(values, levels),
        "accuracy_ordering_violations": diagnostics.ordering_violations(
            values, [sweep.test_loss for sweep in sweeps]
        ),
        "log_exp_r_n_acc_ranks": diagnostics.ranks(values),
    }


def _log_powers(radii: np.ndarray, n: int) -> np.ndarray:
    """``n·log r`` (D,), ``-inf`` where the radius is 0."""
    with np.errstate(divide="ignore"):
        return n * np.log(np.asarray(radii, dtype=np.float64))


def _check_sweeps(sweeps: Sequence[Sweep]) -> None:
    """One landscape, one scaling, one number of directions, no minimum twice."""
    if not sweeps:
        raise InputError("no sweeps to estimate volumes from: run Random Perturbs first")
    same = {
        "dataset_type": [sweep.dataset_type for sweep in sweeps],
        "additional_data": [sweep.additional_data for sweep in sweeps],
        "num_params": [sweep.num_params for sweep in sweeps],
        "scaling": [sweep.scaling for sweep in sweeps],
        "key": [sweep.key for sweep in sweeps],
        "number of directions": [len(sweep.wiggle_results) for sweep in sweeps],
    }
    if sweeps[0].key != ADDITIONAL:  # networks of several sizes may be what is compared
        del same["num_params"]
    for what, found in same.items():
        if len(set(found)) > 1:
            raise InputError(
                f"the sweeps of one landscape must have the same {what}, these have {sorted(set(found))}; "
                "run Random Perturbs again for the ones that differ"
            )
    if not same["number of directions"][0]:
        raise InputError("the sweeps have no directions: run Random Perturbs again with num_directions ≥ 1")
    values = [sweep.value for sweep in sweeps]
    if len(set(values)) < len(values):
        raise InputError(f"two sweeps of one landscape belong to the same minimum ({sweeps[0].key} {values})")


def _warn_if_above(sweep: Sweep, radii: Radii, loss_threshold: float) -> None:
    if radii.radius.any():
        return
    loss = float(sweep.wiggle_results[0]["loss"][0])
    warnings.warn(
        f"model {sweep.key} {sweep.value} has a loss of {loss:.4g} in landscape "
        f"{sweep.dataset_type}_{sweep.additional_data}, above the threshold {loss_threshold:g} before any "
        "perturbation: radius 0, log volume -inf",
        stacklevel=3,
    )
