"""The front door: one model, one loss, some data → its :class:`Volume`, in memory."""

from volume_lib._lazy import lazy

__getattr__, __all__ = lazy(
    __name__,
    {"entry": "measure", "record": "Volume", "comparison": "Comparison compare"},
)
