"""What code says, in 16 letters that compare: comments, docstrings and layout do not count.

With a file go the files that it imports from beside it, and so on.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path


def source_digest(path: Path, *more: Path) -> str:
    """What a file of code says, and the files that it imports from beside it or from the folders ``more``."""
    return sources_digest(path.read_text(encoding="utf-8", errors="replace"), path.parent, *more)


def sources_digest(text: str, *folders: Path) -> str:
    """As :func:`source_digest`, of a ``text`` whose imports are looked for in ``folders``."""
    told = [f"{found.name} {code_text(code)}" for found, code in _all_imported(text, folders)]
    return short_digest("\0".join([code_text(text), *sorted(told)]))


def modules_beside(path: Path) -> list[str]:
    """Names of the modules that a file of code imports from beside it, and that these import."""
    text = path.read_text(encoding="utf-8", errors="replace")
    below = (found for found, _ in _all_imported(text, (path.parent,)) if path.parent in found.parents)
    stems = (found.parent if found.name == "__init__.py" else found.with_suffix("") for found in below)
    return [".".join(stem.relative_to(path.parent).parts) for stem in stems]


def _all_imported(text: str, folders: tuple[Path, ...]) -> Iterator[tuple[Path, str]]:
    """The files in ``folders`` that ``text`` imports, and those that these do, with what they say."""
    waiting, seen = [(text, folders)], set()
    while waiting:
        code, places = waiting.pop()
        for found in _imported(code, places):
            if found not in seen:
                seen.add(found)
                code = found.read_text(encoding="utf-8", errors="replace")
                yield found, code
                waiting.append((code, (found.parent, *folders)))


def code_text(source: str) -> str:
    """Code without comments, docstrings and layout; as it is where it is no Python."""
    tree = _parsed(source)
    if tree is None:
        return source
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                node.body = body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _imported(source: str, folders: Iterable[Path]) -> Iterator[Path]:
    """The files in ``folders`` that ``source`` imports."""
    for node in ast.walk(_parsed(source) or ast.Module([], [])):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            top = node.module or ""
            names = [top, *(f"{top}.{alias.name}".lstrip(".") for alias in node.names)]
        for name in filter(None, names):
            parts = name.split(".")
            stems = [Path(*parts[: i + 1]) for i in range(len(parts))]
            for folder in folders:
                inside = [folder / stem.with_suffix(".py") for stem in stems]
                inside += [folder / stem / "__init__.py" for stem in stems]
                yield from (path for path in inside if path.is_file())


def short_digest(text: str) -> str:
    """16 letters for a text."""
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()
