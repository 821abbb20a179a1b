"""The Gaussian reference of a log mass: :mod:`volume_lib.rays.reference`."""

from volume_lib.rays.reference import Reference, make_reference

__all__ = ["Reference", "make_reference"]
