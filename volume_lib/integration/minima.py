"""The log masses of all minima of a run, as its notebook and batches measure them: ``mass.json``.

For every landscape and threshold asked for, each minimum that was trained on at least that landscape's
data (and is below the threshold in it) is integrated, and stands beside the same quantity by the rays of its
sweep; so is, in ``own_landscapes``, each minimum that was trained on no more than their data. A minimum that
is measured already, from the same weights and samples with as much effort, is passed over; with less effort
its chains go on from where they stood, as they do after an interruption. Beside each minimum stands whether a
curve below the threshold joins it to an earlier one of the same landscape (:mod:`~.curve`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from volume_lib import storage
from volume_lib.errors import InputError
from volume_lib.integration.curve import join
from volume_lib.integration.entry import integrate
from volume_lib.integration.record import Mass
from volume_lib.integration.resume import NotResumable
from volume_lib.integration.section import IntegrateSettings
from volume_lib.parameters import num_moved
from volume_lib.problems.base import Problem
from volume_lib.problems.provenance import level_digest
from volume_lib.progress import Bar
from volume_lib.rays.reference import fresh_models
from volume_lib.records import LABEL_NOISE, Dataset, TrainedModel
from volume_lib.section import takes
from volume_lib.storage.weights import weights_digest
from volume_lib.sweep.done import losses_at_zero
from volume_lib.sweep.older import with_moments
from volume_lib.volume.mass import UNKNOWN, RayMass, ray_mass
from volume_lib.volume.radii import threshold_radii


@takes(IntegrateSettings)
def integrate_minima(
    problem: Problem,
    models: Sequence[TrainedModel],
    dataset: Dataset,
    run_dir: str | Path = ".",
    **settings: Any,
) -> list[Path]:
    """Integrate every minimum in every landscape asked for: one ``mass.json`` for each and each threshold.

    All but the first four are :class:`~volume_lib.integration.section.IntegrateSettings`, with its defaults.
    ``minutes`` and ``gap`` (nats) are each minimum's: the first that is reached ends it. Returns the paths.
    A minimum above the threshold has no mass there: ``-inf``.

    Raises InputError for anything impossible before the first move.
    """
    asked = IntegrateSettings.checked(**settings)
    known = [0] if any(trained.key == LABEL_NOISE for trained in models) else dataset.dataset_quantities
    levels = asked.landscape_levels or known[:1]
    for name, given in (("landscape_levels", levels), ("own_landscapes", asked.own_landscapes or [])):
        unknown = [level for level in given if level not in known]
        if unknown:
            raise InputError(f"{name}: {unknown[0]} is not one of {known}")
    own = [level for level in asked.own_landscapes or [] if level not in levels]
    levels = [*levels, *own]
    samples = {level: level_digest(dataset, level) for level in levels}
    tasks = [
        _Task(problem, models, dataset, Path(run_dir), level, samples[level], threshold, asked, level in own)
        for level, threshold in itertools.product(levels, asked.loss_thresholds)
    ]
    count = sum(len(task.minima) for task in tasks)
    with Bar(total=count, desc="log masses", unit="minimum") as bar:
        return [task.measure(bar) for task in tasks]


class _Task:
    """The minima of one landscape at one threshold: all that have seen its data, or ``only_own``, those that
    have seen no more."""

    def __init__(
        self,
        problem: Problem,
        models: Sequence[TrainedModel],
        dataset: Dataset,
        run_dir: Path,
        level: int,
        samples: str,
        threshold: float,
        asked: IntegrateSettings,
        only_own: bool,
    ) -> None:
        self.problem, self.dataset, self.run_dir = problem, dataset, run_dir
        self.level, self.threshold, self.asked = level, threshold, asked
        self.models = [trained for trained in models if trained.level >= level]
        if not self.models:
            raise InputError(f"landscape_levels: no model was trained on the data of landscape {level}")
        self.minima = [trained for trained in self.models if trained.level == level or not only_own]
        self.path = storage.mass_path(run_dir, dataset.dataset_type, level, threshold)
        self.samples = samples
        self.weights = {t.value: weights_digest(t.model.state_dict()) for t in self.models}

    def measure(self, bar: Bar) -> Path:
        """All minima, each written as soon as it is there."""
        before = self._before()
        rows: dict[float, dict[str, Any]] = {}
        for trained in self.minima:
            bar.set_description(f"log mass of {trained.key} {trained.value}")
            row = before.get(trained.value)
            if row is None or not self._is_enough(row):
                row = self._row(trained)
                told = _words(row)
            else:
                told = f"there already, {_words(row)}"
            row["same_region"] = row.get("same_region") or (
                self._curve(trained, rows) if row["records"] else {}
            )
            rows[trained.value] = row
            self._save({**before, **rows})
            bar.say(f"{trained.key} {trained.value}, landscape {self.level}, loss {self.threshold:g}: {told}")
            bar.update(1)
        self._save({**before, **rows})
        return self.path

    def _before(self) -> dict[float, dict[str, Any]]:
        """What ``mass.json`` holds of these weights and samples, by minimum."""
        if not self.path.exists():
            return {}
        with suppress(InputError):  # damaged, or not one of ours: measured anew
            found = storage.load_masses(self.path)
            told = {"samples_digest": self.samples, **self.asked.as_told()}
            if all(found.get(name) == value for name, value in told.items()):
                rows = {
                    value: {key: found[key][i] for key in _COLUMNS}
                    for i, value in enumerate(found["key_values"])
                }
                rows = {v: row for v, row in rows.items() if row["weights_digests"] == self.weights.get(v)}
                for row in rows.values():
                    if row["same_region"].get("with") not in rows:  # a curve to weights that are gone
                        row["same_region"] = {}
                return rows
        return {}

    def _is_enough(self, row: dict[str, Any]) -> bool:
        """Whether as much effort was spent as is asked for, or the gap is reached."""
        record = row["records"]
        if not record:  # above the threshold: there is nothing to integrate
            return True
        if self.asked.gap is not None and record["gap"] <= self.asked.gap:
            return True
        minutes = self.asked.minutes
        return minutes is not None and record["effort_minutes"] >= minutes

    def _row(self, trained: TrainedModel) -> dict[str, Any]:
        x, y = self.dataset.upto(self.level)
        row = {
            "key_values": trained.value,
            "model_data_levels": trained.level,
            "weights_digests": self.weights[trained.value],
        }
        rays = self._rays(trained)
        mass = None
        (loss,) = losses_at_zero(self.problem, trained, self.dataset, [self.level])
        if loss < self.threshold:
            state = storage.mass_state_path(self.path, trained.key, trained.value)
            mass = self._integrated(trained, x, y, state, rays)
        row |= {**numbers_of(mass, rays), "records": {}}
        if mass is not None:
            row["records"] = {**mass.as_dict(), "effort_minutes": self.asked.minutes or mass.seconds / 60}
        return row

    def _integrated(self, trained: TrainedModel, x: Any, y: Any, state: Path, rays: RayMass) -> Mass:
        asked = self.asked
        arguments = {
            "loss": self.problem.per_sample_loss, "threshold": self.threshold, "reference": asked.reference,
            "region": asked.region, "minutes": asked.minutes, "gap": asked.gap, "chains": asked.chains,
            "seed": asked.seed, "device": asked.device,
            "rays": None if math.isnan(rays.log_mass) else rays.log_mass,
        }  # fmt: skip

        def go() -> Mass:
            fresh = fresh_models(self.problem, trained)
            return integrate(trained.model, x, y, resume=state, build=fresh, **arguments)

        try:
            return go()
        except NotResumable:
            state.unlink()  # chains of other weights or samples, of ours: begun anew
            return go()

    def _curve(self, trained: TrainedModel, rows: dict[float, dict[str, Any]]) -> dict[str, Any]:
        """A curve to the first minimum of a region found so far, or the best attempt at one; ``{}`` where
        there is none to join, or the networks differ in more than what moves."""
        x, y = self.dataset.upto(self.level)
        tried = []
        for first in self.minima:
            row = rows.get(first.value, {})
            if not row.get("records") or row["same_region"].get("joined"):
                continue
            with suppress(InputError):
                curve = join(
                    first.model, trained.model, x, y, loss=self.problem.per_sample_loss,
                    threshold=self.threshold, minutes=self.asked.minutes, device=self.asked.device,
                )  # fmt: skip
                tried.append({"with": first.value, **curve.as_dict()})
                if curve.joined:
                    return tried[-1]
        return min(tried, key=lambda told: told["highest"] or math.inf, default={})

    def _rays(self, trained: TrainedModel) -> RayMass:
        """The same quantity by the rays of the sweep; NaN where there is none of this minimum."""
        path = storage.sweep_path(
            self.run_dir, self.dataset.dataset_type, self.level, trained.key, trained.value
        )
        if not path.exists():
            return UNKNOWN
        sweep = storage.load_sweep(path)
        if weights_digest(sweep.state_dict) != self.weights[trained.value]:
            raise InputError(
                f"{path}: its rays start at other weights than the model's; run "
                f"'{storage.PERTURB_NOTEBOOK}' again"
            )
        sweep = with_moments(self.problem, trained, sweep)
        return ray_mass(sweep, threshold_radii(sweep, self.threshold).crossing, self.asked.reference)

    def _save(self, rows: dict[float, dict[str, Any]]) -> None:
        kept = [rows[trained.value] for trained in self.models if trained.value in rows]
        first = self.models[0]
        storage.save_masses(
            self.path,
            {
                "key": first.key,
                "dataset_type": self.dataset.dataset_type,
                "loss_landscape_data_param": self.level,
                "base_dataset_size": self.dataset.base_data_size,
                "num_params": num_moved(first.model),
                "loss_threshold": self.threshold,
                "loss_unit": self.problem.loss_unit,
                "samples_digest": self.samples,
                **self.asked.as_told(),
                **{key: [row[key] for row in kept] for key in _COLUMNS},
            },
        )


_COLUMNS = (
    "key_values", "model_data_levels", "weights_digests", "log_mass_values", "log_mass_intervals",
    "forward_values", "backward_values", "converged", "reasons", "log_mass_rays_values", "log_mass_rays_ci",
    "log_mass_rays_effective_directions", "same_region", "records",
)  # fmt: skip


def numbers_of(mass: Mass | None, rays: RayMass) -> dict[str, Any]:
    """What the lists of ``mass.json`` hold of one minimum; ``mass`` None: it is above the threshold."""
    return {
        "log_mass_values": -math.inf if mass is None else mass.log_mass,
        "log_mass_intervals": (math.nan, math.nan) if mass is None else mass.interval,
        "forward_values": math.nan if mass is None else mass.forward,
        "backward_values": math.nan if mass is None else mass.backward,
        "converged": mass is None or mass.converged,
        "reasons": "above the threshold: no mass" if mass is None else mass.reason,
        "log_mass_rays_values": rays.log_mass,
        "log_mass_rays_ci": rays.interval,
        "log_mass_rays_effective_directions": rays.effective_directions,
    }


def _words(row: dict[str, Any]) -> str:
    if not row["records"]:
        return row["reasons"]
    low, high = row["log_mass_intervals"]
    verdict = "converged" if row["converged"] else f"not converged ({row['reasons']})"
    rays = row["log_mass_rays_values"]
    by_rays = "" if math.isnan(rays) else f"; by rays {rays:,.0f}"
    return f"log mass {row['log_mass_values']:,.0f} nats ({low:,.0f} … {high:,.0f}), {verdict}{by_rays}"
