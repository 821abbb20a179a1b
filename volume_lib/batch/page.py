"""The analysis of an experiment as one HTML page, to send or to keep."""

from __future__ import annotations

import re
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from volume_lib import __version__, storage
from volume_lib.analysis import load_experiment
from volume_lib.batch.engine import run
from volume_lib.batch.resources import Resources, cores
from volume_lib.batch.steps import ANALYSIS_NOTEBOOK, template_path
from volume_lib.errors import InputError
from volume_lib.experiment.file import FILE_NAME
from volume_lib.sources import short_digest


def html_page(folder: str | Path, out: str | Path | None = None, *, code: bool = False) -> Path:
    """Write the executed analysis of ``folder`` as one page with its figures inside; returns its path.

    ``out``: the file, by default ``<folder>/analysis/report.html``. ``code``: show the cells' code too. The
    analysis is executed first where it is not up to date; experiments of older notebooks, without an
    experiment.yaml, are executed each time. Raises :class:`InputError` where there is nothing to analyse or
    a cell of the analysis fails.
    """
    from nbformat import read

    folder = Path(folder)
    out = Path(out) if out is not None else storage.analysis_dir(folder) / "report.html"
    if out.exists() and not _is_ours(out):
        raise InputError(f"{out}: no page that report wrote, or changed since; move it away or give --out")
    experiment = load_experiment(folder)
    notebook = storage.analysis_dir(folder) / ANALYSIS_NOTEBOOK
    if (folder / FILE_NAME).exists():
        outcome = run(folder, steps=["analysis"])
        if outcome.exit_code:
            raise InputError(str(outcome))
    else:
        _execute(notebook)
    content = dressed(page_of(read(notebook, as_version=4), experiment.name, code=code), folder)
    storage.write_bytes(out, (content + _seal(content)).encode())
    return out


def _seal(page: str) -> str:
    """What ends a page of ours: it says whether anybody has changed it."""
    return f"\n<!-- volume_lib report {short_digest(page)} -->\n"


def _is_ours(path: Path) -> bool:
    page, _, seal = path.read_text(encoding="utf-8", errors="replace").rpartition("\n<!--")
    return f"\n<!--{seal}" == _seal(page)


_LOOK = """<style>
main { max-width: 46rem; margin: 0 auto; padding: 0 1rem; overflow-wrap: anywhere; }
main img { max-width: 100%; height: auto; }
main table, main pre { display: block; max-width: 100%; overflow-x: auto; }
main > header { border-bottom: 1px solid #bbb; margin: 1rem 0; }
@media print { main { max-width: none; } main pre { white-space: pre-wrap; } }
@media print { .jp-Cell { break-inside: avoid; } }
</style>
"""


def dressed(page: str, folder: Path) -> str:
    """The page with what it is about on top, alt texts from captions, and nothing loaded from elsewhere."""
    page = re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL | re.IGNORECASE)
    page = re.sub(r"<link\b[^>]*>", "", page, flags=re.IGNORECASE)
    page = re.sub(r'(<img\b[^>]*?\balt=)"[^"]*"', lambda found: f'{found[1]}"{_caption(page, found)}"', page)
    settings = folder / FILE_NAME
    shown = f"<pre>{escape(settings.read_text(encoding='utf-8'))}</pre>" if settings.is_file() else ""
    told = f"{datetime.now():%Y-%m-%d %H:%M}, volume_lib {__version__}"
    name = escape(folder.resolve().as_posix().split("/experiments/")[-1])
    header = f"<header><h1>{name}</h1><p>{told}</p>{shown}</header>"
    page = page.replace("</head>", _LOOK + "</head>", 1)
    return re.sub(r"<main\b[^>]*>", lambda found: found[0] + header, page, count=1)


def _caption(page: str, image: re.Match) -> str:
    """The words of the first caption after an image."""
    found = re.compile(r"<strong>(Figure \d+\.)</strong>(.*?)</p>", re.DOTALL).search(page, image.end())
    return escape(" ".join(re.sub(r"<[^>]*>", "", found[1] + found[2]).split())) if found else "figure"


def page_of(notebook: Any, name: str, *, code: bool = False) -> str:
    """The HTML of an executed notebook: its text, and of its outputs what no browser runs.

    Figures are images, tables are cleaned of scripts and handlers, all else is plain text. What other tools
    left in the metadata, such as the states of their widgets, is not looked at.
    """
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        exclude_input=not code, exclude_input_prompt=True, exclude_output_prompt=True, sanitize_html=True
    )
    exporter.register_filter("clean_html", _clean)
    html, _ = exporter.from_notebook_node(_harmless(notebook), {"metadata": {"name": escape(name)}})
    return html


_PROSE = "p br hr h1 h2 h3 h4 h5 h6 div span pre code sub sup del caption table thead tbody tfoot tr th td"


def _clean(text: Any) -> str:
    """The tags of prose and tables stay, the exporter's own list lacks most; all others are escaped."""
    import bleach

    attributes = {"*": ["class", "id", "colspan", "rowspan", "scope"], "a": ["href", "title"]}
    return bleach.clean(str(text), tags={*bleach.ALLOWED_TAGS, *_PROSE.split()}, attributes=attributes)


def _harmless(notebook: Any) -> Any:
    """A new notebook of the same cells, without metadata, and with harmless outputs."""
    from nbformat import v4

    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cells.append(v4.new_markdown_cell(_for_readers(cell.source)))
        elif cell.cell_type == "code":
            outputs = [new for output in cell.outputs if (new := _harmless_output(output)) is not None]
            cells.append(v4.new_code_cell(cell.source, outputs=outputs))
    return v4.new_notebook(cells=cells)


def _for_readers(text: str) -> str:
    """Less the paragraphs that tell the notebook's user what to do."""
    return "\n\n".join(part for part in text.split("\n\n") if not part.startswith(("Set `", "**Next:**")))


def _harmless_output(output: Any) -> Any:
    from nbformat import v4

    kind = output.output_type
    if kind == "stream":
        return v4.new_output("stream", name="stdout", text=str(output.get("text", "")))
    if kind not in ("display_data", "execute_result"):
        return None
    data = {name: value for name, value in output.get("data", {}).items() if _is_harmless(name, value)}
    return v4.new_output("display_data", data=data) if data else None


def _is_harmless(name: str, value: Any) -> bool:
    """Images that are nothing else, and text that the exporter escapes or cleans."""
    if name in ("image/png", "image/jpeg"):
        return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9+/=\s]*", value) is not None
    return name in ("text/plain", "text/html", "text/markdown") and isinstance(value, str)


def _execute(notebook: Path) -> None:
    from volume_lib.batch.kernels import Execution, NotebookFailed

    storage.write_bytes(notebook, template_path("analysis").read_bytes())
    environment = Resources(threads=cores()).environment()
    try:
        Execution(notebook, {"experiment_dir": ".."}, environment).run()
    except NotebookFailed as error:
        raise InputError(f"{notebook}: {error}") from error
