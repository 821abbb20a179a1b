"""Bodies of known volume, and the convergence of the estimators on them."""

from volume_lib._lazy import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "bodies": "Body box cross_polytope ellipsoid log_spectrum quadratic_bowl tilted_bowl",
        "coverage": "Coverage cover coverage_table",
        "masses": "Region ball classifier flat_bowl spiky_star two_balls",
        "convergence": "converge",
        "record": "Convergence",
    },
)
