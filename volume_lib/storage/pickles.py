"""A reader of pickles that builds plain values, arrays and tensors, and runs nothing.

A pickle is a program: ``numpy.load(allow_pickle=True)`` and ``torch.load(weights_only=False)`` import and
call whatever it names, and even the harmless functions of numpy can be handed a state that makes them
read foreign memory. Here the program is interpreted step by step. A name stands for a :class:`Maker` of
ours, or is refused; a state goes to nothing but a :class:`Pending` of ours; what the program may build
is bounded by the size of its file.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable
from itertools import repeat
from typing import Any

import numpy as np

from volume_lib.storage.archives import Refused

_DEEPEST = 50
_LARGEST_KEY = 1 << 61
"""Whole numbers below it have hashes of their own; a dictionary of colliding keys would take for ever."""


class RefusedName(Refused):
    """The file asks for something outside the list of names; ``name`` is its dotted name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"its pickle names {' '.join(name.split())[:100]}, which no file of this workflow does"
        )


class Maker:
    """What a name in a pickle stands for: a function of ours. No ``__dict__``: there is nothing to set.

    ``shortcut(machine)``: takes the steps that usually follow the name all at once, and says whether it did;
    else nothing has changed.
    """

    __slots__ = ("make", "shortcut")

    def __init__(self, make: Callable[..., Any], shortcut: Callable[[Machine], bool] | None = None) -> None:
        self.make, self.shortcut = make, shortcut


class Marker:
    """A name that is only ever an argument, such as ``numpy.ndarray``; ``value`` is what it means."""

    __slots__ = ("value",)

    def __init__(self, value: Any = None) -> None:
        self.value = value


class Pending:
    """Something that a state completes: ``finish(state)`` gives the value that takes its place."""

    __slots__ = ("finish", "value")

    def __init__(self, finish: Callable[[Any], Any]) -> None:
        self.finish, self.value = finish, None


class Leaf:
    """What may be a value of a pickle beside the plain ones."""

    __slots__ = ()


class Odd(Leaf):
    """A value that no file of ours has (a sparse tensor …), read so that its key can be named; ``kind``."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Machine:
    """Interprets the pickle that begins at ``at`` in ``data``; afterwards ``at`` is behind it.

    Args:
        names: dotted name → :class:`Maker`, :class:`Marker` or a plain value.
        persistent: what stands for a persistent id; None refuses them.
        budget: how many steps the program may take.
    """

    def __init__(
        self,
        data: bytes,
        names: dict[str, Any],
        *,
        persistent: Callable[[Any], Any] | None = None,
        budget: int | None = None,
        at: int = 0,
    ) -> None:
        self.data, self.at, self.names, self.persistent = data, at, names, persistent
        self.budget = len(data) if budget is None else budget
        self.containers = 100_000 + self.budget // 4
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The value. Raises :class:`Refused`, or whatever a damaged program leads to."""
        data, steps = self.data, _STEPS
        for _ in repeat(None, self.budget):
            code = data[self.at]
            self.at += 1
            if code == _STOP:
                value = self.stack.pop()
                if type(value) is Pending:
                    value = _finished(value)
                _check_extent(value, 100_000 + 2 * len(data))
                return value
            step = steps.get(code)
            if step is None:
                raise Refused(f"its pickle has the step {code:#04x}, which no file of this workflow does")
            step(self)
        raise Refused("its pickle takes more steps than a file of its size has values")

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise ValueError("the pickle ends early")
        part = self.data[self.at : end]
        self.at = end
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        end = self.data.index(b"\n", self.at)
        text = self.data[self.at : end].decode()
        self.at = end + 1
        return text

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def count(self, containers: int) -> None:
        self.containers -= containers
        if self.containers < 0:
            raise Refused("its pickle builds more lists and dictionaries than its size allows")

    def counted(self, container: Any) -> Any:
        self.count(1)
        return container

    def named(self, module: str, name: str) -> Any:
        dotted = f"{module}.{name}"
        try:
            return self.names[dotted]
        except KeyError:
            raise RefusedName(dotted) from None


def _finished(pending: Pending) -> Any:
    if pending.value is None:
        raise Refused("its pickle uses an array before its content")
    return pending.value


# --- the steps


def _fixed(value: Any) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(value)


def _whole(size: int, signed: bool = False) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        machine.stack.append(int.from_bytes(machine.take(size), "little", signed=signed))

    return step


def _long(machine: Machine) -> None:
    machine.stack.append(int.from_bytes(machine.take(machine.number(1)), "little", signed=True))


def _double(machine: Machine) -> None:
    machine.stack.append(struct.unpack(">d", machine.take(8))[0])


def _text(size: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        machine.stack.append(machine.take(machine.number(size)).decode("utf-8", "surrogatepass"))

    return step


def _bytes(size: int, kind: type = bytes) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        machine.stack.append(kind(machine.take(machine.number(size))))

    return step


def _empty(kind: type) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(machine.counted(kind()))


def _mark(machine: Machine) -> None:
    machine.marks.append(machine.counted(machine.stack))
    machine.stack = []


def _tuple(count: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        stack = machine.stack
        if len(stack) < count:
            raise ValueError("nothing to put together")
        stack[-count:] = [machine.counted(tuple(stack[-count:]))]

    return step


def _marked_tuple(machine: Machine) -> None:
    items = machine.since_mark()
    machine.stack.append(machine.counted(tuple(items)))


def _append(machine: Machine) -> None:
    value = machine.stack.pop()
    _list(machine).append(value)


def _appends(machine: Machine) -> None:
    items = machine.since_mark()
    _list(machine).extend(items)


def _list(machine: Machine) -> list[Any]:
    if type(machine.stack[-1]) is not list:
        raise ValueError("appends to what is no list")
    return machine.stack[-1]


def _set_item(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _set(machine, [key], [value])


def _set_items(machine: Machine) -> None:
    items = machine.since_mark()
    _set(machine, items[::2], items[1::2])


_KEYS = {str, int, float, bool, type(None), bytes}


def checked_keys(keys: Any) -> Any:
    """Keys whose hash is quick and their own: never nested tuples, whose hash may take for ever."""
    for kind in set(map(type, keys)) - {str}:
        if kind not in _KEYS and not issubclass(kind, np.generic):
            raise Refused(f"its pickle has a {kind.__name__} as a key")
        if kind is int and any(type(key) is int and abs(key) >= _LARGEST_KEY for key in keys):
            raise Refused("its pickle has a key beyond all counts")
    return keys


def _set(machine: Machine, keys: list[Any], values: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) not in (dict, OrderedDict):
        raise ValueError("sets an entry of what is no dictionary")
    target.update(zip(checked_keys(keys), values, strict=True))


def _add_items(machine: Machine) -> None:
    items = machine.since_mark()
    if type(machine.stack[-1]) is not set:
        raise ValueError("adds to what is no set")
    machine.stack[-1].update(checked_keys(items))


def _frozen_set(machine: Machine) -> None:
    items = machine.since_mark()
    machine.stack.append(machine.counted(frozenset(checked_keys(items))))


def _put(size: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        machine.memo[machine.number(size)] = machine.stack[-1]

    return step


def _memoize(machine: Machine) -> None:
    memo = machine.memo
    memo[len(memo)] = machine.stack[-1]


def _get(size: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        if size == 1:
            value = machine.memo[machine.data[machine.at]]
            machine.at += 1
        else:
            value = machine.memo[machine.number(size)]
        kind = type(value)
        if kind is Maker and value.shortcut is not None and value.shortcut(machine):
            return
        machine.stack.append(_finished(value) if kind is Pending else value)

    return step


def _global(machine: Machine) -> None:
    module, name = machine.line(), machine.line()
    machine.stack.append(machine.named(module, name))


def _stack_global(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise ValueError("a name that is no text")
    machine.stack.append(machine.named(module, name))


def _reduce(machine: Machine) -> None:
    arguments, maker = machine.stack.pop(), machine.stack.pop()
    if type(maker) is not Maker or type(arguments) is not tuple:
        raise Refused("its pickle calls what is no function")
    machine.stack.append(machine.counted(maker.make(*arguments)))


def _build(machine: Machine) -> None:
    state, target = machine.stack.pop(), machine.stack[-1]
    if type(target) is Pending and target.value is None:
        target.value = machine.stack[-1] = target.finish(state)
    elif type(target) is not OrderedDict:  # a state dict's metadata is nothing that we use
        raise Refused("its pickle gives a state to what takes none")


def _persistent(machine: Machine) -> None:
    if machine.persistent is None:
        raise Refused("its pickle refers to what lies outside it")
    machine.stack.append(machine.persistent(machine.stack.pop()))


def _protocol(machine: Machine) -> None:
    if machine.number(1) > 5:
        raise Refused("its pickle is of a protocol above 5")


def _frame(machine: Machine) -> None:
    machine.take(8)


_STOP = ord(".")
_STEPS: dict[int, Callable[[Machine], None]] = {
    ord(code): step
    for code, step in {
        "\x80": _protocol, "\x95": _frame, "N": _fixed(None), "\x88": _fixed(True), "\x89": _fixed(False),
        "J": _whole(4, signed=True), "K": _whole(1), "M": _whole(2), "\x8a": _long, "G": _double,
        "X": _text(4), "\x8c": _text(1), "\x8d": _text(8), "B": _bytes(4), "C": _bytes(1), "\x8e": _bytes(8),
        "\x96": _bytes(8, bytearray), "]": _empty(list), "}": _empty(dict), ")": _empty(tuple),
        "\x8f": _empty(set), "(": _mark, "\x85": _tuple(1), "\x86": _tuple(2), "\x87": _tuple(3),
        "t": _marked_tuple, "a": _append, "e": _appends, "s": _set_item, "u": _set_items,
        "\x90": _add_items, "\x91": _frozen_set, "q": _put(1), "r": _put(4), "\x94": _memoize,
        "h": _get(1), "j": _get(4), "c": _global, "\x93": _stack_global, "R": _reduce, "b": _build,
        "Q": _persistent,
    }.items()
}  # fmt: skip


# --- what came out


_LEAVES = {type(None), bool, int, float, complex, str, bytes, bytearray, set, frozenset}


def _is_leaf(kind: type) -> bool:
    return kind in _LEAVES or issubclass(kind, np.generic | Leaf) or kind.__module__ == "torch"


def _check_extent(value: Any, limit: int) -> None:
    """Refuse what is nested too deeply, or far larger than its file because parts of it are used again.

    Whoever walks through such a value would never end; this walk sees every part once.
    """
    known: dict[int, int] = {}

    def extent(value: Any, depth: int) -> int:
        kind = type(value)
        if kind is dict or kind is OrderedDict:
            children = list(value.values())
        elif kind is list or kind is tuple:
            children = value
        elif kind is np.ndarray and value.dtype.hasobject:
            children = value.ravel().tolist()
        elif kind is np.ndarray or _is_leaf(kind):
            return 1
        else:
            raise Refused("its pickle holds a name or a half-made array as a value")
        if depth > _DEEPEST:
            raise Refused(f"its values are nested deeper than {_DEEPEST}")
        found = known.get(id(value))
        if found is None:
            plain = _LEAVES.issuperset(map(type, children))
            found = 1 + (len(children) if plain else sum(extent(child, depth + 1) for child in children))
            if found > limit:
                raise Refused("its values are far more than its size allows")
            known[id(value)] = found
        return found

    extent(value, 0)
