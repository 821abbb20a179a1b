"""Problems with arguments: one text that names them in every file, and what the arguments do."""

from __future__ import annotations

import math

import pytest
import torch

from volume_lib import storage
from volume_lib.errors import InputError
from volume_lib.experiment.file import parse_experiment
from volume_lib.problems import get_problem
from volume_lib.problems.splits import make_dataset, noise_inputs
from volume_lib.records import problem_parts, problem_text
from volume_lib.training.runs import train_models


def test_a_problem_and_its_arguments_are_one_text():
    text = problem_text({"name": "swiss_roll", "turns": 1.7, "noise": 0.3})
    assert text == "swiss_roll(noise=0.3, turns=1.7)" == problem_text(text)
    assert problem_parts(text) == ("swiss_roll", {"noise": 0.3, "turns": 1.7})
    assert problem_text("mnist") == "mnist" and problem_parts("my.py:Own") == ("my.py:Own", {})
    assert problem_parts("a(x='(', y=[1, None, True])") == ("a", {"x": "(", "y": [1, None, True]})
    for wrong in ("a(1)", "a(x=open('f'))", "a(x=1", "a(x=1).y", "a(x=b)", "a(**x)"):
        with pytest.raises(InputError, match="arguments are written as"):
            problem_parts(wrong)
    with pytest.raises(InputError, match="must be a name"):
        problem_text({"turns": 1})


def test_an_experiment_names_a_problem_with_arguments():
    experiment = parse_experiment("problem: {name: swiss_roll, turns: 1.7}")
    assert experiment.problem == "swiss_roll(turns=1.7)"
    assert parse_experiment("problem: swiss_roll").problem == "swiss_roll"
    with pytest.raises(InputError, match="must be a name"):
        parse_experiment("problem: {turns: 1.7}")


def test_what_a_problem_does_not_take_is_one_line():
    with pytest.raises(InputError, match=r"no argument turn \(did you mean.*turns.*it takes turns, noise"):
        get_problem({"name": "swiss_roll", "turn": 1})
    with pytest.raises(InputError, match=r"mnist.*it takes no arguments"):
        get_problem("mnist(size=3)")
    with pytest.raises(InputError, match="turns -1: must be a number"):
        get_problem("swiss_roll(turns=-1)")
    with pytest.raises(InputError, match="modulus 1: must be a whole number"):
        get_problem("modular_arithmetic(modulus=1)")


def test_a_problem_of_ones_own_takes_arguments_too(tmp_path):
    (tmp_path / "own.py").write_text(
        "from volume_lib.problems.swiss_roll import SwissRoll\n"
        "class Own(SwissRoll):\n"
        "    def __init__(self, size=5):\n"
        "        super().__init__()\n"
        "        self.train_size = size\n"
    )
    problem = get_problem({"name": "own.py:Own", "size": 7}, tmp_path)
    assert problem.name == "own.py:Own(size=7)" and len(problem.load().x_train) == 7
    assert len(get_problem(problem.name, tmp_path).load().x_train) == 7


def test_files_lead_back_to_the_arguments(tmp_path):
    problem = get_problem("swiss_roll(turns=1.7)")
    dataset = make_dataset(problem, base_data_size=4, dataset_quantities=[0], data_seed=0, test_size=5)
    folder = tmp_path / "models_and_data"
    train_models(
        problem, dataset, folder=folder, model={"hidden_dims": [3]}, model_seed=0, epochs=1, batch_size=4
    )
    storage.save_dataset(folder, dataset)
    (trained,), loaded = storage.load_models_and_data(folder)
    assert loaded.problem == trained.problem == "swiss_roll(turns=1.7)"
    assert get_problem(loaded.problem).turns == 1.7


# ---- what the arguments do


def test_the_published_spiral():
    """The radius grows by 1.5 a radian over 1.7 turns, with noise of 0.3 in each coordinate."""
    outer = 1.5 * 2 * math.pi * 1.7
    published = {"name": "swiss_roll", "turns": 1.7, "noise": 0.3, "radius": outer, "core": 0}
    data = get_problem(published).load()
    clean = get_problem(published | {"noise": 0}).load()  # the same points without their noise
    assert torch.equal(data.y_train, clean.y_train)
    assert (data.x_train - clean.x_train).std(dim=0).tolist() == pytest.approx([0.3, 0.3], rel=0.02)
    x, sign = clean.x_train.double(), 1 - 2 * clean.y_train.double()
    radius = x.norm(dim=1)
    arm = radius[:, None] * torch.stack([(radius / 1.5).cos(), (radius / 1.5).sin()], 1) * sign[:, None]
    torch.testing.assert_close(x, arm, atol=1e-4, rtol=0)
    assert outer - 0.01 < radius.max() <= outer
    # the square root of a uniform: a quarter of the points within half the radius
    assert (radius < outer / 2).double().mean() == pytest.approx(0.25, abs=0.02)


def test_the_default_spiral_is_what_it_was():
    x = get_problem("swiss_roll").load().x_train
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (10_000,), generator=generator)
    radius = torch.sqrt(0.02 + 0.98 * torch.rand(10_000, generator=generator))
    angle = 2 * math.pi * 2.5 * radius + math.pi * y
    centre = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
    assert torch.equal(x, 2 * (centre + 0.02 * torch.randn(10_000, 2, generator=generator)))


def test_the_published_table_of_additions():
    problem = get_problem(
        {"name": "modular_arithmetic_mse", "modulus": 97, "whole_table": True, "average_outputs": True}
    )
    data = problem.load()
    assert data.x_train.shape == (9409, 194) and torch.equal(data.x_train, data.x_test)
    a, b = data.x_test[:, :97].argmax(1), data.x_test[:, 97:].argmax(1)
    assert (
        torch.equal((a + b) % 97, data.y_test) and len(set(zip(a.tolist(), b.tolist(), strict=True))) == 9409
    )
    outputs = torch.randn(5, 97, generator=torch.Generator().manual_seed(0))
    targets = torch.nn.functional.one_hot(data.y_test[:5], 97).float()
    assert problem.loss(outputs, data.y_test[:5]) == pytest.approx(
        torch.nn.functional.mse_loss(outputs, targets).item(), rel=1e-6
    )
    model = problem.build_model({"hidden_dims": [250]}, 0)
    assert sum(p.numel() for p in model.parameters()) == 73_097
    plain = get_problem("modular_arithmetic_mse")
    assert plain.modulus == 59 and len(plain.load().x_test) == 696


def test_any_context_of_text():
    problem = get_problem("shakespeare(context=256)")
    assert problem.default_model_kwargs("GPT")["context"] == 256
    try:
        data = problem.load()
    except InputError:
        pytest.skip("no text here")
    assert data.x_train.shape[1] == 256 and torch.equal(data.x_train[0, 1:], data.y_train[0, :-1])


# ---- the split


def test_a_seed_of_its_own_draws_the_additional_samples_alone():
    problem = get_problem("swiss_roll")
    sizes = {"base_data_size": 6, "dataset_quantities": [0, 9], "data_seed": 3}
    plain = make_dataset(problem, **sizes)
    others = [make_dataset(problem, **sizes, additional_seed=seed) for seed in (1, 1, 2)]
    for other in others:
        assert torch.equal(other.x_base_train, plain.x_base_train)
        base = {tuple(x) for x in other.x_base_train.tolist()}
        assert not base & {tuple(x) for x in other.x_additional.tolist()}
    assert torch.equal(others[0].x_additional, others[1].x_additional)
    assert not torch.equal(others[0].x_additional, others[2].x_additional)
    assert torch.equal(make_dataset(problem, **sizes, additional_seed=None).x_additional, plain.x_additional)


def test_noise_of_global_moments():
    x = torch.cat([torch.full((50, 1), -3.0), torch.full((50, 1), 5.0)], dim=1)  # mean 1, deviation 4
    generator = torch.Generator().manual_seed(0)
    noise = noise_inputs(x, 20_000, generator, "global")
    assert noise.mean(dim=0).tolist() == pytest.approx([1, 1], abs=0.15)
    assert noise.std(dim=0).tolist() == pytest.approx([4, 4], rel=0.03)
    assert noise_inputs(x, 5, generator).tolist() == [[-3.0, 5.0]] * 5
    with pytest.raises(InputError, match="noise_moments"):
        noise_inputs(x, 5, generator, "each")


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"additional_seed": -1}, "additional_seed: -1 must be 0 or more"),
        (
            {"additional_seed": 2**64},
            "additional_seed: 18446744073709551616 must be 18446744073709551615 or less",
        ),
        ({"additional_seed": 1.5}, "additional_seed: 1.5 must be a whole number"),
        ({"noise_moments": "globl", "dataset_type": "noise"}, "globl.*must be one of channel, global"),
        ({"noise_moments": "global"}, "dataset_type data has no noise"),
    ],
)
def test_what_a_split_cannot_be_is_one_line(wrong, line):
    sizes = {"base_data_size": 6, "dataset_quantities": [0, 9], "data_seed": 3}
    with pytest.raises(InputError, match=line) as raised:
        make_dataset(get_problem("swiss_roll"), **sizes | wrong)
    assert "\n" not in str(raised.value)
    given = "".join(f", {key}: {value}" for key, value in wrong.items())
    with pytest.raises(InputError, match=r"train.*(additional_seed|noise_moments)") as raised:
        parse_experiment(f"problem: swiss_roll\ntrain: {{epochs: 5{given}}}")
    assert "\n" not in str(raised.value)


def test_an_experiment_says_how_its_additional_data_are_drawn():
    text = "problem: swiss_roll\ntrain: {dataset_type: noise, additional_seed: 7, noise_moments: global}"
    given = parse_experiment(text).parameters("train")
    assert given["additional_seed"] == 7 and given["noise_moments"] == "global"
    plain = parse_experiment("problem: swiss_roll").parameters("train")
    assert plain["additional_seed"] is None and plain["noise_moments"] == "channel"
