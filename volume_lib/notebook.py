"""What the shipped notebooks share: errors in one line, figures with their captions, and a run to look at."""

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
_EXAMPLE_LEVELS = [0, 20, 70, 190]
_EXAMPLE_DIRECTIONS = 200

_numbers: dict[str, int] = {}
"""Number of each caption shown since :func:`start`."""


def start() -> None:
    """From here on, an error of ours and the Stop button are one line in this notebook, not a traceback.

    The cell still counts as failed, for a batch too. All other errors keep their traceback: they are bugs,
    or in code of one's own. Figures are numbered from 1. Outside a notebook, errors are as ever.
    """
    from IPython import get_ipython

    _numbers.clear()
    shell = get_ipython()
    if shell is not None:
        shell.set_custom_exc((InputError, KeyboardInterrupt), _one_line)


def _one_line(
    shell: Any, kind: type, error: BaseException, traceback: Any, tb_offset: Any = None
) -> list[str]:
    if issubclass(kind, KeyboardInterrupt):
        print(_STOPPED)  # asked for, and no error: where ordinary lines go
        return [_STOPPED]
    line = f"{kind.__name__}: {error}"
    shell._showtraceback(kind, error, [line])
    return [line]


def show(drawn: Any, text: str) -> None:
    """Show a matplotlib figure, or that of an axes, with its numbered caption below it, and close it."""
    from IPython.display import display

    from volume_lib import plots

    display(plots.figure_of(drawn))
    caption(text)
    plots.close(drawn)


def caption(text: str) -> None:
    """The caption of what this cell has just shown, with the next number.

    Only what is drawn is counted, so that numbers follow each other whatever there was nothing to draw for.
    A cell that is run again keeps its numbers.
    """
    from IPython.display import Markdown, display

    number = _numbers.setdefault(text, len(_numbers) + 1)
    display(Markdown(f"**Figure {number}.** {text}"))


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
    last = _EXAMPLE_LEVELS[-1]
    if storage.sweep_path(folder, "data", last, "additional", last).is_file():  # the last that is written
        return folder
    from volume_lib.problems.registry import get_problem
    from volume_lib.problems.splits import make_dataset
    from volume_lib.sweep.run import run_sweep
    from volume_lib.training.runs import train_models

    print(f"There is no demo yet: an example is made in {folder.resolve()}")
    problem = get_problem("swiss_roll")
    dataset = make_dataset(problem, base_data_size=10, dataset_quantities=_EXAMPLE_LEVELS, data_seed=10)
    models = train_models(
        problem, dataset, folder=folder / "models_and_data", model_seed=0, **_EXAMPLE_TRAINING
    )
    run_sweep(problem, models, dataset, folder, num_directions=_EXAMPLE_DIRECTIONS, loss_thresholds=[0.1])
    return folder
