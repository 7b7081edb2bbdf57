"""`mkmsr evaluate`, `mkmsr compare`, `mkmsr report`: a split ranked with a saved model, and runs beside each other.

Only `evaluate` loads a model; the others read what runs left behind.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, Token

from mkmsr.cli.console import AT_LEAST_ONE, COMMON, Common, Device, terminal
from mkmsr.cli.progress import progress_bars
from mkmsr.cli.results import show_evaluation

if TYPE_CHECKING:
    from mkmsr.bundle.model_bundle import ModelBundle
    from mkmsr.data.dataset import EvaluationSplit, PreparedDataset
    from mkmsr.evaluation.lists import TopLists


def _list_lengths(_type: Any, tokens: list[Token]) -> tuple[int, ...]:
    """The list lengths in "5,10,20"."""
    parts = [part.strip() for token in tokens for part in token.value.split(",")]
    found = tuple(int(part) for part in parts if part.isdecimal())
    if len(found) < len(parts) or not found or min(found) < 1:
        raise ValueError("list lengths must be whole numbers above 0, for example 5,10,20")
    return found


ListLengths = Annotated[tuple[int, ...], Parameter(converter=_list_lengths, n_tokens=1, negative=())]


def evaluate(
    bundle: Path,
    data: Path,
    /,
    *,
    split: Literal["test", "validation"] = "test",
    k: ListLengths = (5, 10, 20),
    out: Path | None = None,
    lists: Path | None = None,
    details: Annotated[bool, Parameter(negative=())] = False,
    shuffle: Annotated[bool, Parameter(negative=())] = False,
    workers: Annotated[int, AT_LEAST_ONE] = 1,
    device: Device = "cpu",
    common: Common = COMMON,
) -> None:
    """Rank the whole catalogue for every example of a split: metrics with intervals, and slices.

    Args:
        bundle: A saved model, for example runs/shop/bundle.
        data: The prepared data that it was trained on, or data whose items it knows.
        split: Which sessions to rank.
        k: List lengths, separated by commas.
        out: Also write the rank of every example to this Parquet file.
        lists: Also write the longest list of every example to this Parquet file, and say how much of the catalogue the
            lists show, how evenly, how popular and how diverse it is.
        details: Also say this of the lists, and how the metrics differ by popularity, prefix length, operation and
            time, by session and by price, and whether the model's probabilities are right.
        shuffle: Also rank with the events of each prefix in random order: does order matter on this log?
        workers: Processes of one thread that share the work; for many examples over a large catalogue. Lists and
            details are made by one.
    """
    with terminal(common) as screen:
        from mkmsr.bundle.alignment import aligned_split, has_learnt_from
        from mkmsr.bundle.model_bundle import load_bundle
        from mkmsr.data.dataset import PreparedDataset
        from mkmsr.evaluation.document import evaluation_document
        from mkmsr.evaluation.evaluator import evaluate as rank_split

        loaded, dataset = load_bundle(bundle, device=device), PreparedDataset.load(data)
        examples = aligned_split(loaded, dataset, split)
        if has_learnt_from(loaded, dataset, split):
            screen.note(
                "the model learnt from these sessions (--refit): what it reaches on them says nothing of others"
            )
        began = time.perf_counter()
        found: TopLists | None = None
        with progress_bars(screen.progress) as listener:
            if lists is not None or details:
                from mkmsr.evaluation.lists import save_lists, top_lists
                from mkmsr.recommend.ranker import top

                found = top_lists(loaded.model, examples, max(k), top, listener=listener)
                ranks = found.ranks
            else:
                ranks = rank_split(loaded.model, examples, workers=workers, listener=listener)
        seconds = time.perf_counter() - began
        if out is not None:
            ranks.save(out)
            screen.note(f"ranks of {len(ranks):,} examples: {out}")
        document = evaluation_document(loaded.name, split, ranks, len(loaded.items), k, seconds)
        if found is not None:
            document |= _judge(loaded, dataset, examples, k, found, details=details)
            if lists is not None:
                save_lists(lists, found.items, loaded.items)
                screen.note(f"lists of {len(ranks):,} examples: {lists}")
        if shuffle:
            from mkmsr.evaluation.details import order_effect

            with progress_bars(screen.progress) as listener:
                effect = order_effect(loaded.model, examples, ranks, k, workers=workers, listener=listener)
            document["order"] = {name: each.to_json() for name, each in effect.items()}
        screen.document(document)
        show_evaluation(screen, [document])


def _judge(
    bundle: ModelBundle,
    dataset: PreparedDataset,
    split: EvaluationSplit,
    ks: tuple[int, ...],
    found: TopLists,
    *,
    details: bool,
) -> dict[str, Any]:
    """Return what the model's lists for a split are like, and the details."""
    import numpy as np

    from mkmsr.evaluation import details as measures
    from mkmsr.evaluation.lists import list_metrics, share_of_sessions

    share_V = share_of_sessions(dataset.fitting_sessions(refit=split.name == "test"), len(dataset.items) + 1)
    share_V = np.concatenate([[0.0], share_V[dataset.items.indexes(bundle.items.ids, missing="zero")]])
    result: dict[str, Any] = {"lists": list_metrics(found.items, split, share_V, ks, bundle.knowledge)}
    if details:
        price_V = measures.prices(bundle.items, bundle.display, bundle.knowledge)
        result["details"] = measures.details(
            measures.Judged(found.ranks, split, bundle.operations, share_V, price_V), ks
        )
        if found.log_p is not None and found.log_p_listed is not None:
            result["probabilities"] = measures.calibration(found.log_p, found.log_p_listed, found.ranks)
    return result


def compare(
    runs: Annotated[tuple[Path, ...], Parameter(negative=())],
    /,
    *,
    metrics: str = "hit@20,mrr@20",
    reference: str | None = None,
    samples: Annotated[int, AT_LEAST_ONE] = 10_000,
    pool_seeds: Annotated[bool, Parameter(negative=())] = False,
    table: Literal["markdown", "latex", "csv"] | None = None,
    common: Common = COMMON,
) -> None:
    """Set runs on the same examples side by side, with paired significance.

    Args:
        runs: Run folders, or metrics saved from `mkmsr evaluate --json`.
        metrics: Metrics to compare, separated by commas; the first one orders the rows.
        reference: Label of the run that the others are tested against; the best one by default.
        samples: Resamples of the paired bootstrap over sessions.
        pool_seeds: Show runs that differ in the seed alone as one row: means over seeds, tested together.
        table: Print the table in this form, for a page, a paper or a program.
    """
    with terminal(common) as screen:
        from mkmsr.reports.comparison import compare_runs
        from mkmsr.reports.tables import comparison_table

        names = [name.strip() for name in metrics.split(",")]
        comparison = compare_runs(runs, metrics=names, reference=reference, samples=samples, pool_seeds=pool_seeds)
        screen.document(comparison.to_json())
        shown = comparison_table(comparison)
        if table is None:
            screen.show_report(shown)
            return
        csv = comparison.to_frame().write_csv
        text = csv() if table == "csv" else shown.latex() if table == "latex" else shown.markdown()
        for line in text.splitlines():
            screen.print(line)


def report(
    run: Path,
    /,
    *,
    beside: Annotated[tuple[Path, ...], Parameter(consume_multiple=True, negative=())] = (),
    common: Common = COMMON,
) -> None:
    """Draw a run's report.html again from the files of its folder.

    Args:
        run: Run folder.
        beside: Run folders or metrics of other models on the same data, to be shown beside it.
    """
    with terminal(common) as screen:
        from mkmsr.reports.run_report import write_run_report

        path = write_run_report(run, baselines=list(beside))
        screen.document({"report": str(path)})
        screen.print(f"report: {path}")
