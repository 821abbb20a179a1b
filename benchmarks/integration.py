"""How good is an integrated log mass, and what does it cost?

    python benchmarks/integration.py bodies [--case NAME …] [--seeds 20] [--effort 1]
    python benchmarks/integration.py networks [--case swiss_roll|mnist …] [--minutes 5] [--chains 8]

``bodies``: regions whose log mass is known (``volume_lib.validation.masses``), from so many seeds: in how
many the interval contains the exact value, the gap between the passes as a share of what 500 rays miss,
gradients of one chain and seconds. ``networks``: real minima (short trainings, kept in ``--cache``), both
passes, the interval, what rays give, and whether it says that it converged. Tables in Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from volume_lib import measure
from volume_lib.devices import processor_name
from volume_lib.problems import get_problem
from volume_lib.problems.splits import make_dataset
from volume_lib.rays.reference import fresh_models
from volume_lib.training.runs import train_models
from volume_lib.validation import Coverage, Region, ball, classifier, cover, flat_bowl, spiky_star, two_balls

BODIES: dict[str, tuple[Callable[[], Region], Sequence[str], int]] = {
    "ball_10": (lambda: ball(10), ("visible",), 20_000),
    "ball_1000": (lambda: ball(1000), ("visible",), 20_000),
    "ball_100000": (lambda: ball(100_000), ("visible",), 10_000),
    "bowl_2": (lambda: flat_bowl(1000, 2), ("visible", "connected"), 20_000),
    "bowl_4": (lambda: flat_bowl(1000, 4), ("visible", "connected"), 20_000),
    "bowl_6": (lambda: flat_bowl(1000, 6), ("visible", "connected"), 20_000),
    "bowl_4_100000": (lambda: flat_bowl(100_000, 4), ("connected",), 10_000),
    "rotated_2": (lambda: flat_bowl(200, 2, rotated=True), ("visible", "connected"), 40_000),
    "rotated_4": (lambda: flat_bowl(200, 4, rotated=True), ("visible", "connected"), 40_000),
    "rotated_4_2000": (lambda: flat_bowl(2000, 4, rotated=True), ("connected",), 40_000),
    "star_20": (lambda: spiky_star(20), ("visible",), 40_000),
    "star_200": (lambda: spiky_star(200), ("visible",), 40_000),
    "two_balls_2": (lambda: two_balls(2), ("visible", "connected"), 20_000),
    "two_balls_20": (lambda: two_balls(20), ("visible", "connected"), 20_000),
    "two_balls_50": (lambda: two_balls(50), ("visible", "connected"), 20_000),
    "classifier_3": (lambda: classifier(0.3, 2_000_000), ("visible",), 20_000),
    "classifier_5": (lambda: classifier(0.2, 20_000_000), ("visible",), 20_000),
}
"""Name → the region, which of its regions are measured, and gradients of one chain for each."""

NETWORKS = {
    "swiss_roll": {
        "model": {}, "quantities": (0, 190), "level": 190, "minimum": 190,
        "training": {"epochs": 3000, "batch_size": 500, "learning_rate": 3e-3, "target_train_loss": 0.01},
        "base": 10,
    },
    "mnist": {
        "model": {"hidden_dims": [256, 128]}, "quantities": (0,), "level": 0, "minimum": 0,
        "training": {"epochs": 12, "batch_size": 20, "learning_rate": 3e-3, "target_train_loss": 0.01},
        "base": 60,
    },
}  # fmt: skip

BODY_HEADER = (
    "region", "measured", "exact", "500 rays miss", "contained", "gap, median", "share of the miss",
    "interval, median width", "farthest middle", "gradients", "seconds",
)  # fmt: skip
NETWORK_HEADER = (
    "minimum", "n", "measured", "rays", "forward", "backward", "gap", "interval", "converged", "visible",
    "gradients", "seconds",
)  # fmt: skip


def row_of(found: Coverage) -> tuple[str, ...]:
    seeds, missed = len(found.low), found.missed
    return (
        found.name,
        found.region,
        f"{found.exact:,.2f}" + (f" ± {found.error:.2f}" if found.error > 0.005 else ""),
        f"{missed:,.1f}",
        f"{found.contained} of {seeds}",
        f"{found.gap:.2f}",
        f"{found.gap / missed:.2%}" if missed > 20 else "",
        f"{found.width:.1f}",
        f"{found.off:.2f}",
        f"{np.mean(found.gradients):,.0f}",
        f"{np.mean(found.seconds):.1f}",
    )


def bodies(names: Sequence[str], seeds: int, effort: float) -> Iterator[tuple[str, ...]]:
    for name in names:
        make, regions, gradients = BODIES[name]
        region = make()
        for which in regions:
            yield row_of(cover(region, which, seeds=range(seeds), gradients=int(gradients * effort)))


def networks(
    names: Sequence[str], regions: Sequence[str], minutes: float, chains: int, cache: Path
) -> Iterator[tuple[str, ...]]:
    for name in names:
        problem, case = get_problem(name), NETWORKS[name]
        dataset = make_dataset(
            problem, base_data_size=case["base"], dataset_quantities=case["quantities"], data_seed=10
        )
        models = train_models(
            problem, dataset, folder=cache / name, model=case["model"], model_seed=0, **case["training"]
        )
        (trained,) = [one for one in models if one.value == case["minimum"]]
        x, y = dataset.upto(case["level"])
        volume = measure(trained.model, x, y, loss=problem.per_sample_loss, directions=500, device="cpu")
        for region in regions:
            mass = volume.integrate(
                region=region,
                minutes=minutes,
                chains=chains,
                build=fresh_models(problem, trained),
                device="cpu",
            )
            low, high = mass.interval
            yield (
                f"{name} +{trained.value:,} in +{case['level']:,}", f"{mass.num_params:,}", region,
                f"{mass.rays:,.0f}", f"{mass.forward:,.0f} ± {mass.forward_error:.0f}",
                f"{mass.backward:,.0f} ± {mass.backward_error:.0f}", f"{mass.gap:,.0f}",
                f"{low:,.0f} … {high:,.0f}", "yes" if mass.converged else "no", f"{mass.visible_share:.0%}",
                f"{mass.gradients:,}", f"{mass.seconds:.0f}",
            )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    of = parser.add_subparsers(dest="what", required=True)
    known = of.add_parser("bodies")
    known.add_argument("--case", nargs="+", choices=BODIES, default=list(BODIES))
    known.add_argument("--seeds", type=int, default=20)
    known.add_argument("--effort", type=float, default=1.0, help="times the gradients of each case")
    real = of.add_parser("networks")
    real.add_argument("--case", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    real.add_argument(
        "--region", nargs="+", choices=("visible", "connected"), default=["visible", "connected"]
    )
    real.add_argument("--minutes", type=float, default=5.0)
    real.add_argument("--chains", type=int, default=8)
    real.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "volume_lib_integration")
    asked = parser.parse_args()
    print(f"{processor_name(torch.device('cpu'))}, torch {torch.__version__}\n")
    header = BODY_HEADER if asked.what == "bodies" else NETWORK_HEADER
    for cells in (header, ["---"] * len(header)):
        print("| " + " | ".join(cells) + " |")
    if asked.what == "bodies":
        rows = bodies(asked.case, asked.seeds, asked.effort)
    else:
        rows = networks(asked.case, asked.region, asked.minutes, asked.chains, asked.cache)
    for cells in rows:
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
