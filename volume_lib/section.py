"""How settings are declared: once, as the fields of a :class:`Section`, with types, defaults and bounds.

A section of ``experiment.yaml``, the parameters of its notebook and the arguments of the function that the
notebook calls are the same settings. Each is declared in the room that uses it (``section.py`` of
:mod:`volume_lib.training`, :mod:`volume_lib.sweep`, :mod:`volume_lib.volume`); functions take them as
keyword arguments (:func:`takes`), and :mod:`volume_lib.experiment` reads them from the file. What is
impossible is told in one line, wherever it was written.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from volume_lib.errors import InputError, near_match

Function = TypeVar("Function", bound=Callable[..., Any])
Own = TypeVar("Own", bound="Section")


class Section(BaseModel):
    """Settings that belong together; fixed once they are made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def checked(cls: type[Own], **values: Any) -> Own:
        """The settings of these values; InputError, in one line, for the first that cannot be."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise InputError(tell(error, cls, "argument")) from error


def takes(section: type[Section]) -> Callable[[Function], Function]:
    """Show the fields of ``section`` as the keyword arguments of a function that takes them as ``**``."""

    def shown(function: Function) -> Function:
        signature = inspect.signature(function)
        fields = section.model_fields
        own = [
            p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD and p.name not in fields
        ]
        own += [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation
            )
            for name, field in fields.items()
        ]
        function.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
        return function

    return shown


# --- kinds of values


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def increasing(values: list) -> list:
    if any(b <= a for a, b in pairwise(values)):
        raise ValueError("must increase, each value above the last")
    return values


def _distinct(values: list) -> list:
    if len(set(values)) != len(values):
        raise ValueError("must all be different")
    return values


def _whole(value: Any) -> Any:
    """Whole numbers of any library, as Python's; anything else as it is, to be refused."""
    return value if isinstance(value, bool) or not hasattr(value, "__index__") else operator.index(value)


def listed(values: Any) -> Any:
    return values.tolist() if hasattr(values, "tolist") else values


def plain(value: Any, where: str = "") -> Any:
    """``value``, if it is the same after a journey through JSON and a notebook's cell."""
    if isinstance(value, dict):
        for key, entry in value.items():
            place = f"{where}.{key}".lstrip(".")
            if not isinstance(key, str):
                raise ValueError(f'{place}: the key {key!r} must be text; write "{key}"')
            plain(entry, place)
    elif isinstance(value, list):
        for i, entry in enumerate(value):
            plain(entry, f"{where}[{i}]")
    elif not (value is None or isinstance(value, bool | int | float | str)):
        raise ValueError(f"{where}: a {type(value).__name__} must be written as text or numbers")
    return value


Count = Annotated[int, BeforeValidator(_whole), Field(strict=True, ge=1, le=2**63 - 1)]
Natural = Annotated[int, BeforeValidator(_whole), Field(strict=True, ge=0, le=2**63 - 1)]
Seed = Annotated[int, BeforeValidator(_whole), Field(strict=True, ge=0, le=2**64 - 1)]
Number = Annotated[float, BeforeValidator(_no_bool)]
Positive = Annotated[Number, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[Number, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[Number, Field(gt=0, le=1, allow_inf_nan=False)]
Levels = Annotated[list[Natural], BeforeValidator(listed), Field(min_length=1), AfterValidator(increasing)]
Counts = Annotated[list[Count], BeforeValidator(listed), Field(min_length=1), AfterValidator(increasing)]
Thresholds = Annotated[
    list[Positive], BeforeValidator(listed), Field(min_length=1), AfterValidator(_distinct)
]


# --- telling

_UNION_TAGS = {"Imbalance", "int", "float", "str"}
"""What pydantic puts into the place of an error beside the keys."""


def tell(errors: ValidationError, section: type[BaseModel], word: str = "key") -> str:
    """The first error in one line: key, value, what would be right. ``word``: what a key is called."""
    error = min(errors.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    where = list(error["loc"])
    if error["type"] != "extra_forbidden":
        where = [part for part in where if part not in _UNION_TAGS]
    else:
        where = [part for part in where[:-1] if part not in _UNION_TAGS] + where[-1:]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")
    if error["type"] == "extra_forbidden":
        known = _keys_at(where[:-1], section)
        return f"{key}: unknown {word}{near_match(str(where[-1]), known)}; known: {', '.join(known)}"
    if error["type"] == "missing":
        return f"{key}: must be given"
    value, context = error["input"], error.get("ctx", {})
    told = {
        "int_type": "must be a whole number",
        "int_parsing": "must be a whole number",
        "int_from_float": "must be a whole number",
        "float_type": "must be a number",
        "float_parsing": "must be a number",
        "finite_number": "must be a finite number",
        "bool_type": "must be true or false",
        "bool_parsing": "must be true or false",
        "string_type": "must be text",
        "list_type": "must be a list, such as [0, 540]",
        "dict_type": "must hold keys and values",
        "model_type": "must hold keys and values",
        "invalid_key": "is no text, and keys must be",
        "greater_than": f"must be above {context.get('gt')}",
        "greater_than_equal": f"must be {context.get('ge')} or more",
        "less_than_equal": f"must be {context.get('le')} or less",
        "too_short": "must not be empty",
        "value_error": str(context.get("error")),
    }.get(error["type"], error["msg"])
    if error["type"] == "literal_error":
        choices = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        told = f"must be one of {', '.join(choices)}{near_match(str(value), choices)}"
    if isinstance(value, BaseModel | dict):  # a rule about several keys; it names them itself
        return f"{key}: {told}" if key else told
    return f"{key}: {value!r} {told}"


def _keys_at(where: list[str | int], section: type[BaseModel]) -> list[str]:
    """The keys that the section at ``where`` within ``section`` has."""
    for part in where:
        found = [section.model_fields[part].annotation] if part in section.model_fields else []
        found += getattr(found[0], "__args__", ()) if found else ()
        section = next(kind for kind in found if isinstance(kind, type) and issubclass(kind, BaseModel))
    return list(section.model_fields)
