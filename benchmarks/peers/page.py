"""Write docs/reproduction/peers.md from benchmarks/results/peers-accuracy-*.json.

    python benchmarks/peers/page.py

Measures nothing: `compare.py accuracy` does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pairs import PAIRS

from mkmsr.reports.tables import TextTable
from mkmsr.reports.write_up import Section, WriteUp

ROOT = Path(__file__).parents[2]
RESULTS, DOCS = ROOT / "benchmarks" / "results", ROOT / "docs" / "reproduction"

Result = dict[str, Any]

LEAD = """Where another library implements a model that we have too, both learn from the very same training examples of
Demo and rank the same test examples over the same catalogue; ranks, ties and errors of both are our evaluator's. Both
sides have 100 components and one thread, are fitted on train alone (no refit), and stop by one rule: the epoch with the
best MRR@20 on validation, patience 5. The commands run in an environment of the other library, see
[benchmarks/peers](https://github.com/mkmsr/mkmsr/blob/main/benchmarks/peers/README.md). Times of both sides
are in [benchmarks.md](../benchmarks.md)."""


def write_up(results: list[Result]) -> WriteUp:
    """Write up measurements of `compare.py accuracy`."""
    good = sum(all(reaches(result, metric) for metric in ("hit@20", "mrr@20")) for result in results)
    summary = (
        f"Ours is at least the other's, within one standard error and on both metrics, in {good} of {len(results)}."
    )
    missing = ", ".join(f"`{name}`" for name in PAIRS if name not in {result["pair"] for result in results})
    return WriteUp(
        name="peers",
        title="Beside other libraries: the same model, the same examples",
        lead=" ".join(LEAD.split()),
        sections=(
            Section(
                "Accuracy",
                (summary, f"Not run to the end: {missing}." if missing else ""),
                tables=(accuracy_table(results),),
            ),
        ),
        command="\n".join(command(result) for result in results) + "\npython benchmarks/peers/page.py",
    )


def accuracy_table(results: list[Result]) -> TextTable:
    """One row a pair."""
    return TextTable(
        "Demo, test: Hit@20 and MRR@20, per cent",
        ("model", "library", "seeds", "epochs", "Hit@20", "ours", "difference", "MRR@20", "ours ", "difference "),
        tuple(
            (
                result["label"],
                f"{result['library']} {result['library_version']}",
                str(result["seeds"]),
                f"{_epochs(result, 'peer')} / {_epochs(result, 'ours')}",
                *_values(result, "hit@20"),
                *_values(result, "mrr@20"),
            )
            for result in results
        ),
        (
            "FPMC of ours starts from N(0, 0.01), its default, which was chosen on validation after a first comparison "
            "had shown it behind with 0.1 (docs/log).",
            "One seed says little about a difference of a point; the standard error is that of the sample of sessions "
            "alone.",
            "Epochs: those that validation chose, the other's / ours, one number a seed. Difference: ours minus the "
            "other's, percentage points ± its standard error (bootstrap over sessions, in pairs).",
        ),
    )


def reaches(result: Result, metric: str) -> bool:
    """Whether ours is at least the other's within one standard error of the difference."""
    difference = result["difference"][metric]
    return bool(difference["value"] >= -difference["standard_error"])


def command(result: Result) -> str:
    """What measured a pair."""
    pair, seeds = result["pair"], result["seeds"]
    return f"python benchmarks/peers/compare.py accuracy {pair} --data data/demo --out runs/peers --seeds {seeds}"


def _values(result: Result, metric: str) -> tuple[str, str, str]:
    difference = result["difference"][metric]
    sides = (f"{100 * result[side][metric]:.2f}" for side in ("peer", "ours"))
    return (*sides, f"{100 * difference['value']:+.2f} ± {100 * difference['standard_error']:.2f}")


def _epochs(result: Result, side: str) -> str:
    return " ".join(str(epoch) for epoch in result[side]["best_epochs"])


def main() -> None:
    """Write the page anew."""
    paths = sorted(RESULTS.glob("peers-accuracy-*.json"), reverse=True)
    results = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    write_up(results).save_markdown(DOCS)
    print(f"written: {DOCS.relative_to(ROOT)}/peers.md, {len(results)} pairs")


if __name__ == "__main__":
    main()
