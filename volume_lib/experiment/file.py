"""``experiment.yaml``: what an experiment is, checked before anything runs.

Each section of the file is the parameters of one notebook, under the same names and with the same
defaults as its ``parameters`` cell::

    problem: mnist
    model: {hidden_dims: [256, 128]}
    runs: {model_seeds: [0, 1], data_seeds: [10, 11]}       # zipped: two runs
    train: {epochs: 500, batch_size: 1000, base_data_size: 60, dataset_quantities: [0, 540, 1940]}
    perturb: {num_directions: 500, loss_thresholds: [0.02, 0.05, 0.1]}

Every mistake is an :class:`~volume_lib.errors.InputError` of one line: file, key, value, what would be right.
:func:`read_experiment` checks the file alone; a batch also builds the model and the data set that it asks
for before anything runs (:mod:`volume_lib.batch.check`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, model_validator

from volume_lib.errors import InputError, near_match
from volume_lib.experiment.sections import (
    Accuracy,
    Analysis,
    Cutoff,
    Integrate,
    Perturb,
    PlainValues,
    Runs,
    Train,
    Volume,
)
from volume_lib.experiment.yaml_file import read_yaml
from volume_lib.problems.section import NEEDS_BASE
from volume_lib.records import LABEL_NOISE, problem_text
from volume_lib.section import Section, tell
from volume_lib.storage import run_name
from volume_lib.storage.archives import Refused, read_text

FILE_NAME = "experiment.yaml"


class RunSeeds(NamedTuple):
    """The two seeds that tell a run from the others."""

    model_seed: int
    data_seed: int

    @property
    def name(self) -> str:
        """The run's folder."""
        return run_name(self.model_seed, self.data_seed)


STEPS = ("train", "perturb", "volume", "cutoff", "accuracy", "integrate", "analysis")
"""In the order in which they run; each is a section of the file and a notebook. Without its section there is
no ``integrate``; all others have their defaults."""

READ_MODELS = ("perturb", "cutoff", "accuracy", "integrate")
"""Steps that rebuild the models, for which a problem of the user's own must be named."""


def _one_text(problem: Any) -> Any:
    """A problem with arguments, ``{name: swiss_roll, turns: 1.7}``, as the text that names it in files."""
    try:
        return problem_text(problem) if isinstance(problem, str | dict) else problem
    except InputError as error:
        raise ValueError(str(error)) from error


class Experiment(Section):
    """The contents of one ``experiment.yaml``."""

    problem: Annotated[str, BeforeValidator(_one_text)]
    model: PlainValues = Field(default_factory=dict)
    runs: Runs = Runs()
    train: Train = Train()
    perturb: Perturb = Perturb()
    volume: Volume = Volume()
    cutoff: Cutoff = Cutoff()
    accuracy: Accuracy = Accuracy()
    integrate: Integrate | None = None
    analysis: Analysis = Analysis()
    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _landscapes_exist(self) -> Experiment:
        levels, largest = self.perturb.landscape_levels, self.train.dataset_quantities[-1]
        if self.train.vary == LABEL_NOISE and levels != [0]:
            raise ValueError(f"perturb.{NEEDS_BASE}")
        if levels and levels[-1] > largest:
            raise ValueError(
                f"perturb.landscape_levels: {levels[-1]} is above the largest of "
                f"train.dataset_quantities, {largest}"
            )
        return self

    @model_validator(mode="after")
    def _volumes_exist(self) -> Experiment:
        """What volume and analysis ask for must come out of the sections before them."""
        perturb, volume, wanted = self.perturb, self.volume, self.analysis
        largest = max(volume.subset_sizes or [0])
        if largest > perturb.num_directions:
            raise ValueError(
                f"volume.subset_sizes: {largest} is above perturb.num_directions, {perturb.num_directions}"
            )
        thresholds = volume.loss_thresholds or perturb.loss_thresholds
        if wanted.loss_threshold not in (None, *thresholds):
            raise ValueError(f"analysis.loss_threshold: {wanted.loss_threshold} is not one of {thresholds}")
        landscapes = perturb.landscape_levels or self.train.dataset_quantities
        asked = self.integrate or Integrate()
        for name, own, known in (
            ("loss_thresholds", asked.loss_thresholds, thresholds),
            ("landscape_levels", asked.landscape_levels, landscapes),
            ("own_landscapes", asked.own_landscapes, landscapes),
        ):
            unknown = [value for value in own or () if value not in known]
            if unknown:
                raise ValueError(f"integrate.{name}: {unknown[0]} is not one of {known}")
        if wanted.landscape not in (None, *landscapes):
            raise ValueError(f"analysis.landscape: {wanted.landscape} is not one of {landscapes}")
        return self

    @property
    def folder(self) -> Path:
        """Where the experiment lies."""
        return self._folder

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps that this experiment has."""
        return tuple(step for step in STEPS if step != "integrate" or self.integrate is not None)

    @property
    def run_seeds(self) -> list[RunSeeds]:
        """The seeds of every run, in the order of the file."""
        return [RunSeeds(*pair) for pair in zip(self.runs.model_seeds, self.runs.data_seeds, strict=True)]

    def parameters(self, step: str, run: RunSeeds | None = None) -> dict[str, Any]:
        """What papermill gives to the notebook of ``step`` (``run``: None for the analysis)."""
        section = getattr(self, step) or Integrate()
        values = section.model_dump(exclude={"shards"})
        if step == "train" and run is not None:
            top = {"problem": self.problem, "model": self.model}
            values = {**top, **run._asdict(), **values}
        elif step in READ_MODELS and ":" in self.problem:  # no file that is read decides which code runs
            values = {"problem": self.problem, **values}
        if step == "volume" and values["loss_thresholds"] is None:
            values["loss_thresholds"] = self.perturb.loss_thresholds
        if step == "integrate" and values["loss_thresholds"] is None:
            values["loss_thresholds"] = self.parameters("volume")["loss_thresholds"]
        if step == "cutoff" and values["loss_threshold"] is None:
            values["loss_threshold"] = self.parameters("volume")["loss_thresholds"][0]
        if step == "analysis" and values["dataset_type"] is None:
            values["dataset_type"] = self.train.dataset_type
        return values


# --- reading


def experiment_file(folder: str | Path) -> Path:
    """The ``experiment.yaml`` of a folder; the file itself may be named too."""
    path = Path(folder)
    return path if path.suffix in (".yaml", ".yml") else path / FILE_NAME


def read_experiment(folder: str | Path) -> Experiment:
    """Read and check the ``experiment.yaml`` in ``folder``, without looking at any data."""
    path = experiment_file(folder)
    try:
        str(path.absolute()).encode()  # what notebooks and their kernels are told
        text = read_text(path)
    except FileNotFoundError as error:
        hint = f"python -m volume_lib new {path.parent} --problem NAME writes one"
        raise InputError(f"{path}: does not exist; {hint}") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{str(path)!a}: the folder's name is no text in UTF-8; rename it") from error
    except (OSError, Refused, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    return parse_experiment(text, path)


def parse_experiment(text: str, path: str | Path = FILE_NAME) -> Experiment:
    """The experiment that ``text`` describes; ``path`` is what the errors name."""
    path = Path(path)
    content, shared = read_yaml(text, path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold keys and values, such as problem: mnist")
    try:
        # an empty section is one without changes
        named = {str(key): value for key, value in content.items()}
        for key in shared - Experiment.model_fields.keys():
            named.pop(key, None)  # there for the others to share
        for key in named.keys() - Experiment.model_fields.keys():
            known = Experiment.model_fields
            raise InputError(f"{path}: {key}: unknown key{near_match(key, known)}; known: {', '.join(known)}")
        experiment = Experiment(**{key: value for key, value in named.items() if value is not None})
    except ValidationError as error:
        raise InputError(f"{path}: {tell(error, Experiment)}") from error
    experiment._folder = path.parent
    return experiment
