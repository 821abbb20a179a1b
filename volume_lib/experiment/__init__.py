"""``experiment.yaml`` → checked settings: the file, and its sections."""

from volume_lib._lazy import lazy

__getattr__, __all__ = lazy(
    __name__,
    {"file": "FILE_NAME STEPS Experiment RunSeeds experiment_file parse_experiment read_experiment"},
)
