"""Volumes in words: a table of the minima with what each number is worth, and which order is beyond doubt.

Both read a ``results.json`` as :func:`volume_lib.volume.estimate.estimate_volumes` returns it or
:func:`volume_lib.storage.load_results` reads it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from volume_lib.records import ADDITIONAL

RELIABLE_DIRECTIONS = 50
"""Effective directions from which a bootstrap interval covers as it should (see ``bootstrap_interval``)."""


@dataclass(frozen=True)
class Table:
    """Text cells under a header: ``print`` shows columns, a notebook shows an HTML table."""

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [self.header, tuple("-" * width for width in widths), *self.rows]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
        )

    def _repr_html_(self) -> str:
        def row(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(row(cells, "td") for cells in self.rows)
        return f"<table><thead>{row(self.header, 'th')}</thead><tbody>{body}</tbody></table>"


def table(results: Mapping[str, Any]) -> Table:
    """One row for each minimum: estimate, interval, resolution (nats), effective and uncrossed directions;
    log volume and log mass by rays, where the results have them."""
    header = ("minimum", "log E[r^n]", "95 % interval", "resolution", "effective directions", "never crossed")
    also = {"log_volume_values": "log volume", "log_mass_rays_values": "log mass by rays"}
    also = {key: words for key, words in also.items() if key in results}
    drawn = results["num_directions"]
    rows = []
    for i, name in enumerate(_names(results)):
        low, high = results["log_exp_r_n_ci"][i]
        row = (
            name,
            _nats(results["log_exp_r_n_values"][i]),
            f"{_nats(low)} … {_nats(high)}" if high > -math.inf else "",
            _small(results["log_exp_r_n_resolution"][i]),
            f"{results['effective_directions'][i]:.1f} of {drawn[i] if isinstance(drawn, list) else drawn:,}",
            f"{results['num_censored'][i]:,}",
        )
        rows.append((*row, *(_nats(results[key][i]) for key in also)))
    return Table((*header, *also.values()), rows)


def mass_table(masses: Mapping[str, Any]) -> Table:
    """One row for each minimum of a ``mass.json``: log mass, its interval, both passes, the same by rays, and
    which other minimum lies in the same region."""
    header = ("minimum", "log mass", "interval", "forward pass", "backward pass", "converged", "by rays")
    header += ("in one region with",)
    columns = ("log_mass_values", "log_mass_intervals", "forward_values", "backward_values")
    rows = []
    for i, name in enumerate(_names(masses)):
        mass, (low, high), forward, backward = (masses[column][i] for column in columns)
        if mass == -math.inf:
            rows.append((name, "no mass", "", "", "", masses["reasons"][i], "", ""))
            continue
        verdict = "yes" if masses["converged"][i] else f"no: {masses['reasons'][i]}"
        rays = masses["log_mass_rays_values"][i]
        by_rays = "" if math.isnan(rays) else _nats(rays)
        ends = f"{_nats(low)} … {_nats(high)}"
        shared = region_words(masses["same_region"][i])
        rows.append((name, _nats(mass), ends, _nats(forward), _nats(backward), verdict, by_rays, shared))
    return Table(header, rows)


def region_words(curve: Mapping[str, Any]) -> str:
    """What a curve to another minimum (an entry of ``same_region``) shows; empty where there is none."""
    if not curve:
        return ""
    kind = "straight line" if not curve["bends"] else f"{curve['bends']} bends"
    if curve["joined"]:
        power = 10 ** (1 - math.floor(math.log10(max(curve["highest"], 1e-300))))  # two digits, rounded up
        return f"{curve['with']:,} ({kind}, loss ≤ {math.ceil(curve['highest'] * power) / power:.2g})"
    return "no curve found"


def describe_order(results: Mapping[str, Any]) -> str:
    """Which minima are ordered by ``log E[r^n]`` beyond doubt, and which are not, in plain sentences.

    Of two neighbours in the order, the larger is so *beyond doubt* if the low end of its interval, less its
    resolution, lies above the high end of the smaller one's, and that high end can be trusted: every
    direction of the smaller one crossed, and at least :data:`RELIABLE_DIRECTIONS` effective directions carry
    its mean. With fewer, directions not drawn can make it larger than the interval says; then the two are
    apart *on the directions sampled* only. A minimum that is above the threshold to begin with has no
    volume, which needs no directions to tell.

    With filter scaling, ``log E[r^n]`` is in units of each minimum's own filters, as published volumes of
    this kind are; the table's log volume is in parameter space.
    """
    alive, names = _alive(results), _names(results)
    sentences = []
    if len(alive) > 1:
        sentences.append(f"From the largest volume to the smallest: {', '.join(names[i] for i in alive)}.")
    found: dict[str, list[str]] = {"beyond doubt": [], "sampled": [], "not": []}
    doubtful = []
    for larger, smaller in pairwise(alive):
        verdict = _verdict(results, larger, smaller)
        found[verdict].append(f"{names[larger]} {'and' if verdict == 'not' else 'above'} {names[smaller]}")
        if verdict == "sampled":
            doubtful.append(_doubt(results, smaller, names[smaller]))
    if found["beyond doubt"]:
        sentences.append(f"Ordered beyond doubt: {', '.join(found['beyond doubt'])}.")
    if found["sampled"]:
        sentences.append(
            f"Apart on the directions sampled, but not beyond doubt: {', '.join(found['sampled'])} "
            f"({'; '.join(doubtful)})."
        )
    if found["not"]:
        sentences.append(f"Not ordered, their intervals meet: {', '.join(found['not'])}.")
    if len(alive) < len(names):
        dead = ", ".join(name for i, name in enumerate(names) if i not in alive)
        sentences.append(f"No volume, above the threshold without any perturbation: {dead}.")
    return " ".join(sentences) or f"One minimum, {names[0]}: nothing to order."


def order_line(results: Mapping[str, Any]) -> str:
    """The minima from the largest volume to the smallest, in one line.

    Between two neighbours stands ``≫`` where the first is larger beyond doubt, ``>`` where the two are apart
    on the directions sampled, ``≈`` where their intervals meet (:func:`describe_order`). Minima without
    a volume are left out.
    """
    alive, names = _alive(results), _names(results)
    signs = {"beyond doubt": "≫", "sampled": ">", "not": "≈"}
    line = names[alive[0]] if alive else "none has a volume"
    for larger, smaller in pairwise(alive):
        line += f" {signs[_verdict(results, larger, smaller)]} {names[smaller]}"
    return line


def _alive(results: Mapping[str, Any]) -> list[int]:
    """Positions of the minima that have a volume, from the largest to the smallest."""
    values = results["log_exp_r_n_values"]
    return sorted((i for i in range(len(values)) if values[i] > -math.inf), key=lambda i: -values[i])


def _verdict(results: Mapping[str, Any], larger: int, smaller: int) -> str:
    resolution = results["log_exp_r_n_resolution"][larger]
    resolution = math.inf if resolution is None or math.isnan(resolution) else resolution
    low, high = results["log_exp_r_n_ci"][larger][0] - resolution, results["log_exp_r_n_ci"][smaller][1]
    if not low > high:
        return "not"
    bounded = results["num_censored"][smaller] == 0
    return "beyond doubt" if bounded and _reliable(results, smaller) else "sampled"


def _reliable(results: Mapping[str, Any], i: int) -> bool:
    return results["effective_directions"][i] >= RELIABLE_DIRECTIONS


def _doubt(results: Mapping[str, Any], i: int, name: str) -> str:
    """Why the high end of a minimum's interval is no bound."""
    if not _reliable(results, i):
        return f"{results['effective_directions'][i]:.1f} effective directions carry the mean of {name}"
    return f"{results['num_censored'][i]:,} directions of {name} never crossed"


def _names(results: Mapping[str, Any]) -> list[str]:
    """``+540`` for additional samples, ``batch_size 100`` for anything else; ``names`` if given."""
    if "names" in results:
        return list(results["names"])
    key = results.get("key", ADDITIONAL)
    values = results.get("key_values", results["model_data_levels"])
    return [f"+{value:,}" if key == ADDITIONAL else f"{key} {value}" for value in values]


def _nats(value: float) -> str:
    if value == -math.inf:
        return "no volume"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:,.2f}"


def _small(value: float | None) -> str:
    return "open" if value is None or not math.isfinite(value) else f"{value:.2g}"
