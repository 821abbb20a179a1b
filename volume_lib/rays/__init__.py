"""Rays from a minimum: seeded directions, their scaling, and the losses along them, plain and fast."""

from volume_lib._lazy import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "directions": "draw draw_batch norms reproduce_direction",
        "scaling": "SCALINGS compute_scale log_det",
        "losses": "PlainRays Rays",
        "fast": "FastRays",
    },
)
