r"""The log mass of a region by thermodynamic integration: the probability that a Gaussian reference gives it.

    mass = integrate(model, x, y, loss=per_sample_loss, threshold=0.1, minutes=5)
    print(mass)              # log mass, interval, both passes, whether it converged
    more = integrate(model, x, y, loss=per_sample_loss, threshold=0.1, minutes=5, resume=mass)
    mass.as_dict()           # ready for strict JSON

Chains walk along a path between the reference and the region and back again; what the work along it adds up
to is the log mass (:mod:`~.estimate`). Two routes: :mod:`~.outward` leaves the minimum, for the visible
region; :mod:`~.inward` comes from the reference, for the connected one. Both passes must agree: chains lag
behind on one side going and on the other coming. Smooth weights stand for the region's edge until the last
step, so that no move meets a wall, and the visible region has a loss of its own (:mod:`~.region`). The
method is that of free energies (Frenkel and Ladd 1984), of basin volumes (Xu, Frenkel and Liu 2011;
Martiniani et al. 2016), and its check from both sides that of Grosse, Ghahramani and Adams (2015).

What an interval cannot know of: a part of the region that no chain has found in either pass.
"""

from volume_lib._lazy import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "curve": "Curve join",
        "entry": "integrate",
        "minima": "integrate_minima",
        "record": "Mass",
        "run": "Options",
    },
)
