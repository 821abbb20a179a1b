"""``integrate``: a model, a loss and a threshold to a log mass."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volume_lib.devices import resolve_device
from volume_lib.errors import InputError
from volume_lib.integration.effort import Effort, check_effort
from volume_lib.integration.inward import Inward, Lost
from volume_lib.integration.outward import Outward
from volume_lib.integration.record import Mass
from volume_lib.integration.region import Visible, check_region
from volume_lib.integration.result import note_round, record_of
from volume_lib.integration.resume import Keeper, load, state_of
from volume_lib.integration.run import Options, Runner, Walk
from volume_lib.integration.target import Loss, Target
from volume_lib.parameters import choose, copied, moved_names
from volume_lib.progress import Bar
from volume_lib.rays.reference import make_reference

_LOST = "chains from the reference did not find the region, so that it was measured from the minimum out"


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
    preconditioner: str | None = None,
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
    ``reference``: see :mod:`volume_lib.rays.reference` (``build`` makes a fresh model, where
    ``reset_parameters`` cannot); ``region``: ``visible`` or ``connected``; ``parameters``: which parameters
    move, as :func:`volume_lib.parameters.choose` takes them (default: those that require a gradient).

    Effort: ``minutes`` of wall-clock time, ``gap`` between the passes in nats, ``gradients`` of one chain
    (repeatable, unlike minutes); the first that is reached ends it, and without any of them a converged
    result or 5 minutes. ``resume``: a record, its state, or a file: the file is written every quarter of a
    minute or more rarely, where it is large, and read first if it is there, so that an interrupted call goes
    on; more effort continues from where it was.

    ``chains`` walk together; memory is at most ``(60·chains + 80)·n`` numbers (measured with 4 chains: 302
    of 320), beside what a forward and a backward pass of the samples take. ``preconditioner``: ``fisher``
    (the default) or ``width``. ``rays``: the same quantity by rays, to stand beside. ``options``: the
    sampler's own settings, its preconditioner among them.

    Raises :class:`InputError` for anything impossible, before the first move.
    """
    began = time.monotonic()
    check_region(region)
    if options is not None and preconditioner is not None:
        raise InputError("preconditioner, options: give one of them; options name a preconditioner, too")
    options = options or Options(preconditioner=preconditioner or "fisher")
    check_effort(minutes, gap, gradients, chains, options, threshold)
    names = moved_names(model) if parameters is None else choose(model, parameters)
    found = make_reference(model, names, reference, build=build, seed=seed)
    place = resolve_device(device)
    twin = copied(model, parameters).to(place).eval()
    target = Target(twin, names, x, y, loss, found.sigma, threshold, chains)
    landscape = Visible(target) if region == "visible" else target
    generator = torch.Generator(place).manual_seed(seed)
    file = Path(resume) if isinstance(resume, (str, Path)) else None
    inward = options.route == "inward" or (options.route == "auto" and region == "connected")
    identity = {
        "n": target.n,
        "route": "inward" if inward else "outward",
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
    walk = load(resume, identity, generator, place) or Walk()
    keep, earlier = Keeper(file), walk.seconds
    bar = Bar(desc="log mass", disable=not progress, unit="point", leave=False)

    def after(now: bool = False) -> None:
        walk.seconds = earlier + time.monotonic() - began
        bar.update(1)
        keep(walk, identity, generator, now)

    effort = Effort(minutes, gap, gradients, began, walk.spent)
    walk.route = walk.route or ("inward" if inward else "outward")

    def by(route: type[Runner]) -> Runner:
        return route(target, landscape, options, walk, generator, after, effort.deadline)

    runner = by(Inward if walk.route == "inward" else Outward)
    mass = None
    try:
        if not walk.beta or not len(walk.position):
            bar.set_description("log mass: where the path begins")
            try:
                runner.pilot()
            except Lost:
                walk.route, walk.power = "outward", Walk.power
                runner = by(Outward)
                runner.pilot()
            keep(walk, identity, generator, True)
        if inward and walk.route == "outward":
            found = replace(found, notes=(*found.notes, _LOST))
        while True:
            if not len(walk.grid):
                runner.begin(runner.first_moves)
            bar.reset(total=2 * len(walk.grid) + 1)
            bar.set_description(f"log mass, round {len(walk.history) + 1}{_so_far(mass)}")
            if not walk.done:
                bar.skip(len(walk.forward) + len(walk.backward) + walk.turned)
                runner.forwards()
                runner.turn()
                runner.backwards()
                note_round(runner)
                keep(walk, identity, generator, True)
            mass = record_of(runner, found, region, threshold, gap, rays)
            moves = effort.next_moves(walk, mass)
            if moves is None:
                break
            runner.begin(moves, runner.joint_averages())
    finally:
        bar.close()
    return replace(mass, state=state_of(walk, identity, generator))


def _so_far(mass: Mass | None) -> str:
    return "" if mass is None else f" ({mass.forward:,.0f} / {mass.backward:,.0f})"
