"""``integrate``: a model, a loss and a threshold to a log mass; and whether two minima share a region."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from volume_lib.devices import resolve_device
from volume_lib.errors import InputError
from volume_lib.integration import path as paths
from volume_lib.integration.adaptation import PRECONDITIONERS
from volume_lib.integration.diagnostics import effective_samples, split_rhat
from volume_lib.integration.record import Mass
from volume_lib.integration.reference import Reference, make_reference
from volume_lib.integration.region import Visible, check_region, visible_share
from volume_lib.integration.run import Options, Runner, Walk
from volume_lib.integration.target import Loss, Target
from volume_lib.parameters import choose, copied, moved_names

MINUTES = 5.0
"""The budget where neither minutes, gap nor gradients are given; it ends early once converged."""


def integrate(
    model: nn.Module,
    x: Any,
    y: Tensor,
    *,
    loss: Loss,
    threshold: float,
    reference: str | float | Tensor = "init",
    region: str = "visible",
    minutes: float | None = None,
    gap: float | None = None,
    gradients: int | None = None,
    parameters: Any = None,
    build: Callable[[], nn.Module] | None = None,
    chains: int = 8,
    preconditioner: str = "fisher",
    rays: float | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: Mass | dict[str, Any] | str | Path | None = None,
    progress: bool = True,
    options: Options | None = None,
) -> Mass:
    """The log of the reference's probability of the region around ``model`` in which the mean loss is at most
    ``threshold``, by thermodynamic integration.

    ``x``: inputs, a tensor (N, …) or a tuple or dict of such; ``y`` (N, …); ``loss(outputs, y) → (N,)``.
    ``reference``: see :mod:`volume_lib.integration.reference` (``build`` makes a fresh model, where
    ``reset_parameters`` cannot); ``region``: ``visible`` or ``connected``; ``parameters``: which parameters
    move, as :func:`volume_lib.parameters.choose` takes them (default: those that require a gradient).

    Effort: ``minutes`` of wall-clock time, ``gap`` between the passes in nats, ``gradients`` of one chain
    (repeatable, unlike minutes); the first that is reached ends it, and without any of them a converged
    result or 5 minutes. ``resume``: a record, its state, or a file: the file is written at every point of the
    path, and read first if it is there, so that an interrupted call goes on; more effort continues from where
    it was.

    ``chains`` walk together; memory is about ``(20·chains + points)·n`` numbers. ``preconditioner``:
    ``fisher`` or ``width``. ``rays``: the same quantity by rays, to stand beside. ``options``: the sampler's
    own.

    Raises :class:`InputError` for anything impossible, before the first move.
    """
    began = time.monotonic()
    check_region(region)
    _check_effort(minutes, gap, gradients, chains, preconditioner, threshold)
    names = moved_names(model) if parameters is None else choose(model, parameters)
    found = make_reference(model, names, reference, build=build, seed=seed)
    options = options or Options(preconditioner=preconditioner)
    place = resolve_device(device)
    twin = copied(model, parameters).to(place).eval()
    target = Target(twin, names, x, y, loss, found.sigma, threshold, chains)
    landscape = Visible(target) if region == "visible" else target
    generator = torch.Generator(place).manual_seed(seed)
    file = Path(resume) if isinstance(resume, (str, Path)) else None
    identity = {
        "n": target.n,
        "threshold": threshold,
        "region": region,
        "chains": chains,
        "reference": found.name,
    }
    identity |= {
        "sum of the parameters": float(target.theta.double().sum()),
        "loss of the model": target.minimum,
    }
    identity["sum of the widths"] = float(found.sigma.sum())
    walk = _load(resume, identity, generator, place) or Walk()
    bar = tqdm(desc="log mass", disable=not progress, unit=" gradients", leave=False)

    def after() -> None:
        walk.seconds = earlier + time.monotonic() - began
        bar.update(walk.spent - bar.n)
        if file is not None:
            _save(file, _state(walk, identity, generator))

    earlier = walk.seconds
    runner = Runner(target, landscape, options, walk, generator, after)
    effort = _Effort(minutes, gap, gradients, began, walk.spent)
    mass = None
    try:
        if not walk.beta or walk.position is None:
            runner.pilot()
            after()
        while True:
            if not len(walk.log_kappa):
                runner.begin(None, options.first_moves)
            if not walk.done:
                runner.forwards(effort.deadline)
                runner.heat()
                runner.backwards(effort.deadline)
                _note_round(runner)
                after()
            mass = _record(runner, found, region, threshold, gap, rays)
            bar.set_description(f"log mass {mass.forward:,.0f} / {mass.backward:,.0f}")
            moves = effort.next_moves(walk, mass)
            if moves is None:
                break
            changed = runner.settle_beta()
            runner.begin(None if changed and len(walk.history) < 2 else _refined(runner, mass), moves)
    finally:
        bar.close()
    return _with_state(mass, _state(walk, identity, generator))


class _Effort:
    """When to stop, and how many moves the next round may take."""

    def __init__(
        self, minutes: float | None, gap: float | None, gradients: int | None, began: float, spent: int
    ) -> None:
        self.free = minutes is None and gap is None and gradients is None
        self.gap, self.spent = gap, spent
        self.limit = None if gradients is None else spent + gradients
        limit = MINUTES if self.free else minutes
        self.deadline = math.inf if limit is None else began + 60 * limit

    def next_moves(self, walk: Walk, mass: Mass) -> int | None:
        """Moves of the next round, None to stop: a gap reached, or a budget that another round does not
        fit."""
        if (self.gap is not None and mass.gap <= self.gap) or (self.free and mass.converged):
            return None
        last = walk.history[-1]
        share = math.inf
        if self.limit is not None:
            share = (self.limit - walk.spent) / max(1, last["gradients"])
        share = min(share, (self.deadline - time.monotonic()) / max(1e-6, last["seconds"]))
        if share < 0.8:
            return None
        factor = 2.0 if share == math.inf else share * 0.9 if share < 6 else min(4.0, share / 4)
        return max(4, int(walk.moves * factor))


def _check_effort(minutes, gap, gradients, chains, preconditioner, threshold) -> None:
    for name, value in (
        ("minutes", minutes),
        ("gap", gap),
        ("gradients", gradients),
        ("threshold", threshold),
    ):
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} {value}: must be a positive number")
    if not isinstance(chains, int) or chains < 2:
        raise InputError(f"chains {chains}: must be a whole number, 2 or more")
    if preconditioner not in PRECONDITIONERS:
        raise InputError(f'preconditioner "{preconditioner}": must be one of {", ".join(PRECONDITIONERS)}')


def _note_round(runner: Runner) -> None:
    walk = runner.walk
    fore, back, _, _ = runner.passes()
    before = [sum(row[key] for row in walk.history) for key in ("gradients", "seconds")]
    walk.history.append(
        {
            "moves": walk.moves,
            "forward": fore.log_mass,
            "backward": back.log_mass,
            "beta": walk.beta,
            "gradients": walk.spent - before[0],
            "seconds": max(walk.seconds - before[1], 1e-3),
        }
    )


def _refined(runner: Runner, mass: Mass) -> np.ndarray:
    values = np.array([(row["integrand"] + row["integrand_back"]) / 2 for row in mass.path])
    tolerance = max(0.02, 5e-4 * abs(mass.log_mass))
    return paths.refine(runner.walk.log_kappa, values, tolerance, runner.options.most_points)


def _record(runner: Runner, found: Reference, region: str, threshold: float, gap: float | None, rays) -> Mass:
    walk, target = runner.walk, runner.target
    fore, back, forward, backward = runner.passes()
    rows = _path_rows(runner, fore, forward, backward)
    low = min(
        fore.log_mass - 2.5 * fore.error - fore.spacing, back.log_mass - 2.5 * back.error - back.spacing
    )
    high = max(
        fore.log_mass + 2.5 * fore.error + fore.spacing, back.log_mass + 2.5 * back.error + back.spacing
    )
    share = visible_share(target, walk.end)
    middle, apart = (fore.log_mass + back.log_mass) / 2, abs(fore.log_mass - back.log_mass)
    wanted = gap if gap is not None else max(1.0, 0.01 * abs(middle))
    reasons = []
    if apart > wanted:
        reasons.append(f"the passes are {apart:,.1f} nats apart, {wanted:,.1f} are wanted")
    if high - low > 2 * wanted + 5 * math.hypot(fore.error, back.error):
        reasons.append(f"the interval is {high - low:,.1f} nats wide")
    if rows[-1]["rhat"] > 1.2:
        reasons.append(f"R-hat is {rows[-1]['rhat']:.2f} at k = 0")
    return Mass(
        log_mass=middle,
        interval=(low, min(high, 0.0)),
        forward=fore.log_mass,
        backward=back.log_mass,
        gap=apart,
        converged=not reasons,
        reason="; ".join(reasons),
        reference=found.name,
        region=region,
        rays=rays,
        threshold=threshold,
        num_params=target.n,
        forward_error=fore.error,
        backward_error=back.error,
        spacing=max(fore.spacing, back.spacing),
        rhat=max(row["rhat"] for row in rows),
        ess=min(row["ess"] for row in rows),
        acceptance=min(row["acceptance"] for row in rows),
        visible_share=share,
        path=rows,
        history=[dict(row) for row in walk.history],
        notes=found.notes,
        gradients=walk.spent,
        seconds=walk.seconds,
    )


def _path_rows(runner: Runner, fore, forward, backward) -> list[dict[str, float]]:
    walk, rows = runner.walk, []
    for i, point in enumerate(runner.points()):
        both = np.concatenate([walk.forward[i][..., 0], walk.backward[-1 - i][..., 0]])
        per_pass = min(len(walk.forward[i]), len(walk.backward[-1 - i]))
        apart = np.concatenate(
            [walk.forward[i][-per_pass:, :, 0], walk.backward[-1 - i][-per_pass:, :, 0]], axis=1
        )
        rows.append(
            {
                "k": point.k,
                "beta": point.beta,
                "integrand": forward[i].value,
                "integrand_back": backward[i].value,
                "error": forward[i].error,
                "error_back": backward[i].error,
                "contribution": float(fore.contributions[i]),
                "loss": (forward[i].loss + backward[i].loss) / 2,
                "acceptance": walk.accepted[i][0],
                "leaps": walk.accepted[i][1],
                "rhat": split_rhat(apart),
                "ess": effective_samples(both),
            }
        )
    return rows


def _with_state(mass: Mass, state: dict[str, Any]) -> Mass:
    from dataclasses import replace

    return replace(mass, state=state)


def _state(walk: Walk, identity: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
    """Plain containers, tensors and numbers: ``torch.load(weights_only=True)`` reads it back."""
    held = {}
    for key, value in vars(walk).items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value.copy())
        elif key in ("forward", "backward"):
            value = [torch.from_numpy(part) for part in value]
        held[key] = _plain(value)
    return {"walk": held, "identity": identity, "generator": generator.get_state()}


def _plain(value: Any) -> Any:
    """Numbers of numpy as Python's own, which a safe reader takes."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(part) for part in value)
    return value.item() if isinstance(value, np.generic) else value


def _load(resume: Any, identity: dict[str, Any], generator: torch.Generator, place) -> Walk | None:
    if isinstance(resume, (str, Path)):
        if not Path(resume).exists():
            return None
        try:
            state = torch.load(resume, weights_only=True, map_location=place)
        except Exception as error:
            raise InputError(
                f"resume {resume}: is no file of an integration ({type(error).__name__})"
            ) from error
    else:
        state = resume.state if isinstance(resume, Mass) else resume
    if state is None:
        return None
    for key, value in identity.items():
        if state["identity"].get(key) != value:
            raise InputError(f"resume: was measured with {key} {state['identity'].get(key)}, not {value}")
    held = dict(state["walk"])
    held["log_kappa"] = held["log_kappa"].cpu().numpy()
    for key in ("forward", "backward"):
        held[key] = [part.cpu().numpy() for part in held[key]]
    generator.set_state(state["generator"].cpu())
    return Walk(**held)


def _save(file: Path, state: dict[str, Any]) -> None:
    """Written under another name and renamed, so that a reader never sees half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
    os.close(handle)
    torch.save(state, name)
    os.replace(name, file)
