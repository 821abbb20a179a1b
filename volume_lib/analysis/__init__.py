"""Many runs → tables and numbers: what the analysis notebook draws.

``choose`` settles how an experiment is analysed and loads it; ``load_experiment`` makes one tidy table of
its runs; ``rank_agreement``, ``scaling_law`` and ``compare`` are what is read off it; ``write_summary``
writes it down.
"""

from volume_lib.analysis.comparison import Comparison, compare
from volume_lib.analysis.loading import load_experiment
from volume_lib.analysis.masses import MassOrder, mass_orders, mass_table
from volume_lib.analysis.runs import minima_of
from volume_lib.analysis.settings import Chosen, choose
from volume_lib.analysis.stability import RankStability, rank_stability, stability_table, write_stability
from volume_lib.analysis.statistics import (
    OWN,
    Agreement,
    PowerLaw,
    fit_power_law,
    mean_and_spread,
    mean_stability,
    rank_agreement,
    scaling_law,
)
from volume_lib.analysis.table import COLUMNS, QUANTITIES, ExperimentResults, write_summary

__all__ = [
    "COLUMNS",
    "OWN",
    "QUANTITIES",
    "Agreement",
    "Chosen",
    "Comparison",
    "ExperimentResults",
    "MassOrder",
    "PowerLaw",
    "RankStability",
    "choose",
    "compare",
    "fit_power_law",
    "load_experiment",
    "mass_orders",
    "mass_table",
    "mean_and_spread",
    "mean_stability",
    "minima_of",
    "rank_agreement",
    "rank_stability",
    "scaling_law",
    "stability_table",
    "write_stability",
    "write_summary",
]
