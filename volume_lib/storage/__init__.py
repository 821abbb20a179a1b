"""Every file of a run: where it lies, how it is written and how it is read.

A run folder holds (see ``experiments/README.md`` for the keys)::

    models_and_data/dataset.pt                        Train Low Test Models.ipynb
    models_and_data/model_additional_<level>.pt       (model_<key>_<value>.pt where something else varies)
    <type>_<landscape level>/<type>_<model level>.npz Random Perturbs.ipynb
    <type>_<landscape level>/loss_<threshold>/        Volume Estimation Pipeline.ipynb
    cutoffs/cutoffs.json                              Volume Cutoff.ipynb
    test_accuracies.npz                               Test Accuracy.ipynb
    <type>_<landscape level>/loss_<threshold>/mass.json   Volume Integration.ipynb, where it is asked for

Writers go through :func:`atomic_write`: a reader never sees half a file. Readers never execute or import
what they read, keep to limits that the file's size sets, compare its check sums, and raise
:class:`~volume_lib.errors.InputError` naming the file, what is wrong with it and the notebook that writes it.
"""

from volume_lib.storage.files import atomic_write, remove_temporary_files, write_bytes
from volume_lib.storage.masses import load_masses, mass_beside, mass_path, mass_state_path, save_masses
from volume_lib.storage.models import load_dataset, load_model, load_models_and_data, save_dataset, save_model
from volume_lib.storage.origins import load_sweeps, stale
from volume_lib.storage.outputs import list_outputs
from volume_lib.storage.partials import Partial, load_partials, remove_partials, save_partial
from volume_lib.storage.paths import (
    ACCURACY_NOTEBOOK,
    CUTOFF_NOTEBOOK,
    INTEGRATION_NOTEBOOK,
    MODELS_AND_DATA,
    PARTIAL,
    PERTURB_NOTEBOOK,
    SHARDS,
    TRAIN_NOTEBOOK,
    VOLUME_NOTEBOOK,
    accuracies_path,
    analysis_dir,
    cutoffs_path,
    list_models,
    list_results,
    list_runs,
    list_sweeps,
    model_path,
    partial_dir,
    results_dir,
    results_path,
    run_name,
    run_seeds,
    shard_dir,
    sweep_dir,
    sweep_path,
    threshold_name,
    value_of,
)
from volume_lib.storage.results import (
    accuracies_weights,
    load_cutoffs,
    load_results,
    load_test_accuracies,
    save_cutoffs,
    save_results,
    save_test_accuracies,
)
from volume_lib.storage.sweeps import load_sweep, save_sweep
from volume_lib.storage.weights import array_of, arrays_of, check_storable, weights_digest

__all__ = [
    "ACCURACY_NOTEBOOK",
    "CUTOFF_NOTEBOOK",
    "INTEGRATION_NOTEBOOK",
    "MODELS_AND_DATA",
    "PARTIAL",
    "PERTURB_NOTEBOOK",
    "SHARDS",
    "TRAIN_NOTEBOOK",
    "VOLUME_NOTEBOOK",
    "Partial",
    "accuracies_path",
    "accuracies_weights",
    "analysis_dir",
    "array_of",
    "arrays_of",
    "atomic_write",
    "check_storable",
    "cutoffs_path",
    "list_models",
    "list_outputs",
    "list_results",
    "list_runs",
    "list_sweeps",
    "load_cutoffs",
    "load_dataset",
    "load_masses",
    "load_model",
    "load_models_and_data",
    "load_partials",
    "load_results",
    "load_sweep",
    "load_sweeps",
    "load_test_accuracies",
    "mass_beside",
    "mass_path",
    "mass_state_path",
    "model_path",
    "partial_dir",
    "remove_partials",
    "remove_temporary_files",
    "results_dir",
    "results_path",
    "run_name",
    "run_seeds",
    "save_cutoffs",
    "save_dataset",
    "save_masses",
    "save_model",
    "save_partial",
    "save_results",
    "save_sweep",
    "save_test_accuracies",
    "shard_dir",
    "stale",
    "sweep_dir",
    "sweep_path",
    "threshold_name",
    "value_of",
    "weights_digest",
    "write_bytes",
]
