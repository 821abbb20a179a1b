"""Every shipped experiment: its run folders are made, and all its notebooks run on a handful of samples.

The notebooks' cells run in this process, one after another as in a kernel of their own (kernels are
``test_notebooks``'s). Problems whose files are not there get a stand-in of the same shape, random images.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
import yaml

from volume_lib import batch, plots, storage
from volume_lib.batch.folders import prepare_notebook
from volume_lib.batch.steps import NOTEBOOKS, Job, jobs_of, read_notebook
from volume_lib.errors import InputError
from volume_lib.experiment.file import Experiment, read_experiment
from volume_lib.plots import style
from volume_lib.problems import data_root, get_problem
from volume_lib.problems.image_folder import ImageFolder
from volume_lib.problems.images import ImageProblem
from volume_lib.problems.modular_arithmetic import ModularArithmeticSquared
from volume_lib.problems.splits import make_dataset
from volume_lib.records import Data, problem_parts
from volume_lib.sweep.run import run_sweep
from volume_lib.training.runs import train_models
from volume_lib.volume.estimate import estimate_volumes

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
FOLDERS = sorted(path.parent for path in EXPERIMENTS.glob("*/*/experiment.yaml"))
EXPECTED = {
    *(f"low_data/{name}" for name in ("swiss_roll", "mnist", "mnist_cnn", "mnist_large", "fashion_mnist")),
    *(f"low_data/{name}" for name in ("cifar10", "svhn", "shakespeare", "swiss_roll_mass", "mnist_mass")),
    *("poison/swiss_roll", "poison/mnist", "poison/cifar10", "noise/mnist", "sam/swiss_roll", "sam/mnist"),
    *("imbalanced_classes/mnist", "batch_size/mnist", "grokking/modular_arithmetic"),
    *(f"low_data/{name}" for name in ("cifar10_cnn", "mnist_unscaled", "modular_arithmetic")),
    *(
        "low_data/shakespeare_large",
        "low_data/swiss_roll_published",
        "sam/cifar10",
        "batch_size/mnist_published",
    ),
    *(f"grokking/modular_97_{share}" for share in (29, 30, 31, 32)),
    *(f"imbalanced_classes/{name}" for name in ("mnist_to_balanced", "cifar10", "cifar10_to_balanced")),
    *(f"poison/mnist_{base}" for base in (5000, 6000, 10_000)),
}
each_experiment = pytest.mark.parametrize(
    "folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}"
)


def test_every_condition_is_there_and_described():
    names = {f"{folder.parent.name}/{folder.name}" for folder in FOLDERS}
    assert names >= EXPECTED
    for folder in FOLDERS:
        title, empty, *lines = (folder / "README.md").read_text().rstrip().split("\n")
        assert title.startswith("# ") and not empty and (len(lines) == 3 or not lines[3])
        assert lines[2] == f"`python -m volume_lib run {folder.relative_to(EXPERIMENTS.parent)}`"


@each_experiment
def test_it_is_compared_with_a_shipped_experiment(folder):
    other = read_experiment(folder).analysis.compare_with
    assert other is None or (folder / other).resolve() in FOLDERS


# ---- data

TRAINING_SAMPLES = {"mnist": 60_000, "fashion_mnist": 60_000, "cifar10": 50_000, "svhn": 73_257}
TRAINING_SAMPLES["image_folder"] = 50_000  # the shipped one holds CIFAR-10's
"""How many there are of what may be missing: none can ask for more."""


@pytest.fixture(autouse=True)
def ten_classes(monkeypatch):
    """A folder of images knows its classes only where it lies."""
    monkeypatch.setattr(ImageFolder, "class_names", tuple("0123456789"))


@pytest.fixture(scope="module")
def found():
    """Each problem's data, loaded once; None where its files are missing. Nothing is downloaded."""
    known = {}

    def load(problem):
        if isinstance(problem, ImageFolder):
            return None  # a stand-in: minutes to decode, and its pixels are cifar10's
        if problem.name not in known:
            try:
                known[problem.name] = problem.load()
            except InputError:
                if not isinstance(problem, ImageProblem):
                    pytest.skip(f"{problem.name} is not in {data_root()}")
                known[problem.name] = None
        return known[problem.name]

    def no_network(*args, **kwargs):
        raise OSError("no network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("urllib.request.urlopen", no_network)
        yield load


def narrow(problem, data):
    """All samples with their labels, but one number of each: what the splits depend on, in little memory."""
    if data is None:
        size = TRAINING_SAMPLES[problem_parts(problem.name)[0]]
        y = torch.arange(size) % problem.num_classes
        return Data(torch.zeros(size, 1), y, torch.zeros(100, 1), y[:100])
    return Data(
        data.x_train.flatten(1)[:, :1].clone(), data.y_train, data.x_test.flatten(1)[:, :1], data.y_test
    )


def few(problem, data):
    """Some thousand samples; of texts the first 16 characters of each window."""
    if data is None:
        x = torch.randn(1000, *problem.shape, generator=torch.Generator().manual_seed(0))
        y = torch.arange(1000) % problem.num_classes
        return Data(x[:500], y[:500], x[500:], y[500:])
    parts = [data.x_train[:3000], data.y_train[:3000], data.x_test[:100], data.y_test[:100]]
    return Data(*(part[:, :16] if problem.sample_kind == "sequences" else part for part in parts))


# ---- make


@each_experiment
def test_make_gives_every_run_its_notebooks(folder, found, tmp_path, monkeypatch):
    problem = get_problem(read_experiment(folder).problem)
    data = narrow(problem, found(problem))
    monkeypatch.setattr(type(problem), "load", lambda self, root=None: data)
    (tmp_path / "experiment.yaml").write_bytes((folder / "experiment.yaml").read_bytes())
    runs = batch.make(tmp_path)
    experiment = read_experiment(tmp_path)
    assert [run.name for run in runs] == [
        f"model_{i}_data_{10 + i}" for i in range(len(experiment.run_seeds))
    ]
    for seeds in experiment.run_seeds:
        for job in jobs_of(experiment, seeds):
            given = {}
            (cell,) = [
                c for c in read_notebook(job.notebook)["cells"] if c.get("id") == "injected-parameters"
            ]
            exec("".join(cell["source"]), given)
            assert {name: given[name] for name in job.parameters} == json.loads(json.dumps(job.parameters))


# ---- all notebooks


def reduced(folder: Path, target: Path) -> Experiment:
    """The experiment with one run, a handful of samples, epochs and directions; its condition stays."""
    content = yaml.safe_load((folder / "experiment.yaml").read_text())
    train = content["train"]
    train["base_data_size"] = 20
    # of poison and noise three levels: their power law begins above 0
    levels = 2 if train.get("dataset_type", "data") == "data" else 3
    train["dataset_quantities"] = [10 * i for i in range(min(levels, len(train["dataset_quantities"])))]
    train["test_size"] = 30
    train["batch_size"] = min(train["batch_size"], 16)
    train["epochs"] = 3
    train["target_train_loss"] = None
    if "vary" in train:
        train["values"] = list(range(1, min(3, len(train["values"])) + 1))
    content["runs"] = {name: seeds[:1] for name, seeds in content["runs"].items()}
    # above the loss of all these minima, so that each has a volume
    asked = content["perturb"]
    content["perturb"] = {"num_directions": 3, "loss_thresholds": [10.0]}
    content["volume"] = {"bootstrap": 10}
    content["perturb"] |= {key: asked[key] for key in asked if key == "scaling"}
    if "integrate" in content:
        content["integrate"] |= {"loss_thresholds": [10.0], "minutes": 0.005}
        if "own_landscapes" in content["integrate"]:
            content["integrate"]["own_landscapes"] = train["dataset_quantities"][1:]
    content.pop("analysis", None)
    if content.get("model", {}).get("width", 0) > 64:
        content["model"] |= {"width": 16, "heads": 2, "layers": 1}
    target.mkdir(parents=True)
    (target / "experiment.yaml").write_text(yaml.safe_dump(content))
    return read_experiment(target)


def execute(job: Job, monkeypatch) -> None:
    """The cells of a notebook with its parameters, in its folder."""
    job.folder.mkdir(exist_ok=True)
    monkeypatch.chdir(job.folder)
    names = {}
    for cell in prepare_notebook(job)["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), NOTEBOOKS[job.step], "exec"), names)
    plt.close("all")


def save_small(save, figure, path) -> None:
    """Figures as they are, in few pixels; not the vector copy that the analysis also writes of each."""
    if Path(path).suffix != ".pdf":
        save(figure, path, dpi=30)


@each_experiment
def test_all_its_notebooks_run_on_a_handful_of_samples(folder, found, tmp_path, monkeypatch):
    experiment = reduced(folder, tmp_path / "experiment")
    problem = get_problem(experiment.problem)
    data = few(problem, found(problem))
    monkeypatch.setattr(type(problem), "load", lambda self, root=None: data)
    small = partial(save_small, plots.save)
    for room in (plots, style):  # notebooks call it there, figures for the paper here
        monkeypatch.setattr(room, "save", small)
    (run,) = batch.make(experiment.folder)
    for job in [*jobs_of(experiment, experiment.run_seeds[0]), Job(experiment, "analysis")]:
        execute(job, monkeypatch)
        assert job.outputs(), job.step

    models, dataset = storage.load_models_and_data(run / "models_and_data")
    train = experiment.train
    assert [m.value for m in models] == list(train.values or train.dataset_quantities)
    assert all((m.settings["sam_rho"] > 0) == (folder.parent.name == "sam") for m in models)
    check_condition(folder.parent.name, dataset, data, train.base_imbalance is not None)
    for level in dataset.dataset_quantities:
        results = storage.load_results(storage.results_path(run, dataset.dataset_type, level, 10.0))
        assert results["loss_landscape_data_param"] == level
        assert results["key_values"] == [m.value for m in models if m.level >= level]
        assert all(value is not None for value in results["log_exp_r_n_values"])
        assert results["num_params"] == sum(p.numel() for p in models[0].model.parameters())
    assert len(storage.load_test_accuracies(run)[1]) == len(models)
    assert (run / "models_and_data" / "samples.png").exists()
    assert (run / "log_volumes_loss_10.png").exists() and (run / "cutoffs" / "loss_curves.png").exists()
    assert (experiment.folder / "analysis" / "volume_against_data.png").exists()


def check_condition(condition: str, dataset, data: Data, base_is_imbalanced: bool) -> None:
    """The additional samples are of the condition's kind."""
    true = {tuple(x.flatten().tolist()): y.tolist() for x, y in zip(data.x_train, data.y_train, strict=True)}
    labels = [true.get(tuple(x.flatten().tolist())) for x in dataset.x_additional]
    given = dataset.y_additional.tolist()
    if condition == "noise":
        assert labels == [None] * len(given) and given
    elif condition == "poison":
        assert None not in labels and all(a != b for a, b in zip(labels, given, strict=True))
    else:
        assert labels == given
    if condition == "imbalanced_classes":
        imbalanced = dataset.y_base_train.tolist() if base_is_imbalanced else given
        assert sum(label in (0, 1, 2) for label in imbalanced) == 0.9 * len(imbalanced)


# ---- grokking


class SmallTable(ModularArithmeticSquared):
    modulus = 31


def test_grokking_knows_its_pairs_long_before_it_generalises_and_its_volume_grows(tmp_path):
    """The shipped experiment on a smaller table: minutes become seconds."""
    problem = SmallTable()
    train = read_experiment(EXPERIMENTS / "grokking" / "modular_arithmetic").train
    dataset = make_dataset(problem, base_data_size=540, dataset_quantities=[0], data_seed=10)
    lengths = train_models(
        problem, dataset, folder=tmp_path / "models_and_data", model={"hidden_dims": [128]}, model_seed=0,
        optimizer=train.optimizer, learning_rate=train.learning_rate, weight_decay=train.weight_decay,
        batch_size=540, epochs=600, vary="epochs", values=[80, 150, 300, 600], target_train_loss=None,
    )  # fmt: skip
    last = lengths[-1]
    knows = next(i for i, accuracy in enumerate(last.train_accs) if accuracy == 1)
    generalises = next(i for i, accuracy in enumerate(last.test_accs) if accuracy > 0.95)
    assert generalises > 3 * knows
    assert lengths[0].train_accs[-1] == 1 and lengths[0].test_accs[-1] < 0.2
    assert last.test_accs[-1] > 0.99
    run_sweep(problem, lengths, dataset, tmp_path, num_directions=10, loss_thresholds=[0.5])
    sweeps = [storage.load_sweep(path) for path in storage.list_sweeps(tmp_path)[0]]
    results = estimate_volumes(sweeps, 0.5, bootstrap=10)
    assert results["key"] == "epochs" and results["key_values"] == [80, 150, 300, 600]
    for key in ("log_exp_r_n_values", "log_volume_values"):
        assert results[key] == sorted(results[key])
