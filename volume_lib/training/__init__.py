"""Train minima: what to train (``plan``), the loop, stacks of small models, optimisers, settings."""

from volume_lib._lazy import lazy

__getattr__, __all__ = lazy(
    __name__, {"runs": "Run train_models train_runs", "plan": "Plan", "section": "TrainSettings"}
)
