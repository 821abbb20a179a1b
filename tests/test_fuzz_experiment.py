"""Every value of a valid experiment.yaml of another type, every key gone: a right read, or one clear line."""

import copy
from collections import Counter

import yaml

from volume_lib.errors import InputError
from volume_lib.experiment.file import parse_experiment

WHOLE = """\
problem: mnist
model: {hidden_dims: [256, 128]}
runs: {model_seeds: [0, 1], data_seeds: [10, 11]}
train: {epochs: 5, batch_size: 10, base_data_size: 60, dataset_type: data, dataset_quantities: [0, 540],
        learning_rate: 0.003, target_train_loss: 0.01, optimizer: adam, weight_decay: 0.0}
perturb: {num_directions: 5, loss_thresholds: [0.02, 0.1], scaling: filter, search: crossing,
          perturbation_seed: 0, landscape_levels: [0], acc_threshold: null, all_pairs: false}
volume: {loss_thresholds: [0.02], subset_sizes: [1, 2]}
cutoff: {loss_threshold: 0.1}
integrate: {minutes: 1, region: visible, reference: init}
analysis: {loss_threshold: 0.02}
"""
ODD = [
    "",
    "x",
    "1",
    -1,
    0,
    1,
    2**64,
    1.5,
    1e308,
    float("nan"),
    float("inf"),
    True,
    None,
    [],
    ["x"],
    [None],
    [[0]],
]
ODD += [[0, 0], {}, {"a": 1}, {1: 2}, {"a": {"b": [1]}}]


def places(value, at=()):
    """Where every value of nested containers lies."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield (*at, key)
        yield from places(child, (*at, key))


def mutations(whole):
    for at in places(whole):
        for odd in [*ODD, ...]:
            changed = copy.deepcopy(whole)
            holder = changed
            for key in at[:-1]:
                holder = holder[key]
            if odd is ...:
                del holder[at[-1]]
            else:
                holder[at[-1]] = odd
            yield at, odd, changed


def test_every_odd_value_is_read_or_one_line_that_names_file_and_key():
    counts = Counter()
    whole = yaml.safe_load(WHOLE)
    assert parse_experiment(WHOLE).problem == "mnist"
    for at, odd, changed in mutations(whole):
        text = yaml.safe_dump(changed)
        try:
            parse_experiment(text, "here/experiment.yaml")
        except InputError as error:
            counts["refused"] += 1
            # the changed key, or the one that no longer agrees with it
            names = [*whole, *(str(part) for part in at)]
            told = str(error)
            assert "\n" not in told and told.startswith("here/experiment.yaml: "), (at, odd, told)
            assert any(told.split(": ")[1].startswith(name) for name in names), (at, odd, told)
        else:
            counts["read"] += 1
    print(dict(counts))
    assert counts["refused"] > 500 and counts["read"] > 100
