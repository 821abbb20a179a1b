"""First threshold crossings along rays: points, predictions, the solver and the plain grid."""

from volume_lib._lazy import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "crossings": "Crossing Grid",
        "points": "Packed Points Target bracket",
        "prediction": "History",
    },
)
