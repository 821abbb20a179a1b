"""The command line: ``python -m volume_lib demo | new | make | run | status | clean | propagate | import |
report``.

Exit codes: 0, all is well; 1, a step failed; 2, something the user wrote, named or placed is wrong (one line
says what); 130, interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from volume_lib.errors import InputError
from volume_lib.experiment.file import STEPS, read_experiment

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Volumes of the minima of neural networks: many runs, from one experiment.yaml.",
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="folder of an experiment.yaml")]
Tree = Annotated[Path, typer.Argument(metavar="DIR", help="folder of an experiment, or of several")]


@contextmanager
def _told_in_one_line() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    except OSError as error:  # a full disk, a folder that cannot be written to …
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(130) from error


@app.command()
def demo(out: Annotated[Path, typer.Option(help="where to put it")] = Path("demo")) -> None:
    """The whole workflow on a small problem: three runs, all notebooks, figures; a few minutes."""
    with _told_in_one_line():
        from volume_lib.batch.beginnings import write_demo

        write_demo(out)
        outcome = _run(out)
        _list_figures(out)
    raise typer.Exit(outcome.exit_code)


@app.command()
def new(
    folder: Folder, problem: Annotated[str, typer.Option(help="swiss_roll, mnist … or file.py:Class")]
) -> None:
    """A new experiment.yaml to edit, with levels that fit the problem's data."""
    with _told_in_one_line():
        from volume_lib.batch.beginnings import new_experiment

        path = new_experiment(folder, problem)
        typer.echo(f"{path}\nedit it, then: python -m volume_lib run {folder}")


@app.command()
def make(folder: Folder) -> None:
    """Clone and parameterise the run folders; run nothing."""
    with _told_in_one_line():
        from volume_lib import batch

        for path in batch.make(folder):
            typer.echo(path)


@app.command()
def run(
    folder: Folder,
    seeds: Annotated[str | None, typer.Option(help="which runs, by position: 0:10, 3 or 0,4,7")] = None,
    steps: Annotated[str, typer.Option(help="some of them, separated by commas")] = ",".join(STEPS),
    workers: Annotated[
        int | None, typer.Option(min=1, help="local processes; default: one per GPU or core")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="address of a Dask scheduler, tcp://host:8786")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="also what is done already")] = False,
) -> None:
    """Run the notebooks of every run, then the analysis; what is done already is skipped."""
    with _told_in_one_line():
        if workers and scheduler:
            raise InputError("--workers and --scheduler: give one of them; a scheduler has its own workers")
        from volume_lib.batch.agenda import parse_runs

        names = [name.strip() for name in steps.split(",") if name.strip()]
        outcome = _run(
            folder, runs=parse_runs(seeds), steps=names, workers=workers, scheduler=scheduler, force=force
        )
    raise typer.Exit(outcome.exit_code)


def _run(folder: Path, **arguments: Any) -> Any:
    from volume_lib import batch

    outcome = batch.run(folder, **arguments)
    typer.echo(str(outcome))
    return outcome


@app.command()
def status(folder: Tree) -> None:
    """Runs and steps: done, failed and why, pending."""
    with _told_in_one_line():
        from volume_lib import batch

        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        typer.echo(batch.status(folder).text(colour=colour))


@app.command()
def clean(
    folder: Tree,
    what: Annotated[str, typer.Option(help="models, perturbs, volumes or all")],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Delete files that the workflow wrote, after showing which."""
    with _told_in_one_line():
        from volume_lib import batch

        found = batch.cleanable(folder, what)
        for place in found:
            typer.echo(place)
        total = batch.size_words(sum(place.size for place in found))
        if not found:
            typer.echo("nothing to delete")
        elif yes or typer.confirm(f"delete {total} in {sum(len(place.files) for place in found)} files?"):
            batch.clean(folder, what)
            typer.echo(f"{total} deleted")


@app.command("import")
def import_(
    folder: Folder,
    checkpoint: Annotated[
        list[str], typer.Option(help="LEVEL=FILE, once for each model: 0=a.pt, a state_dict in a .pt file")
    ],
    problem: Annotated[
        str | None, typer.Option(help="where DIR has no experiment.yaml yet: the problem to write there")
    ] = None,
    model: Annotated[str | None, typer.Option(help="and its network: '{hidden_dims: [256]}'")] = None,
    run: Annotated[
        int | None, typer.Option(min=0, help="position of the run, where there are several")
    ] = None,
) -> None:
    """Make models trained elsewhere those of a run: measured, never retrained or replaced."""
    with _told_in_one_line():
        from volume_lib.batch.importing import import_checkpoints
        from volume_lib.experiment.yaml_file import read_yaml

        arguments = read_yaml(model, Path("--model"))[0] if model else {}
        if not isinstance(arguments, dict):
            raise InputError(f"--model {model}: must hold names and values, such as {{hidden_dims: [256]}}")
        named = parse_checkpoints(checkpoint)
        for path in import_checkpoints(folder, named, problem=problem, model=arguments, run=run):
            typer.echo(path)


def parse_checkpoints(texts: list[str]) -> dict[int, str]:
    """``["0=a.pt"]`` as levels and files."""
    found: dict[int, str] = {}
    for text in texts:
        level, equals, path = text.partition("=")
        if not (equals and path and level.isdecimal()):
            raise InputError(f"--checkpoint {text}: must be LEVEL=FILE, such as 0=a.pt")
        if int(level) in found:
            raise InputError(f"--checkpoint {text}: level {level} twice")
        found[int(level)] = path
    return found


@app.command()
def propagate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="the file to copy")],
    folder: Tree,
    force: Annotated[bool, typer.Option("--force", help="also over files edited in a run folder")] = False,
) -> None:
    """Copy one file into all run folders; notebooks keep each run's parameters."""
    with _told_in_one_line():
        from volume_lib import batch

        for path in batch.propagate(file, folder, force=force):
            typer.echo(path)


@app.command()
def report(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option(help="the page to write; default: analysis/report.html in DIR")
    ] = None,
    code: Annotated[bool, typer.Option("--code", help="show the code of the cells as well")] = False,
) -> None:
    """The analysis of an experiment as one HTML page, figures inside."""
    with _told_in_one_line():
        from volume_lib.batch.page import html_page

        typer.echo(html_page(folder, out, code=code))


def _list_figures(folder: Path) -> None:
    from volume_lib import storage

    experiment = read_experiment(folder)
    for place in [*(folder / run.name for run in experiment.run_seeds), storage.analysis_dir(folder)]:
        for path in sorted(place.rglob("*.png")):
            typer.echo(path)
