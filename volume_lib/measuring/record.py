"""What is known of one region's volume, and its files."""

from __future__ import annotations

import html
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from volume_lib import storage
from volume_lib.devices import resolve_device
from volume_lib.errors import InputError
from volume_lib.measuring.source import Source
from volume_lib.parameters import frozen_names, moved_names
from volume_lib.problems.losses import LOSSES, PerSample
from volume_lib.rays.reference import init_widths
from volume_lib.records import ADDITIONAL, Sweep
from volume_lib.sweep.evaluator import budget_of
from volume_lib.volume.estimate import estimate_volumes, log_volume
from volume_lib.volume.mass import RayMass, ray_mass
from volume_lib.volume.radii import Radii, threshold_radii

_SHOWN = 8
"""Parameters named in a summary; the record has them all."""


@dataclass
class Volume:
    """The volume of the region around a model in which its loss (or accuracy) keeps to a threshold.

    Logarithms in nats; :mod:`volume_lib.volume.estimate` has the formulas. ``print`` and a notebook's last
    line show all of it.
    """

    log_volume: float
    """Of the region in parameter space; ``-inf`` if the model itself is beyond the threshold."""
    log_exp_r_n: float
    """``log E[r^n]`` over directions, in units of the scaling."""
    interval: tuple[float, float]
    """95 % bootstrap interval of ``log_exp_r_n`` over directions."""
    resolution: float
    """What the radii's precision leaves open in ``log_exp_r_n``."""
    effective_directions: float
    """How many directions carry the mean; near 1, one carries all of it."""
    num_censored: int
    """Directions that never crossed: their radii, and with them the volume, are lower bounds."""
    radii: Radii
    """Threshold radii (D,) of the directions, with their seeds."""
    n: int
    """How many numbers move."""
    moved: dict[str, int]
    """Parameters that moved, by name: how many numbers each holds."""
    frozen: dict[str, int]
    """Parameters that stayed where they were."""
    threshold: float
    """The mean loss, or accuracy, at which the region ends."""
    criterion: str
    """``"loss"`` or ``"accuracy"``."""
    landscape: int
    """Over how many samples the loss is the mean."""
    loss: float
    """The model's own mean loss over them."""
    accuracy: float
    """The model's own mean accuracy over them; NaN if none was asked for."""
    loss_name: str
    loss_unit: str
    model_class: str
    scaling: str
    log_det_scaling: float
    log_mass_rays: float = math.nan
    """The probability of the region under the network's own initialisation, from the same rays
    (:mod:`volume_lib.volume.mass`); NaN where its widths are not known, and of an accuracy."""
    log_mass_rays_interval: tuple[float, float] = (math.nan, math.nan)
    """95 % bootstrap interval of ``log_mass_rays`` over directions."""
    log_mass_rays_effective_directions: float = math.nan
    """How many directions carry that mean."""
    log_mass_rays_widths: str = "reset_parameters"
    """What drew the initialisation that it is under: each module's ``reset_parameters``, or ``build``, which
    also sees what a network sets on its own."""
    notes: list[str] = field(default_factory=list)
    asked: tuple[str, float] = ("threshold", 0.0)
    """``threshold``, ``rise`` or ``acc_threshold``, and the value that was given for it."""
    mass: Any = None
    """What :meth:`integrate` found last."""
    results: dict[str, Any] = field(default_factory=dict, repr=False)
    """The contents of a ``results.json``."""
    sweep: Sweep | None = field(default=None, repr=False)
    """The losses along the rays."""
    family: list[Volume] = field(default_factory=list, repr=False)
    """All volumes of the same call, this one among them."""
    source: Source | None = field(default=None, repr=False)

    @property
    def log_volume_interval(self) -> tuple[float, float]:
        """95 % interval of ``log_volume``."""
        shift = log_volume(0.0, self.n, self.log_det_scaling)
        return self.interval[0] + shift, self.interval[1] + shift

    @property
    def num_directions(self) -> int:
        return len(self.radii.radius)

    def at(
        self,
        *,
        threshold: float | None = None,
        rise: float | None = None,
        acc_threshold: float | None = None,
        landscape: int | None = None,
    ) -> Volume:
        """Another volume of the same call; what is left out stays as it is here."""
        given = {"threshold": threshold, "rise": rise, "acc_threshold": acc_threshold}
        chosen = [(name, value) for name, value in given.items() if value is not None]
        if len(chosen) > 1:
            raise InputError("at: give one of threshold, rise and acc_threshold")
        name, value = chosen[0] if chosen else self.asked
        size = self.landscape if landscape is None else landscape
        for other in self.family:
            same = other.asked[0] == name and math.isclose(other.asked[1], value, rel_tol=1e-9)
            exact = name == "threshold" and other.criterion == "loss" and other.threshold == value
            if other.landscape == size and (same or exact):
                return other
        there = "; ".join(f"{v.asked[0]}={v.asked[1]:g}, landscape={v.landscape}" for v in self.family)
        raise InputError(f"at: {name}={value:g}, landscape={size} was not measured; there are {there}")

    def __str__(self) -> str:
        facts = self._facts()
        width = max(len(name) for name, _ in facts)
        return "\n".join([self._title(), *(f"  {name.ljust(width)}  {told}" for name, told in facts)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(told)}</td></tr>"
            for name, told in self._facts()
        )
        return f"<table><caption>{html.escape(self._title())}</caption><tbody>{rows}</tbody></table>"

    def _title(self) -> str:
        unit = "accuracy at least" if self.criterion == "accuracy" else f"{self.loss_name} up to"
        what = f"{unit} {self.threshold:.6g}"
        what += f" {self.loss_unit}" if self.criterion == "loss" and self.loss_unit != "loss" else ""
        samples = "sample" if self.landscape == 1 else "samples"
        return f"Volume of {self.model_class}: {what} over {self.landscape:,} {samples}"

    def _facts(self) -> list[tuple[str, str]]:
        low, high = self.interval
        low_volume, high_volume = self.log_volume_interval
        facts = [
            ("log E[r^n]", f"{_nats(self.log_exp_r_n)}, 95 % within {_nats(low)} … {_nats(high)}"),
            (
                "log volume",
                f"{_nats(self.log_volume)}, 95 % within {_nats(low_volume)} … {_nats(high_volume)}",
            ),
            *self._mass_by_rays(),
            ("resolution", f"{self.resolution:.2g} nats" if math.isfinite(self.resolution) else "open"),
            ("effective directions", f"{self.effective_directions:.1f} of {self.num_directions:,}"),
            ("never crossed", f"{self.num_censored:,}" + (": a lower bound" if self.num_censored else "")),
            ("own loss", f"{self.loss:.6g}"),
        ]
        if not math.isnan(self.accuracy):
            facts.append(("own accuracy", f"{self.accuracy:.4f}"))
        facts += [("moved", _listed(self.moved)), ("frozen", _listed(self.frozen)), ("scaling", self.scaling)]
        facts += [("note", note) for note in self.notes]
        if self.mass is not None:
            facts.append(("log mass", _one_line(self.mass)))
        if len(self.family) > 1:
            facts.append(("also measured", f"{len(self.family) - 1} more, by .at(…): {self._others()}"))
        return facts

    def _mass_by_rays(self) -> list[tuple[str, str]]:
        if math.isnan(self.log_mass_rays):
            return []
        low, high = self.log_mass_rays_interval
        told = f"{_nats(self.log_mass_rays)}, 95 % within {_nats(low)} … {_nats(high)}"
        told = f"under build, {told}" if self.log_mass_rays_widths == "build" else told
        return [("log mass by rays", f"{told}, {self.log_mass_rays_effective_directions:.1f} directions")]

    def _others(self) -> str:
        asked = dict.fromkeys(f"{volume.asked[0]}={volume.asked[1]:g}" for volume in self.family)
        sizes = dict.fromkeys(f"{volume.landscape}" for volume in self.family)
        return f"{', '.join(asked)}; landscape={' or '.join(sizes)}"

    def integrate(
        self,
        model: nn.Module | None = None,
        x: Any = None,
        y: Any = None,
        *,
        loss: str | PerSample | None = None,
        resume: Any = None,
        **options: Any,
    ) -> Any:
        """The log mass of the same region, which converges: :func:`volume_lib.integration.integrate`.

        ``options`` are its own (``minutes``, ``reference``, ``region`` …); model, samples, loss and threshold
        are those measured. Kept as :attr:`mass`. ``resume=True`` goes on from where :attr:`mass` was left,
        in its region, against its reference. A volume from files has neither model nor samples: give them
        again as :func:`~volume_lib.measure` got them, and ``loss`` unless it has a name.
        """
        from volume_lib.integration import integrate

        if self.criterion != "loss":
            raise InputError("integrate: needs a loss threshold; this volume ends at an accuracy")
        if model is not None:
            device = resolve_device(options.get("device", "auto"))
            self.source = _source_again(self, model, x, y, loss, device)
        elif x is not None or y is not None or loss is not None:
            raise InputError("integrate: x, y and loss go with a model; give it, too")
        source, size = self.source, self.landscape
        if source is None:
            raise InputError(
                "integrate: this volume comes from files, which hold neither model nor samples; give them "
                "again: volume.integrate(model, x, y, loss=…, minutes=…)"
            )
        if resume is True:
            if self.mass is None or self.mass.state is None:
                raise InputError("resume=True: this volume has no integration whose chains were kept")
            resume = self.mass
            kept: dict[str, Any] = {"region": resume.region}
            if resume.reference != "own":
                kept["reference"] = resume.reference
            options = kept | options
        reference = options.get("reference", "init")
        if source.build is not None and isinstance(reference, str) and reference == "init":
            options = {"build": source.build} | options
        if self.sweep is not None and isinstance(reference, str | float | int):
            sweep = self.sweep
            if (build := options.get("build")) is not None:  # both numbers under the same reference
                sweep = replace(sweep, init_widths=init_widths(source.network, build))
            by_rays = ray_mass(sweep, self.radii.crossing, reference).log_mass
            options = {"rays": None if math.isnan(by_rays) else by_rays} | options
        self.mass = integrate(
            source.network, source.x[:size], source.y[:size], loss=source.problem.per_sample_loss,
            threshold=self.threshold, resume=resume, **options,
        )  # fmt: skip
        return self.mass

    def plot(self, ax: Any = None) -> Any:
        """The distribution of the threshold radii; returns the axes."""
        from volume_lib import plots

        title = f"{self.model_class}, {self.landscape:,} samples; ▲ largest radius"
        return plots.radii_histogram({self.landscape: self.radii}, ax, title=title)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write all volumes of the call to ``folder``, in the files of a run: rays, ``results.json``, and
        ``mass.json`` of those that were integrated.

        The smallest landscape is level 0. Raises :class:`InputError` where the folder holds anything already,
        unless ``overwrite``.
        """
        from volume_lib.measuring.mass_files import save_mass

        folder = Path(folder)
        if folder.exists() and not overwrite and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                f"{folder}: holds something already; name another folder, or pass overwrite=True"
            )
        for volume in self.family or [self]:
            sweep = volume.sweep
            if sweep is None:
                raise InputError("Volume.save: a volume without its sweep cannot be saved")
            place = (folder, sweep.dataset_type, sweep.additional_data)
            if volume.criterion == "loss":
                storage.save_sweep(storage.sweep_path(*place, ADDITIONAL, sweep.value), sweep)
                storage.save_results(storage.results_path(*place, volume.threshold), volume.results)
                effective = volume.log_mass_rays_effective_directions
                rays = RayMass(volume.log_mass_rays, volume.log_mass_rays_interval, effective)
                path = storage.mass_path(*place, volume.threshold)
                save_mass(path, volume.mass, sweep, volume.threshold, rays)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Volume:
        """Read what :meth:`save` wrote. Model and samples are not in it: :meth:`integrate` asks for them."""
        from volume_lib.measuring.mass_files import load_mass

        folder = Path(folder)
        family: list[Volume] = []
        found = storage.list_results(folder)
        if not found:
            raise InputError(f"{folder}: no volumes here; Volume.save writes them")
        sweeps: dict[int, Sweep] = {}
        for (_, level, _), path in found.items():
            results = storage.load_results(path)
            if "measured" not in results:
                raise InputError(f"{path}: was not written by Volume.save")
            if level not in sweeps:
                (file,) = storage.list_sweeps(folder, "data")[level]
                sweeps[level] = storage.load_sweep(file)
            with_accuracy = not any(v.criterion == "accuracy" and v.sweep is sweeps[level] for v in family)
            volumes = _volumes(sweeps[level], results, with_accuracy)
            volumes[0].mass = load_mass(storage.mass_beside(path))
            family += volumes
        order = {id(volume): volume.results["measured"]["position"] for volume in family}
        family.sort(key=lambda volume: (volume.landscape, volume.criterion == "accuracy", order[id(volume)]))
        for volume in family:
            volume.family = family
        return next(volume for volume in family if volume.landscape == family[-1].landscape)


def volumes_of(
    sweep: Sweep, asked: Sequence[tuple[str, float, float]], facts: dict[str, Any]
) -> list[Volume]:
    """The volumes of one landscape: of each loss threshold in ``asked`` (word, value given, threshold), then
    of the accuracy's, if there is one."""
    model = facts["model"]

    def counts(names: list[str]) -> dict[str, int]:
        return {name: model.get_parameter(name).numel() for name in names}

    measured = {
        "model_class": type(model).__name__,
        "loss_name": facts["loss_name"],
        "moved": counts(moved_names(model)),
        "frozen": counts(frozen_names(model)),
        "notes": facts["notes"],
        "log_mass_rays_widths": facts["log_mass_rays_widths"],
    }
    found: list[Volume] = []
    for position, (word, value, threshold) in enumerate(asked):
        with warnings.catch_warnings():  # a model beyond its threshold: said in the words of measure
            warnings.simplefilter("ignore")
            results = estimate_volumes([sweep], threshold, acc_threshold=sweep.acc_threshold)
        results["measured"] = {**measured, "asked": [word, value], "position": position}
        found += _volumes(sweep, results, with_accuracy=position == 0)
    # loss thresholds in the order asked for, then the accuracy's
    return sorted(found, key=lambda volume: volume.criterion == "accuracy")


def _volumes(sweep: Sweep, results: dict[str, Any], with_accuracy: bool) -> list[Volume]:
    """The volume of a ``results.json``, and the one of its accuracy threshold if there is one."""
    measured, first = results["measured"], sweep.wiggle_results[0]
    word, value = measured["asked"]

    def volume(suffix: str, radii: Radii, threshold: float, asked: tuple[str, float]) -> Volume:
        return Volume(
            log_volume=results[f"log_volume{suffix}_values"][0],
            log_exp_r_n=results[f"log_exp_r_n{suffix}_values"][0],
            interval=tuple(results[f"log_exp_r_n{suffix}_ci"][0]),
            resolution=results[f"log_exp_r_n{suffix}_resolution"][0],
            effective_directions=results[f"effective_directions{suffix}"][0],
            num_censored=results[f"num_censored{suffix}"][0],
            radii=radii,
            n=sweep.num_params,
            moved=measured["moved"],
            frozen=measured["frozen"],
            threshold=threshold,
            criterion="accuracy" if suffix else "loss",
            landscape=sweep.base_dataset_size + sweep.additional_data,
            loss=float(first["loss"][0]),
            accuracy=float(first["accs"][0]),
            loss_name=measured["loss_name"],
            loss_unit=sweep.loss_unit,
            model_class=measured["model_class"],
            scaling=sweep.scaling,
            log_det_scaling=sweep.log_det_scaling,
            **(_masses(results) if not suffix else {}),
            notes=list(measured["notes"]),
            asked=asked,
            results=results,
            sweep=sweep,
        )

    threshold = results["loss_threshold"]
    found = [volume("", threshold_radii(sweep, threshold), threshold, (word, float(value)))]
    if with_accuracy and sweep.acc_threshold is not None:
        limit = sweep.acc_threshold
        radii = threshold_radii(sweep, acc_threshold=limit)
        found.append(volume("_acc", radii, limit, ("acc_threshold", limit)))
    return found


def _masses(results: dict[str, Any]) -> dict[str, Any]:
    """The log mass by rays, where the results have it."""
    if "log_mass_rays_values" not in results:
        return {}
    return {
        "log_mass_rays": results["log_mass_rays_values"][0],
        "log_mass_rays_interval": tuple(results["log_mass_rays_ci"][0]),
        "log_mass_rays_effective_directions": results["log_mass_rays_effective_directions"][0],
        "log_mass_rays_widths": results["measured"].get("log_mass_rays_widths", "reset_parameters"),
    }


def _source_again(
    volume: Volume, model: nn.Module, x: Any, y: Any, loss: str | PerSample | None, device: torch.device
) -> Source:
    """Model, samples and loss given once more: InputError unless they are those of the measurement."""
    if loss is None and volume.loss_name not in LOSSES:
        raise InputError(f"loss: {volume.loss_name} was a function; give it again")
    moved = set(volume.moved)
    source = Source(
        model, x, y, volume.loss_name if loss is None else loss, None, None,
        lambda name, _: name in moved, device, budget_of(None, device),
    )  # fmt: skip
    sweep = volume.sweep
    weights = source.weights
    measured = {} if sweep is None else sweep.state_dict
    for name in measured.keys() | weights.keys():
        if name not in measured or name not in weights or not np.array_equal(measured[name], weights[name]):
            raise InputError(f"model: its {name} is not that of the model that was measured")
    size = volume.landscape
    if len(source.x) < size:
        raise InputError(f"x: {len(source.x):,} samples; the volume was measured over {size:,}")
    found = source.own_losses([size])[size]
    if not math.isclose(found, volume.loss, rel_tol=1e-3, abs_tol=1e-6):
        raise InputError(
            f"x, y, loss: the model's mean loss over the first {size:,} samples is {found:.6g}, and "
            f"{volume.loss:.6g} was measured; give the same samples in the same order, and the same loss"
        )
    return source


def _nats(value: float) -> str:
    if value == -math.inf:
        return "no volume"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:,.2f}"


def _listed(parameters: dict[str, int]) -> str:
    if not parameters:
        return "none"
    names = list(parameters)
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return f"{sum(parameters.values()):,} numbers: {shown}"


def _one_line(mass: Any) -> str:
    return str(mass).splitlines()[0]
