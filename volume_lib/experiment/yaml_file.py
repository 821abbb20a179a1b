"""YAML as people mean it: numbers as they are written, keys once, nothing that refers to itself."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from volume_lib.errors import InputError

LARGEST = 100_000
"""Values in a file, those behind aliases counted as often as they are used."""

_MERGE = "tag:yaml.org,2002:merge"
_MERGES = "; several are written <<: [*one, *other], and the first wins"


def read_yaml(text: str, path: Path) -> tuple[Any, set[str]]:
    """What ``text`` holds, and those of its first keys whose values it uses again (``base: &base …``,
    ``<<: *base``).

    :class:`InputError` in one line for what is no YAML, or means something other
    than what it looks like: a key twice, ``010`` (which YAML takes for 8), ``1:30`` (for 90)."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, set()
        uses: Counter[int] = Counter()
        _check(node, (), {}, uses)
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        shared = {key.value for key, value in pairs if uses[id(value)] > 1}
        return loader.construct_document(node), shared
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" at line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}: not valid YAML{line}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise InputError(f"{path}: not valid YAML: nested too deeply") from error
    except (ValueError, OverflowError, TypeError, AttributeError) as error:  # such as the 99th of May
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


class _Loader(yaml.SafeLoader):
    """The safe loader, for numbers that are written as they are meant."""

    def number(self, node: yaml.ScalarNode) -> Any:
        plain = self.construct_scalar(node).replace("_", "").lstrip("+-").lower()
        if re.match(r"0[0-9]", plain):
            raise _wrong(node, f"{node.value}: numbers have no leading zeros (text has quotes)")
        if ":" in plain:
            raise _wrong(node, f"{node.value}: is no number (text has quotes)")
        is_int = node.tag == "tag:yaml.org,2002:int"
        return self.construct_yaml_int(node) if is_int else self.construct_yaml_float(node)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.number)


def _check(node: yaml.Node, above: tuple[int, ...], sizes: dict[int, int], uses: Counter[int]) -> int:
    """Number of values below ``node``; raises for keys twice, circles and what is beyond all measure."""
    if id(node) in above:
        raise _wrong(node, "refers to itself")
    uses[id(node)] += 1
    if id(node) in sizes:
        return sizes[id(node)]
    if isinstance(node, yaml.ScalarNode):
        if "\0" in node.value or any(0xD800 <= ord(letter) < 0xE000 for letter in node.value):
            raise _wrong(node, "holds a character that no text has")
        return 1
    below = (
        node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
    )
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
    sizes[id(node)] = 1 + sum(_check(child, (*above, id(node)), sizes, uses) for child in below)
    if sizes[id(node)] > LARGEST:
        raise _wrong(node, f"more than {LARGEST:,} values")
    return sizes[id(node)]


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _wrong(key, "a key must be text")
        if (key.tag, key.value) in seen:
            raise _wrong(key, f"{key.value} twice{_MERGES * (key.tag == _MERGE)}")
        seen.add((key.tag, key.value))


def _wrong(node: yaml.Node, told: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, told, node.start_mark)
