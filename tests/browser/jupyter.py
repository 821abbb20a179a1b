"""A JupyterLab of its own, driven in headless Chromium as a person drives it: open, run all cells, look."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# What a reader sees on the page, not what the file says: widgets live in the page alone.
SEEN = """() => {
  const visible = e => e.offsetParent !== null;
  const text = selector => [...document.querySelectorAll(selector)].map(e => e.innerText);
  return {
    errors: text('[data-mime-type="application/vnd.jupyter.error"]'),
    warnings: text('[data-mime-type="application/vnd.jupyter.stderr"]'),
    red_bars: [...document.querySelectorAll(
      '.progress-bar-danger, .widget-progress .bar-danger, progress.danger')].filter(visible).length,
    broken: [...document.querySelectorAll('.jp-OutputArea-output')]
      .filter(e => /Error displaying widget|Error creating widget|Model not found/.test(e.innerText)).length,
    lines: text('[data-mime-type="application/vnd.jupyter.stdout"]'),
    images: [...document.querySelectorAll('.jp-RenderedImage img')]
      .map(i => ({width: i.naturalWidth, height: i.naturalHeight, alt: i.alt, shown: i.complete})),
  };
}"""


@dataclass
class Seen:
    """What the page of an executed notebook shows."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What stands on pink."""
    lines: list[str] = field(default_factory=list)
    red_bars: int = 0
    broken: int = 0
    images: list[dict[str, Any]] = field(default_factory=list)
    ran: int = 0
    """Code cells with an execution count, of ..."""
    cells: int = 0
    """... all code cells that hold code."""


def clone(folder: Path) -> Path:
    """A fresh clone of this checkout, as git would give it to a newcomer."""
    root = Path(__file__).parents[2]
    subprocess.run(["git", "clone", "-q", str(root), str(folder)], check=True)
    return folder


@contextmanager
def jupyter_lab(root: Path) -> Iterator[tuple[str, str]]:
    """Address and token of a JupyterLab on ``root``, without settings of the user's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    home = root.parent / f"{root.name}_jupyter"
    environment = os.environ | {
        "PYTHONPATH": str(root),
        **{name: str(home / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")},
        # dialogs of a first start would cover the page
        "JUPYTERLAB_SETTINGS_DIR": str(_settings(home)),
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--port-retries=0",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}", "--allow-root",
        "--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    log = home / "lab.log"
    with open(log, "w") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as lab:
        try:
            _wait_for(port, lab, log)
            yield f"http://127.0.0.1:{port}", token
        finally:
            lab.terminate()
            lab.wait(20)


def _settings(home: Path) -> Path:
    folder = home / "settings"
    notices = folder / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    notices.parent.mkdir(parents=True, exist_ok=True)
    notices.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    # every cell is in the page, not only those in view
    tracker = folder / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    tracker.parent.mkdir(parents=True, exist_ok=True)
    tracker.write_text(json.dumps({"windowingMode": "none"}))
    return folder


def _wait_for(port: int, lab: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        if lab.poll() is not None:
            raise RuntimeError(f"JupyterLab ended: {log.read_text()[-2000:]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab does not answer: {log.read_text()[-2000:]}")


class Lab:
    """One browser page on a JupyterLab."""

    def __init__(self, page: Any, address: str, token: str, root: Path, shots: Path) -> None:
        self.page, self.address, self.token, self.root, self.shots = page, address, token, root, shots
        shots.mkdir(parents=True, exist_ok=True)

    def open(self, notebook: Path) -> None:
        """Open a notebook by its address, as a click in the file list does, with a fresh kernel."""
        path = quote(notebook.relative_to(self.root).as_posix())
        self.page.goto(f"{self.address}/lab/tree/{path}?token={self.token}&reset")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        button = self.page.locator(".jp-Dialog button.jp-mod-accept")
        for _ in range(20):  # which kernel: asked for a notebook that names none, late on a first page
            self.page.wait_for_timeout(500)
            if button.count():
                button.first.click()
                break
        self.status("Idle", 60)

    def menu(self, *entries: str) -> None:
        """Choose from the menu bar."""
        self.page.locator(".lm-MenuBar-item", has_text=re.compile(f"^{entries[0]}$")).click()
        for entry in entries[1:]:
            self.page.locator(
                ".lm-Menu-item",
                has=self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{entry}$")),
            ).first.click()

    def status(self, wanted: str, seconds: float) -> None:
        """Wait for the kernel to be ``Idle`` or ``Busy``."""
        self.page.wait_for_selector(
            f".jp-Notebook-ExecutionIndicator[data-status='{wanted.lower()}']", timeout=1000 * seconds
        )

    def _begin(self) -> None:
        """Run all cells from the menu, and wait until the page shows that they are asked for; a page that has
        just been loaded may not hear it the first time."""
        begun = self.page.locator(".jp-InputArea-prompt", has_text=re.compile(r"\[(\*|\d+)\]"))
        for _ in range(4):
            self.menu("Run", "Run All Cells")
            deadline = time.monotonic() + 8
            while time.monotonic() < deadline:
                if begun.count():
                    return
                self.page.wait_for_timeout(200)
        raise TimeoutError("no cell begins to run")

    def run_all(self, seconds: float) -> Seen:
        """All cells from the menu; wait until the last has run or one has failed."""
        self._begin()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.page.wait_for_timeout(500)
            waiting = self.page.locator(".jp-InputArea-prompt", has_text="[*]").count()
            if not waiting:
                break
        else:
            raise TimeoutError(f"cells still running after {seconds} s")
        self.page.wait_for_timeout(1_500)  # figures and bars are drawn after the last message
        return self.look()

    def interrupt_in_the_middle(self, wait: float = 6, seconds: float = 60) -> Seen:
        """Run all cells, press Stop when the bar has begun to move, and wait until the kernel is idle."""
        self._begin()
        bar = self.page.locator(".jp-OutputArea-output", has_text=re.compile(r"\d%\|"))
        bar.first.wait_for(timeout=120_000)
        self.page.wait_for_timeout(1000 * wait)
        self.page.locator("[data-command='notebook:interrupt-kernel'], [title*='Interrupt']").first.click()
        self.status("Idle", seconds)
        self.page.wait_for_timeout(1_500)
        return self.look()

    def look(self) -> Seen:
        seen = Seen(**self.page.evaluate(SEEN))
        prompts = self.page.locator(".jp-CodeCell .jp-InputArea-prompt").all_inner_texts()
        seen.ran = sum(bool(re.search(r"\[\d+\]", text)) for text in prompts)
        seen.cells = len(prompts)
        return seen

    def shoot(self, name: str) -> list[Path]:
        """The whole notebook as pictures, one screen after another."""
        panel = self.page.locator(".jp-WindowedPanel-outer").first
        height = panel.evaluate("e => e.scrollHeight")
        step = panel.evaluate("e => e.clientHeight") - 40
        pictures = []
        for number, top in enumerate(range(0, max(height - 60, 1), int(step))):
            panel.evaluate(f"e => e.scrollTo(0, {top})")
            self.page.wait_for_timeout(120)
            pictures.append(self.shots / f"{name}_{number:02}.png")
            self.page.screenshot(path=pictures[-1])
        return pictures

    def save(self) -> None:
        self.menu("File", "Save Notebook")
        self.page.wait_for_timeout(1_000)


@contextmanager
def chromium() -> Iterator[Any]:
    """Headless Chromium; one at a time in a process."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_of(browser: Any, width: int = 1280, height: int = 1000) -> Iterator[Any]:
    """A page of its own."""
    page = browser.new_page(viewport={"width": width, "height": height})
    try:
        yield page
    finally:
        page.close()


def with_parameters(notebook: Path, **values: Any) -> Path:
    """Edit lines of the parameters cell, as typing does, and leave the rest as it is."""
    content = nbformat.read(notebook, as_version=4)
    (cell,) = [cell for cell in content.cells if "parameters" in cell.metadata.get("tags", [])]
    for name, value in values.items():
        cell.source, changed = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", cell.source, flags=re.M)
        if changed != 1:
            raise ValueError(f"{notebook.name}: no parameter {name}")
    nbformat.write(content, notebook)
    return notebook
