"""Models × landscapes × directions → one ``.npz`` file for each pair of a model and a landscape."""

from volume_lib._lazy import lazy

__getattr__, __all__ = lazy(
    __name__, {"older": "completed", "run": "levels_of run_sweep", "settings": "SweepSettings"}
)
