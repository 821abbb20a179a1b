"""The analysis of an experiment as one HTML page, to send or to keep."""

from __future__ import annotations

from pathlib import Path

from volume_lib import storage
from volume_lib.analysis import load_experiment
from volume_lib.batch.engine import run
from volume_lib.batch.resources import Resources, cores
from volume_lib.batch.steps import ANALYSIS_NOTEBOOK, template_path
from volume_lib.errors import InputError
from volume_lib.experiment.file import FILE_NAME


def html_page(folder: str | Path, out: str | Path | None = None, *, code: bool = False) -> Path:
    """Write the executed analysis of ``folder`` as one page with its figures inside; returns its path.

    ``out``: the file, by default ``<folder>/analysis/report.html``. ``code``: show the cells' code too. The
    analysis is executed first where it is not up to date; experiments of older notebooks, without an
    experiment.yaml, are executed each time. Raises :class:`InputError` where there is nothing to analyse or
    a cell of the analysis fails.
    """
    from nbconvert import HTMLExporter
    from nbformat import read

    folder = Path(folder)
    experiment = load_experiment(folder)
    notebook = storage.analysis_dir(folder) / ANALYSIS_NOTEBOOK
    if (folder / FILE_NAME).exists():
        report = run(folder, steps=["analysis"])
        if report.exit_code:
            raise InputError(str(report))
    else:
        _execute(notebook)
    exporter = HTMLExporter(exclude_input=not code, exclude_input_prompt=True, exclude_output_prompt=True)
    resources = {"metadata": {"name": experiment.name}}
    content, _ = exporter.from_notebook_node(read(notebook, as_version=4), resources)
    out = Path(out) if out is not None else storage.analysis_dir(folder) / "report.html"
    storage.write_bytes(out, content.encode())
    return out


def _execute(notebook: Path) -> None:
    from volume_lib.batch.kernels import Execution, NotebookFailed

    storage.write_bytes(notebook, template_path("analysis").read_bytes())
    environment = Resources(threads=cores()).environment()
    try:
        Execution(notebook, {"experiment_dir": ".."}, environment).run()
    except NotebookFailed as error:
        raise InputError(f"{notebook}: {error}") from error
