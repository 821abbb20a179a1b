"""The one bar for whatever takes long: a line that is drawn anew, and reads 100 % once the work is done.

In a terminal it is tqdm's. In a notebook it is a line of text that is replaced in place: it stays readable
when the notebook is executed by a batch, saved and opened again, which a widget does not. In a pipe it is one
line, at most every :data:`PIPE_SECONDS` seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

PIPE_SECONDS = 10.0
NOTEBOOK_SECONDS = 0.25
_WIDTH = 100
_QUIET = ContextVar("quiet", default=False)


@contextmanager
def quiet(wanted: bool = True) -> Iterator[None]:
    """No bar that begins inside is shown, however deep, if that is ``wanted``."""
    before = _QUIET.set(wanted or _QUIET.get())
    try:
        yield
    finally:
        _QUIET.reset(before)


def tell(line: str) -> None:
    """A line of text that stays: an ordinary one in a notebook, elsewhere beside the bars."""
    if _where(None) == "notebook":
        print(line)
    else:
        tqdm.write(line, file=sys.stderr)


class Bar(tqdm):
    """``tqdm`` with an honest end: left in good order it stands at its total, however early that was reached.

    >>> with Bar(total=1000, desc="training", unit="sample") as bar:      # doctest: +SKIP
    ...     bar.skip(400)       # done before: counts as done, not as fast
    ...     bar.update(100)
    ...     bar.shorten(500)    # not needed after all
    ...     bar.say("a line that stays")
    """

    def __init__(self, iterable: Iterable | None = None, *, where: str | None = None, **options: Any) -> None:
        self.where = where or _where(options.get("file"))
        self.stopped = False
        self._shown: Any = None
        if self.where == "notebook":
            options |= {"file": _Nowhere(), "ascii": False, "ncols": _WIDTH}
            options.setdefault("mininterval", NOTEBOOK_SECONDS)
        elif self.where == "pipe":
            options |= {"file": _Lines(options.get("file") or sys.stderr), "ncols": _WIDTH}
            options |= {"mininterval": PIPE_SECONDS, "maxinterval": PIPE_SECONDS}
        if _QUIET.get():
            options["disable"] = True
        super().__init__(iterable, **options)

    def skip(self, amount: float) -> None:
        """``amount`` was there already: it is done, and says nothing of how long the rest takes."""
        if not self.disable:
            self.initial += amount
            self.last_print_n += amount
            self.n += amount
            self.refresh()

    def shorten(self, amount: float) -> None:
        """``amount`` of the total is not needed after all."""
        if self.total is not None:
            self.total -= amount

    def lengthen(self, amount: float) -> None:
        """There is ``amount`` more to do than was known."""
        if self.total is not None:
            self.total += amount

    def say(self, line: str) -> None:
        """A line of text that stays: below the bar in a notebook, above it elsewhere."""
        if self.where == "notebook":
            print(line)
        elif not self.disable:
            self.write(line, file=self.fp)

    def stop(self, word: str = "stopped") -> None:
        """The work ends here, unfinished: the bar stays where it is and says ``word``."""
        self.stopped = True
        self.set_postfix_str(word)

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        if self.where != "notebook":
            return super().display(msg, pos)
        from IPython.display import display

        text = {"text/plain": str(self) if msg is None else msg}
        if self._shown is None:
            self._shown = display(text, raw=True, display_id=True)
        else:
            self._shown.update(text, raw=True)
        return True

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None and not self.stopped and not self.disable:
            self.stop("stopped" if kind is KeyboardInterrupt else "failed")
        elif not self.stopped and not self.disable and self.total is not None:
            self.total = self.n
        super().__exit__(kind, error, traceback)


def _where(file: Any) -> str:
    """``notebook``, ``terminal`` or ``pipe``; a file of the caller's own is a pipe unless a terminal."""
    ipython = sys.modules.get("IPython")  # a notebook has imported it long ago
    shell = ipython.get_ipython() if ipython is not None else None
    if file is None and hasattr(shell, "kernel"):
        return "notebook"
    file = file or sys.stderr
    return "terminal" if file is not None and file.isatty() else "pipe"


class _Nowhere:
    """Where tqdm writes what the notebook's line shows instead."""

    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass


class _Lines:
    """Each drawing as a line of its own, without the codes that move a terminal's cursor."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, text: str) -> None:
        line = text.strip()
        if line and not line.startswith("\x1b"):
            self.file.write(line + "\n")
            self.file.flush()

    def flush(self) -> None:
        self.file.flush()
