"""With which settings an experiment is analysed: what is given, else its own, else the defaults.

An experiment's own settings are the ``analysis`` section of its experiment.yaml. Figures and tables made with
them have their plain names (``volume_against_data``); any other setting is part of the name
(``volume_against_data_loss_0.02``), so that a look at another threshold never replaces what is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volume_lib import storage
from volume_lib.analysis import runs
from volume_lib.analysis.loading import load_experiment
from volume_lib.analysis.table import ExperimentResults
from volume_lib.errors import InputError, near_match
from volume_lib.experiment.file import FILE_NAME, read_experiment

DEFAULTS = {"quantity": "log_exp_r_n", "spread": "sd", "failed": "no volume"}
NAMES = (
    "loss_threshold", "dataset_type", "landscape", "quantity", "spread", "compare_with", "key", "base_size",
    "failed", "colour",
)  # fmt: skip


COLOURS = {"test_acc": "; Test Accuracy.ipynb writes test accuracies", "test_loss": "", "train_loss": ""}
"""What may colour the minima, and where it comes from."""


@dataclass(frozen=True)
class Chosen:
    """An experiment loaded with its settings. ``sources``: where each comes from; ``others``: those of them
    that differ from the experiment's own, as they appear in names of files."""

    experiment: ExperimentResults
    landscape: int
    quantity: str
    spread: str
    colour: str | None
    compare_with: Path | None
    sources: dict[str, str]
    others: tuple[str, ...]

    def name(self, stem: str) -> str:
        """``stem``, and after it the settings that are not the experiment's own."""
        return "_".join([stem, *self.others])

    def path(self, stem: str, suffix: str) -> Path:
        """The file of a figure or table in the experiment's ``analysis/``."""
        return storage.analysis_dir(self.experiment.folder) / f"{self.name(stem)}.{suffix}"

    def other(self) -> ExperimentResults | None:
        """The experiment to compare with, at the same threshold; None where there is none."""
        if self.compare_with is None:
            return None
        here = self.experiment
        return load_experiment(self.compare_with, here.loss_threshold, here.dataset_type, failed=here.failed)

    def describe(self) -> str:
        """Each setting with where it comes from, and the names that figures get."""
        values = {
            "loss_threshold": f"{self.experiment.loss_threshold:g}",
            "dataset_type": self.experiment.dataset_type,
            "landscape": f"+{self.landscape:,}",
            "quantity": self.quantity,
            "spread": self.spread,
            "failed": self.experiment.failed,
        }
        if self.colour is not None:
            values["colour"] = self.colour
        if self.compare_with is not None:
            values["compare_with"] = str(self.compare_with)
        lines = [f"{name} = {value} ({self.sources[name]})" for name, value in values.items()]
        if self.others:
            lines.append(f"Not the experiment's own settings: files are called {self.name('…')}")
        return "\n".join(lines)


def choose(folder: str | Path, **given: Any) -> Chosen:
    """Load an experiment with the settings that are ``given`` (:data:`NAMES`; None: not given).

    What is not given comes from the ``analysis`` section of its experiment.yaml, and else is the threshold
    that most runs have, the smallest landscape, ``log_exp_r_n``, mean and standard deviation, and
    ``"no volume"`` for networks that failed to train. ``colour``: a column of the table, as ``"test_acc"``,
    whose mean colours the minima of volume figures; None: each its own colour. ``compare_with`` is a folder;
    in experiment.yaml it is seen from the experiment's own. Raises :class:`InputError` as
    :func:`load_experiment` does, and for an unknown setting, a landscape or a column that is not there.
    """
    folder = Path(folder)
    for name in given:
        if name not in NAMES:
            raise InputError(f'setting "{name}": one of {", ".join(NAMES)}{near_match(name, NAMES)}')
    given = {name: value for name, value in given.items() if value is not None}
    own = _own(folder)
    wanted = {**DEFAULTS, **own, **given}
    loading = ("loss_threshold", "dataset_type", "key", "base_size", "failed")
    experiment = load_experiment(folder, **{name: wanted[name] for name in loading if name in wanted})
    landscape = wanted.get("landscape", experiment.landscapes[0])
    if landscape not in experiment.landscapes:
        raise InputError(f"landscape {landscape}: {folder} has {runs.words(experiment.landscapes)}")
    colour = wanted.get("colour")
    if colour is not None and colour not in COLOURS:
        raise InputError(f"colour {colour}: one of {', '.join(COLOURS)}{near_match(colour, COLOURS)}")
    if colour is not None and not experiment.has(colour):
        raise InputError(f"colour {colour}: no run of {folder} says it{COLOURS[colour]}")
    compare_with = wanted.get("compare_with")
    sources = {name: "given" if name in given else FILE_NAME if name in own else "default" for name in NAMES}
    return Chosen(
        experiment=experiment,
        landscape=landscape,
        quantity=wanted["quantity"],
        spread=wanted["spread"],
        colour=colour,
        compare_with=None if compare_with is None else Path(compare_with),
        sources=sources,
        others=_others(folder, experiment, given, {**DEFAULTS, **own}),
    )


def _own(folder: Path) -> dict[str, Any]:
    """What experiment.yaml says about the analysis; empty without one."""
    if not (folder / FILE_NAME).exists():
        return {}
    own = {k: v for k, v in read_experiment(folder).parameters("analysis").items() if v is not None}
    if "compare_with" in own:
        own["compare_with"] = folder / own["compare_with"]
    return own


def _others(
    folder: Path, experiment: ExperimentResults, given: dict[str, Any], own: dict[str, Any]
) -> tuple[str, ...]:
    """The given settings that are not the experiment's own, in words for the name of a file."""
    found = runs.find_runs(folder)
    kind = own.get("dataset_type") or experiment.dataset_type
    threshold = own.get("loss_threshold")
    if threshold is None and "loss_threshold" in given:
        threshold = runs.choose_threshold(folder, found, experiment.dataset_type, None)
    usual = {**own, "loss_threshold": threshold, "dataset_type": kind}
    usual.setdefault("landscape", experiment.landscapes[0])
    words = {
        "dataset_type": lambda v: v,
        "loss_threshold": lambda v: f"loss_{v:g}",
        "landscape": lambda v: f"landscape_{v}",
        "quantity": lambda v: v,
        "spread": lambda v: v,
        "failed": lambda v: f"failed_{v.replace(' ', '_')}",
        "colour": lambda v: f"colour_{v}",
    }
    other = [
        word(given[name]) for name, word in words.items() if name in given and given[name] != usual.get(name)
    ]
    if "compare_with" in given:
        there, mine = Path(given["compare_with"]).resolve(), own.get("compare_with")
        if mine is None or there != Path(mine).resolve():
            other.append(f"against_{'_'.join(there.parts[-2:])}")
    return tuple(other)
