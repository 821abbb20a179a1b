"""The one error that a user's input can cause, and the hint that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user wrote, named or placed is wrong.

    The message is one line that names the file, key or argument and says what would be right.
    The command line prints it as it is and ends with exit code 2; notebooks show it as the
    last line of their traceback.
    """


def near_match(word: str, known: Iterable[str]) -> str:
    """`` (did you mean "…"?)`` if one of ``known`` resembles ``word``, else an empty string."""
    matches = difflib.get_close_matches(str(word), list(known), n=1)
    return f' (did you mean "{matches[0]}"?)' if matches else ""
