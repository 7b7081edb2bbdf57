"""A closer look at ranks: groups of examples, other averages, calibration, and whether the order of events matters.

Dimension letters: n examples, m metrics, V catalogue + 1, K list length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mkmsr.data.buckets import bucket_bounds, number_in
from mkmsr.data.dataset import EvaluationSplit
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import EarlierItems, ExampleTable, SessionTable, ranges
from mkmsr.data.storage import Display
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.evaluation.metrics import DEFAULT_KS, example_values, metric_names
from mkmsr.evaluation.ranks import RankTable
from mkmsr.evaluation.significance import PairedDifference, paired_differences
from mkmsr.evaluation.target_ranks import Ranked
from mkmsr.runtime.events import Listener, ignore


@dataclass(frozen=True)
class Judged:
    """What the measures below read.

    `ranks` are those of the examples of `split`, in the same order. `share_V` is how many of the earlier sessions hold
    each item, 0..1, see `share_of_sessions`; `price_V` its price, NaN where there is none.
    """

    ranks: RankTable
    split: EvaluationSplit
    operations: Vocabulary
    share_V: NDArray[np.floating]
    price_V: NDArray[np.floating] | None = None


Groups: TypeAlias = tuple[Sequence[str], NDArray[np.integer]]
"""Names, and the number of each example's own. Shape [n]."""


def _popularity(judged: Judged) -> Groups:
    names = ("most popular 1 %", "next 9 %", "other 90 %", "in no earlier session")
    items = len(judged.share_V) - 1
    place_V = np.empty(items + 1)
    place_V[1 + np.argsort(-judged.share_V[1:], kind="stable")] = np.arange(items) / items
    number_V = np.where(judged.share_V > 0, np.searchsorted([0.01, 0.1], place_V, side="right"), 3)
    return names, number_V[judged.ranks.target]


def _prefix_length(judged: Judged) -> Groups:
    names = ("1 event", "2", "3 to 5", "6 to 10", "more than 10")
    return names, np.searchsorted([2, 3, 6, 11], judged.ranks.prefix_length, side="right")


def _operation(judged: Judged) -> Groups:
    examples = judged.split.examples
    return judged.operations.ids, examples.sessions.operations[examples.end] - 1


def _time(judged: Judged) -> Groups:
    sessions = judged.split.examples.sessions
    quarter = np.empty(len(sessions), np.int64)
    by_end = np.argsort(sessions.times[sessions.offsets[1:] - 1], kind="stable")
    quarter[by_end] = np.arange(len(sessions)) * 4 // len(sessions)
    return ("oldest quarter of sessions", "second", "third", "newest"), quarter[judged.ranks.session]


def _sessions(judged: Judged) -> NDArray[np.floating]:
    return 1 / np.bincount(judged.ranks.session)[judged.ranks.session]


def _last_events(judged: Judged) -> NDArray[np.floating]:
    session = judged.ranks.session
    return np.append(session[1:] != session[:-1], True).astype(np.float64)


def _money(judged: Judged) -> NDArray[np.floating]:
    price_V = np.zeros(len(judged.share_V)) if judged.price_V is None else judged.price_V
    return np.nan_to_num(price_V)[judged.ranks.target]


_GROUPINGS: Mapping[str, Callable[[Judged], Groups]] = {
    "popularity of the next item": _popularity,
    "prefix length": _prefix_length,
    "operation of the next event": _operation,
    "time": _time,
}
"""Ways to divide the examples, by name."""

_AVERAGES: Mapping[str, Callable[[Judged], NDArray[np.floating]]] = {
    "each session counts once": _sessions,
    "last event of each session": _last_events,
    "each next item counts its price": _money,
}
"""Weights of the examples in a mean, by name; a mean by price is the share of the money that lists of k items find."""


def details(judged: Judged, ks: Sequence[int] = DEFAULT_KS) -> list[dict[str, Any]]:
    """Return one row for each group of examples and for each other average, without those that no example is in.

    Returns:
        Rows of `by`, `part`, `examples` (those that count at all) and every metric, 0..1; polars and pandas make a
        frame of them.
    """
    values_nm = example_values(judged.ranks.rank, ks)

    def row(by: str, part: str, weight_n: NDArray[np.floating]) -> dict[str, Any]:
        means = (weight_n @ values_nm / weight_n.sum()).tolist()
        counted = int(np.count_nonzero(weight_n))
        return {"by": by, "part": part, "examples": counted, **dict(zip(metric_names(ks), means, strict=True))}

    rows = []
    for by, group in _GROUPINGS.items():
        names, number_n = group(judged)
        found = [(name, (number_n == number).astype(np.float64)) for number, name in enumerate(names)]
        rows += [row(by, name, weight_n) for name, weight_n in found if weight_n.any()]
    weights = {name: average(judged) for name, average in _AVERAGES.items()}
    return rows + [row("average", name, weight_n) for name, weight_n in weights.items() if weight_n.any()]


def prices(items: Vocabulary, display: Display, knowledge: KnowledgeGraph) -> NDArray[np.float64] | None:
    """Return the price of each item, from what is shown with it as `price` or from a relation of that name. Shape [V].

    NaN where there is none, or where the relation holds ranges; None where no item has one. `€ 1,299.90`,
    `1.299,90 EUR` and `1299.9` are the same.
    """
    texts = {item: shown.get("price", "") for item, shown in display.items()}
    if "price" in knowledge.relations:
        rows = knowledge.triples[knowledge.triples[:, 1] == knowledge.relations.index("price")]
        for item, _, entity in rows.tolist():
            texts.setdefault(items.id(item), knowledge.attributes.id(entity - len(items)).removeprefix("price="))
    price_V = np.full(len(items) + 1, np.nan)
    for item, text in texts.items():
        if text and item in items:
            price_V[items.index(item)] = _price(text)
    return None if np.isnan(price_V).all() else price_V


def calibration(
    log_p_n: NDArray[np.floating], log_p_listed_nK: NDArray[np.floating], ranks: RankTable, *, groups: int = 5
) -> dict[str, Any]:
    """Return how well a model's probabilities agree with what came next.

    Returns:
        `log_likelihood`: mean log probability of the next item. `groups`: as many examples each, by the probability
        that the list holds the next item; what the model `expected` and what was `found`, 0..1. `calibration_error`:
        mean difference of the two over the groups, without its sign.

    Source: Guo et al., On calibration of modern neural networks (2017), with groups of equal size.
    """
    expected_n = np.exp(log_p_listed_nK).sum(1)
    found_n = ranks.rank <= log_p_listed_nK.shape[1]
    parts = [part for part in np.array_split(np.argsort(expected_n, kind="stable"), groups) if len(part)]
    rows = [
        {"examples": len(part), "expected": float(expected_n[part].mean()), "found": float(found_n[part].mean())}
        for part in parts
    ]
    error = sum(abs(row["expected"] - row["found"]) * row["examples"] for row in rows) / len(ranks)
    return {"log_likelihood": float(log_p_n.mean()), "calibration_error": error, "groups": rows}


def order_effect(
    model: Ranked,
    split: EvaluationSplit,
    ranks: RankTable,
    ks: Sequence[int] = DEFAULT_KS,
    *,
    seed: int = 0,
    samples: int = 1000,
    workers: int = 1,
    listener: Listener = ignore,
) -> dict[str, PairedDifference]:
    """Return what each metric loses when the events of every prefix stand in random order: in order minus shuffled.

    Where the interval holds zero, the order tells this model nothing on this log.

    `ranks` are those with events in order; workers and listener as of `evaluate`.

    Source: Klenitskiy et al., Does it look sequential? (RecSys 2024), without their training on other sequences.
    """
    found = evaluate(model, shuffled(split, seed), workers=workers, listener=listener)
    return paired_differences(ranks, replace(found, session=ranks.session), ks, samples=samples)


def shuffled(split: EvaluationSplit, seed: int = 0) -> EvaluationSplit:
    """Return the same examples with the events of each prefix in random order; each one is a session of its own."""
    examples, sessions = split.examples, split.examples.sessions
    events, offsets = ranges(examples.begin, examples.end)
    row = np.repeat(np.arange(len(examples)), examples.lengths)
    mixed = events[np.lexsort((np.random.default_rng(seed).random(len(events)), row))]
    ordered, mixed = (np.insert(each, offsets[1:], examples.end) for each in (events, mixed))
    offsets = offsets + np.arange(len(offsets))
    earlier = sessions.earlier
    if earlier is not None:
        of = examples.session
        rows, begins = ranges(earlier.offsets[of], earlier.offsets[of + 1])
        earlier = EarlierItems(earlier.items[rows], earlier.operations[rows], begins)
    table = SessionTable(sessions.items[mixed], sessions.operations[mixed], offsets, sessions.times[ordered], earlier)
    number = np.arange(len(examples), dtype=np.int32)
    return EvaluationSplit(split.name, ExampleTable(table, number, offsets[:-1], offsets[1:] - 1), split.seen)


def _price(text: str) -> float:
    """The number in a text; of several marks in it the last one before one or two digits is the decimal one."""
    plain, found = number_in(text), re.fullmatch(r"\D*(\d[\d.,' ]*?)(?:[.,](\d{1,2}))?\D*", text)
    if plain is not None or found is None or bucket_bounds(text) is not None:
        return np.nan if plain is None else plain
    return float(f"{re.sub(r'[^0-9]', '', found[1])}.{found[2] or 0}")
