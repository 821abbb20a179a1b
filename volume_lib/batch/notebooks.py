"""Notebooks as files: read with care, given their parameters, and what their code says in short."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

from volume_lib import __version__, storage
from volume_lib.errors import InputError
from volume_lib.sources import sources_digest
from volume_lib.storage.archives import Refused, read_text

KEY = "volume_lib"
"""The entry of a notebook's metadata that is ours."""

PARAMETERS, INJECTED = "parameters", "injected-parameters"

_STATES = ("files of a step", dict)
_SCHEMA: dict[str, tuple[str, type]] = {
    "state": ("text", str),
    "cell": ("text", str),
    "error": ("text", str),
    "code": ("text", str),
    "launch": ("text", str),
    "template": ("text", str),
    "propagated": ("text", str),
    "problem": ("text", str),
    "data": ("text", str),
    "parameters": ("names and values", dict),
    "warnings": ("a list of text", list),
    "inputs": _STATES,
    "outputs": _STATES,
    "figures": _STATES,
    "foreign": _STATES,
    "aside": _STATES,
}
"""What a record may hold: name → what it is in words, and its type."""


def read_notebook(path: Path) -> dict[str, Any] | None:
    """The notebook's JSON; None where there is none. InputError, naming the key, for a damaged one."""
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError:
        return None
    except (OSError, Refused, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not a readable notebook ({error}); delete it, the next run clones it"
        ) from error
    if not isinstance(content, dict) or "cells" not in content:
        raise InputError(f"{path}: not a notebook; delete it, the next run clones it anew")
    _require(path, "cells", content["cells"], list, "a list")
    _require(path, "metadata", content.setdefault("metadata", {}), dict, "names and values")
    for i, cell in enumerate(content["cells"]):
        _check_cell(path, f"cells[{i}]", cell)
    _check_record(path, content["metadata"].get(KEY, {}))
    return content


def existing_notebook(path: Path) -> dict[str, Any]:
    """As :func:`read_notebook`; InputError where there is none."""
    notebook = read_notebook(path)
    if notebook is None:
        raise InputError(f"{path}: the notebook is gone; run again, which clones it")
    return notebook


def _require(path: Path, key: str, value: Any, kind: type | tuple[type, ...], words: str) -> None:
    if not isinstance(value, kind):
        raise InputError(f"{path}: {key} must be {words}, not {value!r:.60}; delete the notebook or mend it")


def _check_cell(path: Path, at: str, cell: Any) -> None:
    _require(path, at, cell, dict, "a cell")
    _require(path, f"{at}.cell_type", cell.get("cell_type"), str, "text")
    lines = cell.setdefault("source", "")
    _require(path, f"{at}.source", lines, (str, list), "text or lines")
    for line in lines:
        _require(path, f"{at}.source", line, str, "text or lines")
    _require(path, f"{at}.metadata", cell.setdefault("metadata", {}), dict, "names and values")
    tags = cell["metadata"].get("tags", [])
    _require(path, f"{at}.metadata.tags", tags, list, "a list of text")
    for tag in tags:
        _require(path, f"{at}.metadata.tags", tag, str, "a list of text")
    for output in cell.get("outputs", []) if isinstance(cell.get("outputs", []), list) else [None]:
        _require(path, f"{at}.outputs", output, dict, "a list of outputs")


def _check_record(path: Path, record: Any) -> None:
    where = f"metadata.{KEY}"
    _require(path, where, record, dict, "names and values")
    for name, (words, kind) in _SCHEMA.items():
        if name in record:
            _require(path, f"{where}.{name}", record[name], kind, words)
    for name in ("inputs", "outputs", "figures", "foreign", "aside"):
        for file, state in record.get(name, {}).items():
            sound = isinstance(state, list) and [type(part) for part in state] == [int, int, str]
            sound = sound and not Path(file).is_absolute() and "\0" not in file
            _require(
                path,
                f"{where}.{name}",
                state if sound else None,
                list,
                f"[size, time, digest] of {file!r:.60}",
            )
    if "state" in record:
        missing = [name for name in ("parameters", "code", "inputs", "outputs") if name not in record]
        if missing:
            raise InputError(f"{path}: {where} lacks {', '.join(missing)}; delete the notebook or mend it")


def write_notebook(path: Path, notebook: dict[str, Any]) -> None:
    """Write a notebook's JSON atomically, laid out as Jupyter does."""
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True, allow_nan=False)
    storage.write_bytes(path, (text + "\n").encode(), durable=False)


# --- what a notebook does


def source_of(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def tags_of(cell: dict[str, Any]) -> set[str]:
    return set(cell["metadata"].get("tags", []))


def _own_code(notebook: dict[str, Any]) -> list[str]:
    """The code cells but for the parameters: what the notebook does, whatever it was given."""
    cells = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    return [source_of(cell) for cell in cells if not {PARAMETERS, INJECTED} & tags_of(cell)]


def sources_digest_of(notebook: dict[str, Any]) -> str:
    """Digest of the code cells as they are written: how versions before this one told code apart."""
    return hashlib.blake2b("\0".join(_own_code(notebook)).encode(), digest_size=8).hexdigest()


def cells_digest(notebook: dict[str, Any]) -> str:
    """Digest of all that a person may have written: text, code and the defaults of the parameters."""
    left = {INJECTED, "papermill-error-cell-tag"}
    own = [f"{cell['cell_type']} {source_of(cell)}" for cell in notebook["cells"] if not left & tags_of(cell)]
    return "cells " + hashlib.blake2b("\0".join(own).encode(errors="replace"), digest_size=8).hexdigest()


def code_version(notebook: dict[str, Any], folder: Path) -> str:
    """What must not have changed for a result to count as this code's: the package's version, what the cells
    say (their comments and layout do not count) and the modules that they import from ``folder``.

    Not every byte of the package: a comment edited in a checkout must not train overnight's models again.
    Who changes what the library computes raises ``__version__``, or runs with ``--force``.
    """
    text = "\n".join(map(without_magics, _own_code(notebook)))
    return f"{__version__} code {sources_digest(text, folder)}"


def is_code_of(record: dict[str, Any], notebook: dict[str, Any], folder: Path) -> bool:
    """Whether ``record`` is of the notebook's present code; the last version's compare its letters."""
    former = f"{__version__} {sources_digest_of(notebook)}"
    return record.get("code") in (code_version(notebook, folder), former)


def without_magics(source: str) -> str:
    return "\n".join("pass" if line[:1] in "%!" and line else line for line in source.splitlines())


def is_template_unedited(notebook: dict[str, Any]) -> bool:
    """Whether a clone is what it was when it was cloned: its template may then be followed."""
    return _is_as(notebook, "template")


def is_as_placed(notebook: dict[str, Any]) -> bool:
    """Whether the workflow put a notebook there, by cloning or propagating, as it is."""
    return _is_as(notebook, "template") or _is_as(notebook, "propagated")


def _is_as(notebook: dict[str, Any], name: str) -> bool:
    told = notebook["metadata"].get(KEY, {}).get(name)
    return told in (cells_digest(notebook), sources_digest_of(notebook))


def cells_done(path: Path) -> str:
    """``" 3/8"``: code cells of a notebook in execution that have ended, of all; or empty."""
    try:
        notebook = read_notebook(path)
    except InputError:
        return ""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"] if notebook else []
    told = [cell["metadata"].get("papermill") for cell in cells]
    ended = sum(isinstance(entry, dict) and bool(entry.get("end_time")) for entry in told)
    return f" {ended}/{len(cells)}" if cells else ""


def warned(notebook: dict[str, Any]) -> list[str]:
    """The warnings that a notebook printed, once each."""
    found = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            text = output.get("text", "") if output.get("name") == "stderr" else ""
            lines = text if isinstance(text, str) else "".join(map(str, text))
            found += re.findall(r"\b(?:User|Runtime)Warning: (.+)", lines)
    return list(dict.fromkeys(line.strip() for line in found))


# --- values that JSON has not


def normalised(parameters: Any) -> Any:
    """As JSON has them, so that they compare with what was read from a notebook; infinity and NaN, which
    JSON has not, as text."""
    return json.loads(json.dumps(_finite(parameters)))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def strict_json(text: str) -> str:
    """A notebook's JSON without the infinities and NaN that Python writes and nobody else reads."""
    if "Infinity" not in text and "NaN" not in text:
        return text
    return json.dumps(_finite(json.loads(text)), indent=1, ensure_ascii=False, allow_nan=False)
