"""How far chains can be trusted: standard errors, R-hat, effective sample sizes (arviz-stats)."""

from __future__ import annotations

import math

import numpy as np


def standard_error(series: np.ndarray) -> float:
    """Standard error of the mean of ``series`` (moves, chains).

    The larger of two: from the effective number of samples within chains, and from the spread between the
    chains' own means, which sees what the chains do not mix.
    """
    chains = series.shape[1]
    spread = float(series.std())
    if not spread > 0:
        return 0.0
    within = spread / math.sqrt(effective_samples(series))
    if chains < 2:
        return within
    between = float(series.mean(0).std(ddof=1)) / math.sqrt(chains)
    return max(within, between)


def effective_samples(series: np.ndarray) -> float:
    """Effective sample size of ``series`` (moves, chains), at least 1 for each chain, at most their
    number."""
    from arviz_stats.base.array import array_stats

    moves, chains = series.shape
    if moves < 4:
        return float(chains)
    found = float(np.asarray(array_stats.ess(series, chain_axis=1, draw_axis=0, method="mean")))
    return min(max(found, float(chains)), float(series.size)) if math.isfinite(found) else float(chains)


def split_rhat(series: np.ndarray) -> float:
    """R-hat of ``series`` (moves, chains) with ranks and folding (Vehtari et al. 2021); NaN below 4 moves."""
    from arviz_stats.base.array import array_stats

    if series.shape[0] < 4 or not series.std() > 0:
        return math.nan
    return float(np.asarray(array_stats.rhat(series, chain_axis=1, draw_axis=0)))
