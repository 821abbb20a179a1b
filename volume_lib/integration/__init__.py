"""The log mass of a region by thermodynamic integration."""

from volume_lib._lazy import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "entry": "integrate",
        "record": "Mass",
        "reference": "Reference make_reference",
        "run": "Options",
    },
)
