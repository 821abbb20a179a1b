"""What the shipped notebooks share: errors in one line, and a run to look at where none has been made yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from volume_lib import storage
from volume_lib.errors import InputError

_STOPPED = (
    "Stopped. What was finished before is kept in the files: run the cell again, and it goes on from there."
)
_EXAMPLE = "example/model_0_data_10"
_EXAMPLE_TRAINING = {"epochs": 3000, "batch_size": 200, "learning_rate": 0.003, "target_train_loss": 0.01}
_EXAMPLE_DIRECTIONS = 200


def start() -> None:
    """From here on, an error of ours and the Stop button are one line in this notebook, not a traceback.

    The cell still counts as failed, for a batch too. All other errors keep their traceback: they are bugs,
    or in code of one's own. Does nothing outside a notebook.
    """
    from IPython import get_ipython

    shell = get_ipython()
    if shell is not None:
        shell.set_custom_exc((InputError, KeyboardInterrupt), _one_line)


def _one_line(
    shell: Any, kind: type, error: BaseException, traceback: Any, tb_offset: Any = None
) -> list[str]:
    line = _STOPPED if issubclass(kind, KeyboardInterrupt) else f"{kind.__name__}: {error}"
    shell._showtraceback(kind, error, [line])
    return [line]


def run_folder(run_dir: str | Path | None, *, rays: bool = True) -> Path:
    """The run that a notebook of ``visualization/`` is to show.

    Args:
        run_dir: a run's folder. None: the first run of the demo in ``demo/``, here or in a folder above, and
            else an example that is made now in ``example/`` (two spirals, four minima, 200 directions; about
            a minute, once).
        rays: whether the notebook needs the files of *Random Perturbs* too.

    Raises:
        InputError: ``run_dir`` has no models, or no rays; names the notebook that makes them.
    """
    if run_dir is None:
        here = Path.cwd()
        demos = (folder / "demo" / "model_0_data_10" for folder in (here, *here.parents))
        found = next((demo for demo in demos if not _missing(demo, rays)), None)
        folder = found or _make_example(Path(_EXAMPLE))
        print(f"run: {folder}")
        return folder
    folder = Path(run_dir)
    if missing := _missing(folder, rays):
        raise InputError(
            f"{folder}: no {missing}; name a run folder that has them, "
            "or leave run_dir at None for an example that is made for you"
        )
    return folder


def _missing(folder: Path, rays: bool) -> str:
    if not (folder / "models_and_data" / "dataset.pt").is_file():
        return f"models ({storage.TRAIN_NOTEBOOK} makes them)"
    if rays and not storage.list_sweeps(folder):
        return f"rays ({storage.PERTURB_NOTEBOOK} makes them)"
    return ""


def _make_example(folder: Path) -> Path:
    """A run of the swiss roll as the first of the demo; what is there already is not made again."""
    from volume_lib.problems.registry import get_problem
    from volume_lib.problems.splits import make_dataset
    from volume_lib.sweep.run import run_sweep
    from volume_lib.training.runs import train_models

    print(f"There is no demo yet: an example is made in {folder.resolve()}")
    problem = get_problem("swiss_roll")
    dataset = make_dataset(problem, base_data_size=10, dataset_quantities=[0, 20, 70, 190], data_seed=10)
    models = train_models(
        problem, dataset, folder=folder / "models_and_data", model_seed=0, **_EXAMPLE_TRAINING
    )
    run_sweep(problem, models, dataset, folder, num_directions=_EXAMPLE_DIRECTIONS, loss_thresholds=[0.1])
    return folder
