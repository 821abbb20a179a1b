"""volume_lib: how much of parameter space do the minima of neural networks occupy?

One model that is there already::

    from volume_lib import measure

    volume = measure(model, x, y, threshold=0.1)
    print(volume)

============================  ==========================================================================
``measure``, ``Volume``       the volume of one model's minimum, in memory
``compare``                   several volumes: a table, and which order is beyond doubt
``Problem``, ``Data``         to make a problem of one's own: data, networks, loss
``get_problem``               a problem by name
``make_dataset``              base, additional and test samples of one run
``train_models``              the minima of one run
``run_sweep``                 their losses along random rays, into files
``estimate_volumes``          from those to ``results.json``
``threshold_radii``           from one file to radii
``reproduce_direction``       the direction that a seed stands for
``load_models_and_data``      what a run's folder holds; ``load_sweep`` and ``load_results`` of its files
``InputError``                what is raised for anything a user wrote, named or placed wrongly
============================  ==========================================================================

Everything is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volume_lib._lazy import lazy

__version__ = "0.2.0"

__all__ = [
    "Data",
    "InputError",
    "Problem",
    "Volume",
    "compare",
    "estimate_volumes",
    "get_problem",
    "load_models_and_data",
    "load_results",
    "load_sweep",
    "make_dataset",
    "measure",
    "reproduce_direction",
    "run_sweep",
    "threshold_radii",
    "train_models",
]

if TYPE_CHECKING:
    from volume_lib.errors import InputError
    from volume_lib.measuring.comparison import compare
    from volume_lib.measuring.entry import measure
    from volume_lib.measuring.record import Volume
    from volume_lib.problems.base import Problem
    from volume_lib.problems.registry import get_problem
    from volume_lib.problems.splits import make_dataset
    from volume_lib.rays.directions import reproduce_direction
    from volume_lib.records import Data
    from volume_lib.storage.models import load_models_and_data
    from volume_lib.storage.results import load_results
    from volume_lib.storage.sweeps import load_sweep
    from volume_lib.sweep.run import run_sweep
    from volume_lib.training.runs import train_models
    from volume_lib.volume.estimate import estimate_volumes
    from volume_lib.volume.radii import threshold_radii

__getattr__, _ = lazy(
    __name__,
    {
        "errors": "InputError",
        "measuring.comparison": "compare",
        "measuring.entry": "measure",
        "measuring.record": "Volume",
        "problems.registry": "get_problem",
        "problems.base": "Problem",
        "problems.splits": "make_dataset",
        "rays.directions": "reproduce_direction",
        "records": "Data",
        "storage.models": "load_models_and_data",
        "storage.results": "load_results",
        "storage.sweeps": "load_sweep",
        "sweep.run": "run_sweep",
        "training.runs": "train_models",
        "volume.estimate": "estimate_volumes",
        "volume.radii": "threshold_radii",
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
