"""Many runs → tables and numbers: what the analysis notebook draws.

``load_experiment`` makes one tidy table of an experiment's runs; ``rank_agreement``, ``fit_power_law`` and
``compare`` are what is read off it; ``write_summary`` writes it down.
"""

from volume_lib.analysis.loading import load_experiment, minima_of
from volume_lib.analysis.statistics import (
    Agreement,
    Comparison,
    PowerLaw,
    compare,
    fit_power_law,
    mean_and_spread,
    rank_agreement,
)
from volume_lib.analysis.table import COLUMNS, QUANTITIES, ExperimentResults, write_summary

__all__ = [
    "COLUMNS",
    "QUANTITIES",
    "Agreement",
    "Comparison",
    "ExperimentResults",
    "PowerLaw",
    "compare",
    "fit_power_law",
    "load_experiment",
    "mean_and_spread",
    "minima_of",
    "rank_agreement",
    "write_summary",
]
