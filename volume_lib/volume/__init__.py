"""Radii → log volumes, what they are worth (``diagnostics``), and both in words."""

from volume_lib._lazy import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "estimate": "estimate_volumes log_ball_volume log_mean_power log_volume",
        "mass": "RayMass log_mass_rays ray_mass",
        "radii": "Radii threshold_radii",
        "words": "describe_order order_line table",
    },
)
