"""Rank spans before the test with rules and neighbours, and compare each in pairs with plain recency and with `sr`.

    python experiments/rivals_before_the_test.py data/demo data/demo-n data/retailrocket data/diginetica

No test session is read. Spans are validation and those of equal size before it, up to four; of a long log, the newest
3,000 sessions of its newest quarter. Two simulated logs come on top: in one every item is looked at six times in a row
on average, in the other no session returns to an item. A difference stands with its standard error over sessions.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import polars as pl

from mkmsr.config import validate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.prepare import prepare
from mkmsr.data.shop import SimulateOptions
from mkmsr.data.simulate import simulate
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.evaluation.ranks import RankTable
from mkmsr.evaluation.significance import pooled_difference
from mkmsr.runs.config import ExperimentConfig, new_model
from mkmsr.training.trainer import fitting_data

MODELS = ("recency", "sr", "item-knn", "s-knn", "v-sknn", "stan", "vstan")
LONG_LOG, SPAN, SPANS = 100_000, 3_000, 4


def main() -> None:
    """Print a line a log and model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="*", help="prepared data")
    for name, spans in logs(parser.parse_args().data):
        found: dict[str, RankTable] = {}
        for model in MODELS:
            found[model] = ranks = joined([ranked(span, model) for span in spans])
            metrics = ranks.metrics((20,))
            line = f"{name:12} {model:9} {100 * metrics['hit@20']:5.1f} / {100 * metrics['mrr@20']:5.2f}"
            for other in ("recency", "sr"):
                if other in found and model != other:
                    line += f"   from {other}: " + " / ".join(
                        difference(ranks, found[other], metric) for metric in ("hit@20", "mrr@20")
                    )
            print(line, flush=True)


def logs(folders: list[Path]) -> Iterator[tuple[str, list[PreparedDataset]]]:
    """Each log by name, as one dataset a span."""
    for folder in folders:
        data = PreparedDataset.load(folder)
        if len(data.train) > LONG_LOG:
            newest = data.fitting_sessions(refit=True).rows(
                len(data.train) * 3 // 4, len(data.train) + len(data.validation)
            )
            end = len(newest) - SPAN
            yield folder.name, [replace(data, train=newest.rows(0, end), validation=newest.rows(end, len(newest)))]
        else:
            yield folder.name, [data.earlier(span) if span else data for span in range(SPANS)]
    for name in ("everywhere", "nowhere"):
        data = simulated(returns=name == "everywhere")
        yield name, [data, data.earlier(1)]


def simulated(*, returns: bool) -> PreparedDataset:
    """A shop's log whose visitors look at each item six times in a row on average, or once a session."""
    log = simulate(SimulateOptions(sessions=8000, items=3000, seed=1))
    events = log.events.with_row_index("event")
    if returns:
        looks = np.random.default_rng(0).geometric(0.16, len(events)).clip(1, 25)
        events = events.with_columns(looks=pl.Series(looks)).select(pl.all().repeat_by("looks")).explode(pl.all())
        events = events.with_columns(time=pl.col("time") + pl.int_range(pl.len()).over("event")).drop("looks")
        events = events.sort("session", "time", "event", maintain_order=True)
    else:
        events = events.unique(["session", "item"], keep="first", maintain_order=True)
    return prepare(replace(log, events=events.drop("event").sort("time", maintain_order=True)).to_log())


def ranked(data: PreparedDataset, name: str) -> RankTable:
    """The validation sessions' ranks by a model of what precedes them."""
    model = new_model(data, validate(ExperimentConfig, {"model": {"name": name}}), 0)
    model.observe(fitting_data(data))
    return evaluate(model, data.evaluation_split("validation"))


def joined(tables: list[RankTable]) -> RankTable:
    """The ranks of several spans, whose sessions get numbers of their own."""
    apart = [replace(each, session=each.session + number * 10**7) for number, each in enumerate(tables)]
    return RankTable(
        **{each.name: np.concatenate([getattr(t, each.name) for t in apart]) for each in fields(RankTable)}
    )


def difference(one: RankTable, other: RankTable, metric: str) -> str:
    """First minus second in points, with the standard error."""
    found = pooled_difference(one, other, metric, samples=1000)
    return f"{100 * found.difference:+.2f} ({100 * (found.high - found.low) / 3.92:.2f})"


if __name__ == "__main__":
    main()
