"""Execute one notebook in place: this interpreter's kernel, this run's folder, threads and GPU.

Papermill does the work. What it lacks for unattended runs is added here: writes that are whole or not at
all, a kernel that is surely this interpreter's, stopping from another thread, and a word on why a
kernel died.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill import execute_notebook
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import papermill_io

from volume_lib.batch.notebooks import strict_json
from volume_lib.storage import atomic_write

START_ATTEMPTS = 3
"""Kernels choose free ports before they open them; with many at once two may choose the same."""


class Stopped(Exception):
    """The kernel was stopped on purpose."""


class NotebookFailed(Exception):
    """A cell raised, or the kernel died. ``cell``: ``"cell 3"``; ``error``: the last line of what it said."""

    def __init__(self, cell: str, error: str) -> None:
        super().__init__(f"{cell}: {error}")
        self.cell, self.error = cell, error


@dataclass
class Execution:
    """What one notebook is executed with; :meth:`stop` ends it from another thread."""

    path: Path
    parameters: dict[str, Any]
    environment: dict[str, str]
    inherit: tuple[int, ...] = ()
    """File descriptors that the kernel keeps open: the lock of its folder."""
    stopped: threading.Event = field(default_factory=threading.Event)
    process: subprocess.Popen | None = None

    def stop(self) -> None:
        """End the kernel and all its children."""
        self.stopped.set()
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # a kernel leads a process group of its own

    def run(self) -> None:
        """Execute the notebook; raises :class:`NotebookFailed` or :class:`Stopped`."""
        with tempfile.TemporaryFile() as stderr:
            for attempt in range(START_ATTEMPTS):
                if self.stopped.is_set():
                    raise Stopped
                try:
                    self._papermill(stderr)
                    return
                except PapermillExecutionError as error:
                    raise NotebookFailed(*_told_by_papermill(error)) from error
                except (DeadKernelError, RuntimeError) as error:
                    if self.stopped.is_set():
                        raise Stopped from error
                    started = _running_cell(self.path) is not None
                    if started or attempt + 1 == START_ATTEMPTS:
                        raise NotebookFailed(*self._told_of_death(error, stderr)) from error

    def _papermill(self, stderr: Any) -> None:
        execution = self

        class Kernel(_ThisInterpreter):
            async def start_kernel(self, **kwargs: Any) -> None:
                kwargs |= {
                    "env": {**execution.environment, "PWD": str(execution.path.absolute().parent)},
                    "stdout": stderr,
                    "stderr": stderr,
                }
                await super().start_kernel(**kwargs, pass_fds=execution.inherit)
                execution.process = getattr(self.provisioner, "process", None)
                if execution.stopped.is_set():
                    execution.stop()

        path = str(self.path.absolute())
        escaped = path.replace("{", "{{").replace("}", "}}")  # papermill formats paths
        execute_notebook(
            escaped,
            escaped,
            self.parameters,
            kernel_name="python3",
            progress_bar=False,
            kernel_manager_class=Kernel,
            shutdown_kernel="immediate",
            # not papermill's cwd, which moves the whole process and with it the other threads' notebooks
            resources={"metadata": {"path": str(self.path.absolute().parent)}},
        )

    def _told_of_death(self, error: Exception, stderr: Any) -> tuple[str, str]:
        stderr.seek(0)
        lines = stderr.read().decode(errors="replace").strip().splitlines()
        said = [line for line in lines if line.strip() and not line.startswith("[")]  # [IPKernelApp] chatter
        code = self.process.poll() if self.process is not None else None
        if code is not None and code < 0:
            why = f"signal {-code} ({signal.Signals(-code).name})"
            why += ": out of memory, or killed" if -code == signal.SIGKILL else ""
        else:
            why = said[-1] if said else str(error).strip().splitlines()[-1]
        cell, told = _running_cell(self.path), f"the kernel died: {why}"
        _write_into(self.path, cell, "\n".join([*said, told]))
        return (f"cell {cell}" if cell else "start"), told


class _ThisInterpreter(AsyncKernelManager):
    """Starts this interpreter, whatever kernel of the name ``python3`` may be installed elsewhere."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


class _WholeFiles:
    """Papermill's local files, written whole or not at all."""

    @staticmethod
    def read(path: str) -> str:
        return Path(path).read_text(encoding="utf-8")

    @staticmethod
    def write(buffer: str, path: str) -> None:
        with atomic_write(path, durable=False) as temporary:  # at the begin and end of every cell
            temporary.write_text(strict_json(buffer), encoding="utf-8")

    @staticmethod
    def listdir(path: str) -> list[str]:
        return [os.path.join(path, name) for name in os.listdir(path)]

    @staticmethod
    def pretty_path(path: str) -> str:
        return path


papermill_io.register("/", _WholeFiles())
for _name in ("papermill", "traitlets"):  # what they would tell is in the notebook or in our own messages
    logging.getLogger(_name).setLevel(logging.CRITICAL)


def _told_by_papermill(error: PapermillExecutionError) -> tuple[str, str]:
    if error.ename == "CellExecutionError":  # it ended without an error of its own: the Stop button
        return f"cell {error.exec_count}", "stopped"
    lines = f"{error.ename}: {error.evalue}".strip().splitlines()
    last = lines[-1] if lines[-1].startswith(error.ename) else f"{error.ename}: {lines[-1]}"
    return f"cell {error.exec_count}" if error.exec_count else f"cell {error.cell_index + 1}", last


def _running_cell(path: Path) -> int | None:
    """The number of the code cell that was begun last, counted as Jupyter does; None if none was."""
    number = None
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    for i, cell in enumerate(cells, start=1):
        if cell.metadata.get("papermill", {}).get("start_time"):
            number = i
    return number


def _write_into(path: Path, number: int | None, text: str) -> None:
    """Leave ``text`` in the cell where the kernel died, for whoever opens the notebook."""
    if number is None:
        return
    notebook = nbformat.read(path, as_version=4)
    cell = [cell for cell in notebook.cells if cell.cell_type == "code"][number - 1]
    cell.outputs.append(nbformat.v4.new_output("stream", name="stderr", text=text + "\n"))
    cell.metadata.setdefault("papermill", {}).update(status="failed", exception=True)
    _WholeFiles.write(nbformat.writes(notebook), str(path))
