"""Several runs beside each other: who is better on the same examples, by how much beyond chance, and what that means.

The verdict is for readers who have never heard of Hit@20.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mkmsr.errors import EvaluationError, nearest
from mkmsr.evaluation.document import evaluation_document
from mkmsr.evaluation.metrics import metric_names
from mkmsr.evaluation.significance import (
    PairedDifference,
    corrected_by_holm,
    paired_differences,
    pooled,
    pooled_difference,
)
from mkmsr.reports.run_folder import EvaluatedRun, evaluation_of, read_evaluated_run

if TYPE_CHECKING:
    import polars as pl

Source: TypeAlias = str | Path | Mapping[str, Any] | EvaluatedRun
"""A run folder, a file of metrics, an evaluation document, or a run that was read before."""

DEFAULT_METRICS = ("hit@20", "mrr@20")
"""What the paper reports."""

VISITORS = 20
"""Shares are told as so many of these."""

_CHANCE = 0.05

_WORDS = {1: "one", 3: "three", 5: "five", 10: "ten"}


@dataclass(frozen=True)
class ComparisonRow:
    """One run of a comparison, with a label of its own.

    Differences are this run minus the reference, by metric, with p-values corrected for all tests of the comparison;
    empty for the reference itself and for a run whose ranks were not kept.
    """

    run: EvaluatedRun
    is_reference: bool
    differences: Mapping[str, PairedDifference]


@dataclass(frozen=True)
class Comparison:
    """Runs on the same examples of a split, best first by the first metric; `reference` is a run's label."""

    reference: str
    metrics: tuple[str, ...]
    split: str
    rows: tuple[ComparisonRow, ...]

    def to_frame(self) -> pl.DataFrame:
        """Return a row a run and metric: its value and interval, and its paired difference from the reference."""
        import polars as pl

        rows = []
        for row in self.rows:
            for name in self.metrics:
                found = row.differences.get(name)
                low, high = row.run.document["intervals"].get(name, (None, None))
                rows.append(
                    {
                        "run": row.run.label,
                        "metric": name,
                        "value": row.run.document["metrics"][name],
                        "low": low,
                        "high": high,
                        "difference": found and found.difference,
                        "difference_low": found and found.low,
                        "difference_high": found and found.high,
                        "p_value": found and found.p_value,
                    }
                )
        return pl.DataFrame(rows)

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain data; shares and differences are 0..1."""
        return {
            "reference": self.reference,
            "split": self.split,
            "metrics": list(self.metrics),
            "correction": "holm",
            "runs": [_row_json(row, self.metrics) for row in self.rows],
        }


def read_runs(sources: Sequence[Source]) -> list[EvaluatedRun]:
    """Return evaluations from folders, files, documents or runs, each with a label of its own.

    A label is the model's name; runs of the same model also show the name of their folder, or else a number.
    """
    return _with_distinct_labels([_read(source) for source in sources])


def compare_runs(
    sources: Sequence[Source],
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    reference: str | None = None,
    samples: int = 10_000,
    seed: int = 0,
    pool_seeds: bool = False,
) -> Comparison:
    """Order runs by the first metric and test each against the reference in pairs, on the same examples.

    Differences are bootstrapped over sessions; p-values are corrected by Holm over every run and metric of the table.

    Args:
        sources: At least one, see `read_runs`; all over the same split, examples and catalogue.
        metrics: Names such as `mrr@20`; every document must hold them.
        reference: Label of the run to compare with; by default the best one by the first metric.
        samples: Resamples.
        seed: Of the resampling.
        pool_seeds: Whether runs that differ in the seed alone are one row: values are means over seeds, and a resample
            draws a session with all its seeds.
    """
    each = [_read(source) for source in sources]
    if not each:
        raise EvaluationError("nothing to compare: give at least one run")
    _check_comparable(_with_distinct_labels(each), metrics)
    runs = _with_distinct_labels(_pooled_over_seeds(each, _list_lengths(metrics)) if pool_seeds else each)
    ordered = sorted(runs, key=lambda run: -float(run.document["metrics"][metrics[0]]))
    labels = [run.label for run in ordered]
    if reference is not None and reference not in labels:
        hint = nearest(reference, labels) or f"; there are: {', '.join(labels)}"
        raise EvaluationError(f"no run {reference!r} to compare with{hint}")
    chosen = ordered[labels.index(reference)] if reference is not None else ordered[0]
    found = corrected_by_holm([_differences(run, chosen, metrics, samples, seed) for run in ordered])
    rows = [ComparisonRow(run, run is chosen, each) for run, each in zip(ordered, found, strict=True)]
    return Comparison(chosen.label, tuple(metrics), str(chosen.document["split"]), tuple(rows))


def check_same_examples(first: EvaluatedRun, other: EvaluatedRun) -> None:
    """Make sure that two runs ranked the same catalogue for the same examples, as far as their files tell."""
    parts = f"{first.label} and {other.label} cannot be compared"
    for key in ("split", "examples", "candidates"):
        if other.document[key] != first.document[key]:
            raise EvaluationError(
                f"{parts}: {key} is {first.document[key]!r} against {other.document[key]!r}; "
                "evaluate both on the same prepared data and split"
            )
    if first.ranks is not None and other.ranks is not None:
        try:
            first.ranks.check_same_examples(other.ranks)
        except EvaluationError as error:
            raise EvaluationError(f"{parts}: {error}") from None


def _read(source: Source) -> EvaluatedRun:
    if isinstance(source, Mapping):
        document = evaluation_of(source)
        return EvaluatedRun(str(document["model"]), document)
    return source if isinstance(source, EvaluatedRun) else read_evaluated_run(source)


def _with_distinct_labels(runs: Sequence[EvaluatedRun]) -> list[EvaluatedRun]:
    again = Counter(run.label for run in runs)
    named = [
        replace(run, label=f"{run.label} ({_folder_name(run.path)})") if again[run.label] > 1 and run.path else run
        for run in runs
    ]
    still = Counter(run.label for run in named)
    counted: Counter[str] = Counter()
    result = []
    for run in named:
        counted[run.label] += 1
        result.append(replace(run, label=f"{run.label} #{counted[run.label]}") if still[run.label] > 1 else run)
    return result


def pooled_run(runs: Sequence[EvaluatedRun], label: str, ks: Sequence[int], *, samples: int = 1000) -> EvaluatedRun:
    """Return runs that differ in the seed alone as one: means over seeds, and intervals as `pooled` says.

    A run whose ranks were not kept raises EvaluationError.
    """
    tables = [run.ranks for run in runs if run.ranks is not None]
    if len(tables) < len(runs):
        missing = next(run.path or run.label for run in runs if run.ranks is None)
        raise EvaluationError(f"{missing}: the run kept no ranks, so that it cannot be pooled or compared in pairs")
    first, table = runs[0].document, pooled(tables)
    model, split = str(first["model"]), str(first["split"])
    document = evaluation_document(model, split, table, int(first["candidates"]), ks, samples=samples)
    for part in (document, *document["slices"].values()):
        part["examples"] //= len(runs)
    return replace(runs[0], label=label, document=document, ranks=table)


def pooled_label(label: str, seeds: int) -> str:
    """Return what tables call the runs of so many seeds."""
    return label if seeds == 1 else f"{label} ({seeds} seeds)"


def _pooled_over_seeds(runs: Sequence[EvaluatedRun], ks: Sequence[int]) -> list[EvaluatedRun]:
    """One run for all that have the same label, settings and sessions to learn from; a run without settings stays."""
    groups: dict[tuple[str, ...], list[EvaluatedRun]] = {}
    for place, run in enumerate(runs):
        groups.setdefault((run.label, run.settings or str(place), str(run.fitted_on)), []).append(run)
    return [
        pooled_run(each, pooled_label(label, len(each)), ks) if len(each) > 1 else each[0]
        for (label, *_), each in groups.items()
    ]


def _folder_name(path: Path) -> str:
    return path.parent.resolve().name if path.name == "metrics.json" else path.resolve().stem


def _check_comparable(runs: Sequence[EvaluatedRun], metrics: Sequence[str]) -> None:
    first = runs[0]
    _list_lengths(metrics)
    for run in runs:
        for name in metrics:
            if name not in run.document["metrics"]:
                known = run.document["metrics"]
                raise EvaluationError(
                    f"{run.label} has no metric {name!r}{nearest(name, known)}; it has {', '.join(known)}"
                )
        check_same_examples(first, run)


def _differences(
    run: EvaluatedRun, reference: EvaluatedRun, metrics: Sequence[str], samples: int, seed: int
) -> dict[str, PairedDifference]:
    if run is reference or run.ranks is None or reference.ranks is None:
        return {}
    how = {"samples": samples, "seed": seed}
    if len(run.ranks) != len(reference.ranks):  # Pooled over other numbers of seeds.
        return {name: pooled_difference(run.ranks, reference.ranks, name, **how) for name in metrics}
    found = paired_differences(run.ranks, reference.ranks, _list_lengths(metrics), **how)
    return {name: found[name] for name in metrics}


def _list_lengths(metrics: Sequence[str]) -> list[int]:
    ks = sorted({int(k) for k in (name.rpartition("@")[2] for name in metrics) if k.isdecimal()})
    unknown = set(metrics) - set(metric_names(ks) if ks else ())
    if unknown:
        raise EvaluationError(
            f"metrics are hit@K, mrr@K and ndcg@K, for example mrr@20; found {', '.join(sorted(unknown))}"
        )
    return ks


def _row_json(row: ComparisonRow, metrics: Sequence[str]) -> dict[str, Any]:
    document = row.run.document
    return {
        "label": row.run.label,
        "model": document["model"],
        "examples": document["examples"],
        "metrics": {name: document["metrics"][name] for name in metrics},
        "intervals": {name: document["intervals"][name] for name in metrics if name in document["intervals"]},
        "is_reference": row.is_reference,
        "differences": {name: each.to_json() for name, each in row.differences.items()},
    }


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
