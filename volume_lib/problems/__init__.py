"""Data sets, networks and losses under one name; base, additional and test samples."""

from volume_lib._lazy import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "base": "Problem data_root",
        "registry": "get_problem is_shipped problem_names",
        "section": "DataSettings",
        "splits": "make_dataset",
    },
)
