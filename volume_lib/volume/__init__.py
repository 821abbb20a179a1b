"""Radii → log volumes, what they are worth (``diagnostics``), and both in words."""

from volume_lib._lazy import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "estimate": "Radii estimate_volumes log_ball_volume log_mean_power log_volume threshold_radii",
        "mass": "RayMass log_mass_rays ray_mass",
        "words": "describe_order order_line table",
    },
)
