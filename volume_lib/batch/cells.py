"""A run's parameters in its notebook: the cell that sets them, and what its other cells assign."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import Any

from volume_lib.batch.notebooks import (
    INJECTED,
    PARAMETERS,
    normalised,
    source_of,
    tags_of,
    without_magics,
)
from volume_lib.errors import InputError


def inject(path: Path, notebook: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Put ``parameters`` in a cell after the one tagged ``parameters``, as papermill does.

    A cell that says the same already stays, and what came out of it. Cells that lost their tags are known by
    what they assign, and tagged again. InputError where no cell is known for the parameters, or a later one
    sets another value: the step would run with it.
    """
    cells = notebook["cells"]
    _tag_again(path, cells, set(parameters))
    at = next((i for i, cell in enumerate(cells) if INJECTED in tags_of(cell)), None)
    defaults = max((i for i, cell in enumerate(cells) if PARAMETERS in tags_of(cell)), default=-1)
    if at is not None and at < defaults:
        cells.insert(defaults, cells.pop(at))
        at = defaults
    if at is None:
        at = defaults + 1
        cell = {"cell_type": "code", "metadata": {"tags": [INJECTED]}, "source": ""}
        if (notebook.get("nbformat"), notebook.get("nbformat_minor", 0)) >= (4, 5):
            cell["id"] = INJECTED
        cells.insert(at, cell)
    if not _same(_assigned(source_of(cells[at])), parameters):
        lines = [f"{name} = {_literal(value)}" for name, value in parameters.items()]
        source = "\n".join(["# Parameters of experiment.yaml", *lines])
        cells[at] |= {"source": source.splitlines(keepends=True), "outputs": [], "execution_count": None}
    _check_not_set_again(path, cells[at + 1 :], parameters, at + 1)


def _tag_again(path: Path, cells: list[dict[str, Any]], names: set[str]) -> None:
    if any({PARAMETERS, INJECTED} & tags_of(cell) for cell in cells):
        return
    known = [cell for cell in cells if cell["cell_type"] == "code" and _assigns_mostly(cell, names)]
    if not known:
        raise InputError(
            f"{path}: no cell is tagged {PARAMETERS}, and none is known for it; tag one, or delete it"
        )
    for cell, tag in zip(known[:2], (PARAMETERS, INJECTED), strict=False):
        cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), tag]


def _assigns_mostly(cell: dict[str, Any], names: set[str]) -> bool:
    """Whether a cell consists of assignments of plain values, at least half of them to ``names``."""
    found = set(_assigned(source_of(cell)) or ())
    return bool(found) and 2 * len(found & names) >= len(found)


def _check_not_set_again(path: Path, cells: list[dict], parameters: dict[str, Any], first: int) -> None:
    for i, cell in enumerate(cells, start=first):
        if cell["cell_type"] != "code":
            continue
        for name, value in _assignments(without_magics(source_of(cell))):
            if name in parameters and not _same(value, parameters[name]):
                raise InputError(
                    f"{path}: cell {i + 1} sets {name} = {value!r}, where {parameters[name]!r} is asked for: "
                    "delete that line; parameters are set in experiment.yaml"
                )


def _same(one: Any, other: Any) -> bool:
    try:
        return normalised(one) == normalised(other)
    except TypeError:  # no value of JSON
        return False


def _literal(value: Any) -> str:
    """Python for a plain value."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_literal(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return repr(value)


class _Floats(ast.NodeTransformer):
    """``float("inf")`` as the value that it is."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        is_float = isinstance(node.func, ast.Name) and node.func.id == "float" and len(node.args) == 1
        value = node.args[0].value if is_float and isinstance(node.args[0], ast.Constant) else None
        if isinstance(value, str | int | float):
            return ast.copy_location(ast.Constant(float(value)), node)
        return node


def _assigned(source: str) -> dict[str, Any] | None:
    """The values of a cell of plain assignments; None where it is anything else."""
    try:
        body = ast.parse(source).body
        if not all(isinstance(line, ast.Assign | ast.AnnAssign | ast.Expr) for line in body):
            return None
        found = dict(_assignments(source))
        return found if len(found) == sum(not isinstance(line, ast.Expr) for line in body) else None
    except (SyntaxError, ValueError, RecursionError):
        return None


def _assignments(source: str) -> list[tuple[str, Any]]:
    """Name and value of the plain assignments at the top level of ``source``."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError):
        return []
    found = []
    for line in body:
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        if not isinstance(line, ast.Assign | ast.AnnAssign) or line.value is None:
            continue
        try:
            value = ast.literal_eval(_Floats().visit(line.value))
        except (ValueError, TypeError, SyntaxError, RecursionError):
            continue
        found += [(target.id, value) for target in targets if isinstance(target, ast.Name)]
    return found
