"""What a comparison comes to in a few sentences, for readers who have never heard of Hit@20."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mkmsr.reports.comparison import Comparison, ComparisonRow

VISITORS = 20
"""Shares are told as so many of these."""

_CHANCE = 0.05
_WORDS = {1: "one", 3: "three", 5: "five", 10: "ten"}


@dataclass(frozen=True)
class Verdict:
    """What is said about the run that the others are compared with, in sentences.

    `found` of `VISITORS` visitors found their next item in the shortest list; `repetition` says how much of the
    headline is items that the session held already, and is empty where nothing was found.
    """

    sentence: str
    found: int
    visitors: str
    repetition: str


def verdict(comparison: Comparison) -> Verdict:
    """Return what the comparison says about its reference."""
    own = next(row for row in comparison.rows if row.is_reference)
    metrics = own.run.document["metrics"]
    lengths = sorted(int(name.partition("@")[2]) for name in metrics if name.startswith("hit@"))
    longest = f"hit@{lengths[-1]}"
    others = [row for row in comparison.rows if not row.is_reference]
    best = max(others, key=lambda row: _share(row, longest), default=None)
    short = 5 if 5 in lengths else lengths[0]
    found = round(VISITORS * _share(own, f"hit@{short}"))
    visitors = f"{found} of {VISITORS} visitors found their next item in the first {_WORDS.get(short, short)}"
    if best is not None:
        visitors += f"; with {best.run.label}, {round(VISITORS * _share(best, f'hit@{short}'))} of {VISITORS}"
    return Verdict(_sentence(own, best, longest), found, f"{visitors}.", _repetition(own.run.document, longest))


def _share(row: ComparisonRow, metric: str) -> float:
    return float(row.run.document["metrics"][metric])


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _sentence(own: ComparisonRow, best: ComparisonRow | None, hit: str) -> str:
    k = hit.partition("@")[2]
    among = f"has the next item among its first {k} in {_percent(_share(own, hit))} % of cases"
    if best is None:
        return f"{own.run.label} {among}."
    beside = f"{best.run.label}, the best of the other models, in {_percent(_share(best, hit))} %"
    found = best.differences.get(hit)
    if found is None:
        return f"{own.run.label} {among}, {beside}; whether that is chance was not tested."
    if found.p_value >= _CHANCE:
        return f"No clear winner: {own.run.label} {among}, {beside}, and such a difference can be chance."
    winner = own if found.difference < 0 else best
    return f"{winner.run.label} finds the most: {own.run.label} {among}, {beside}, and that is more than chance."


def _repetition(document: Mapping[str, Any], hit: str) -> str:
    examples, repeat = int(document["examples"]), document["slices"]["repeat"]
    hits = float(document["metrics"][hit]) * examples
    repeats = int(repeat["examples"]) * float(repeat[hit] or 0)
    if not hits:
        return ""
    k, share = hit.partition("@")[2], 100 * repeats / hits
    told = f"Of the items found in the first {k}, {share:.0f} % were in the session already"
    if rest := examples - int(repeat["examples"]):
        return f"{told}; where the visitor went on to another one, {_percent((hits - repeats) / rest)} % were found."
    return f"{told}."
