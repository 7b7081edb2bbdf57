"""Draws docs/benchmarks.md from benchmarks/results/*.json: `python benchmarks/page.py`. The page holds nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from growth_page import draw_growth

FOLDER = Path(__file__).parent
RESULTS, PAGE = FOLDER / "results", FOLDER.parent / "docs" / "benchmarks.md"

Result = dict[str, Any]

HEAD = """# Benchmarks

Drawn by `python benchmarks/page.py` from `benchmarks/results/*.json`; measured by `python benchmarks/run.py --data
data/demo`, which calls `mkmsr bench` and the scripts `large.py` and `growth.py` beside it. Times are medians, with
smallest and largest in brackets. *Load* is the mean number of busy processes while measuring: above the benchmark's own
threads, others were at work and times are too long. Ratios suffer less, because both sides are timed in turns, but they
do: an encoder's small arrays are the first to leave a cache that others use.
"""

TRAINING = """
## Training

One epoch of the real trainer over the Demo training sessions, every step of the strategy included, beside its *floor*
in the same run: the three products of a batch with the catalogue, the softmax and the optimiser's step over the item
table, and no encoder. After every ten steps of the trainer as many of the floor are timed. Triples are the steps of the
knowledge task, which the floor does not have. The floor is written in plain PyTorch operations. Vectors have 100
components; the score is an inner product, exactly normalised over the whole catalogue, unless the case says otherwise.
"""

THREADS = """
## Threads

PyTorch takes one thread for training, ranking and recommending unless `training.threads` or `Recommender(threads=...)`
says more. With other programs at work two threads wait for each other: on two cores with ten busy processes, an epoch
over Demo took MKM-SR 7.6 s with one thread and 367 s with two (5.9 and 272 s of processor time), COMPASS 13.4 and 161 s
(9.8 and 138). On two idle cores a second thread takes a quarter off a step of COMPASS over 134,548 items.
"""

THREADS = """
## Threads

PyTorch takes one thread for training, ranking and recommending unless `training.threads` or `Recommender(threads=...)`
says more. With other programs at work two threads wait for each other: on two cores with ten busy processes, an epoch
over Demo took MKM-SR 7.6 s with one thread and 367 s with two (5.9 and 272 s of processor time), COMPASS 13.4 and 161 s
(9.8 and 138). On two idle cores a second thread takes a quarter off a step of COMPASS over 134,548 items.
"""

EVALUATION = """
## Evaluation

Ranking the whole catalogue for every test example (of the large log, the first ones), after loading; untrained weights,
which cost the same. Processor seconds are those of one repetition; with one thread on a core of its own the clock shows
the same, and `--workers 2` puts a second core to work.
"""

LARGE = """
## A large catalogue

One epoch over the train and validation sessions of a simulated log of JDATA's size: 455,000 sessions, 2.45 million
events, 134,548 items, four relations; each case is a process of its own. *Sampled* is `sampled-cross-entropy` against
shared negatives, with an optimiser that moves touched rows alone ([COMPASS](compass.md#large-catalogues)); the exact
losses are scaled up from a few steps, and so is the sampled one where *steps* says so. What sampling costs in accuracy
is in [COMPASS](compass.md#large-catalogues) too. On a GPU this was not measured: none was at hand.
"""

GROWTH = """
## Growth

Simulated logs, every point in a process of its own: an epoch with the sampled loss (scaled up from {steps} steps, one
thread) and the ranking of the test (scaled up from {examples} examples), in seconds of the processor: on a core of its
own the clock shows the same. The curve over the log has 30,000 items; the curve over the catalogue has 25,000 sessions.
Beside the names in the figures stand the fits a size^b, in the first table of each their exponents b. Memory
starts at what Python, PyTorch and Polars take, about 300 MiB, which flattens its curves.
"""

PREPARATION = """
## Preparation

From a raw Parquet log of a simulated shop to saved prepared data: doubles dropped, sessions cut by pauses, rare items
and short sessions filtered again and again, splits, encoding, triples. Memory is that of all processes together, and an
engine's start is in its time. Processor seconds are what others at work change least: on idle cores the clock shows
between half of them and all of them. Equal data have equal fingerprints.
"""

PEERS = """
## Beside other libraries

An epoch of training of the same model on the same Demo examples, the other library's and ours in turns in one process
of one thread; what is alike on both sides stands in [benchmarks/peers](../benchmarks/peers/README.md). *Other* and
*ours* are seconds of processor time, which others at work lengthen little; *faster* is the median over the turns of
other / ours, by processor time and by wall time. *Batch* is ours; Cornac's GRU4Rec has 32. *Padded to*: hopwise fills
up every prefix, by default to 50 events; the longest that there is has 28, and that is what it is given unless the case
says otherwise. *Checks*: loading hopwise's models turns on PyTorch's anomaly detection for the whole process, which
looks for numbers that are none in every gradient; so its users train, and so it is timed unless the case says
otherwise. Ours is timed without. Measured by `python benchmarks/peers/compare.py speed PAIR --data data/demo
--out runs/peers [--default-padding] [--no-gradient-checks]`.
"""


def page(results: dict[str, Result]) -> str:
    """The page as Markdown.

    Args:
        results: Measurements by the name of their file.
    """
    parts = [HEAD]
    for case, text, columns in (
        ("training", TRAINING, _TRAINING_COLUMNS),
        ("evaluation", EVALUATION, _EVALUATION_COLUMNS),
        ("large", LARGE, _LARGE_COLUMNS),
        ("peer speed", PEERS, _PEER_COLUMNS),
        ("prepare", PREPARATION, _PREPARATION_COLUMNS),
    ):
        chosen = {name: result for name, result in sorted(results.items()) if result["case"] == case}
        if chosen:
            parts += [text, "\n", table(chosen, columns)]
            if case == "training":
                parts.append(THREADS)
    return "".join([*parts, growth(results), environments(results.values())])


def table(results: dict[str, Result], columns: dict[str, Callable[[Result], str]]) -> str:
    """One row a result."""
    lines = [["case", *columns], ["---", *("--:" for _ in columns)]]
    lines += [[f"`{name}`", *(cell(result) for cell in columns.values())] for name, result in results.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def growth(results: dict[str, Result]) -> str:
    """The curves, their exponents and their points."""
    curves = {name: result for name, result in sorted(results.items()) if result["case"] == "growth"}
    if not curves:
        return ""
    first = next(iter(curves.values()))
    parts = [GROWTH.format(steps=first["steps"], examples=first["ranked_examples"])]
    for name, result in curves.items():
        parts += [f"\n![Seconds and memory of {name}.](figures/{name}.svg)\n\n"]
        parts += [_rows(result["exponents"], ["curve", "model", *_MEASURES], _exponent), "\n"]
        parts += [_rows(result["points"], ["model", "sessions", "items", *_MEASURES], _amount)]
    return "".join(parts)


def figures(results: dict[str, Result]) -> dict[str, bytes]:
    """The drawings of the page by file name."""
    curves = {name: result for name, result in results.items() if result["case"] == "growth"}
    return {
        f"{name}.svg": draw_growth(result["points"], result["exponents"], result["points"][0]["curve"])
        for name, result in curves.items()
    }


def _rows(rows: list[Result], columns: list[str], text: Callable[[float], str]) -> str:
    lines = [[_MEASURES.get(name, name) for name in columns], ["---" if name == "model" else "--:" for name in columns]]
    lines += [[row[name] if isinstance(row[name], str) else text(row[name]) for name in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _exponent(value: float) -> str:
    return f"{value:.2f}"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


_MEASURES = {
    "epoch_seconds": "epoch, processor s",
    "training_mib": "training, MiB",
    "evaluation_seconds": "ranking the test, processor s",
    "evaluation_mib": "ranking, MiB",
}


def environments(results: Iterable[Result]) -> str:
    """The machines and versions, each once."""
    lines: dict[str, None] = {}
    for result in results:
        place = result["environment"]
        libraries = ", ".join(f"{name} {version}" for name, version in place["libraries"].items())
        accelerator = f", {place['accelerator']}" if place["accelerator"] else ""
        lines[f"- {place['cpu']}, {place['cores']} cores{accelerator}, {place['system']}; {libraries}\n"] = None
    return "".join(["\n## Environment\n\n", *lines])


def _span(result: Result, key: str, digits: int = 2) -> str:
    if key not in result["spread"]:
        return ""  # A result from before this was measured.
    each = result["spread"][key]
    return f"{each['median']:.{digits}f} [{each['min']:.{digits}f}, {each['max']:.{digits}f}]"


def _count(key: str) -> Callable[[Result], str]:
    return lambda result: f"{result[key]:,.0f}"


def _exact(result: Result, name: str) -> str:
    each = result["exact"].get(name)
    return f"{each['processor_seconds']:,.0f} ({each['peak_mib']:,.0f} MiB)" if each else "not measured"


def _processor(result: Result) -> str:
    return f"{result['processor_seconds']:.2f}" if result.get("processor_seconds") else ""


def _load(result: Result) -> str:
    return f"{result['environment']['load']:.1f}"


_TRAINING_COLUMNS: dict[str, Callable[[Result], str]] = {
    "batch": _count("batch_size"),
    "threads": _count("threads"),
    "epoch, s": lambda result: _span(result, "epoch_seconds"),
    "of it triples, s": lambda result: f"{result['triple_seconds']:.2f}",
    "floor, s": lambda result: _span(result, "floor_seconds"),
    "epoch / floor": lambda result: _span(result, "ratio"),
    "examples/s": _count("examples_per_second"),
    "peak MiB": _count("peak_mib"),
    "load": _load,
}
_LARGE_COLUMNS: dict[str, Callable[[Result], str]] = {
    "batch": _count("batch_size"),
    "negatives": _count("negatives"),
    "threads": _count("threads"),
    "sampled, s": lambda result: _span(result, "epoch_seconds", 0),
    "processor s": _count("processor_seconds"),
    "steps": lambda result: f"{result['measured_steps']:,} of {result['steps']:,}",
    "examples/processor s": lambda result: f"{result['examples'] / result['processor_seconds']:,.0f}",
    "peak MiB": _count("peak_mib"),
    "exact, processor s": lambda result: _exact(result, "exact"),
    "in blocks, processor s": lambda result: _exact(result, "exact in blocks"),
    "load": _load,
}
_EVALUATION_COLUMNS: dict[str, Callable[[Result], str]] = {
    "examples": _count("examples"),
    "candidates": _count("candidates"),
    "threads": _count("threads"),
    "processes": _count("workers"),
    "seconds": lambda result: _span(result, "seconds"),
    "processor s": _processor,
    "examples/s": _count("examples_per_second"),
    "peak MiB": _count("peak_mib"),
    "load": _load,
}
_PREPARATION_COLUMNS: dict[str, Callable[[Result], str]] = {
    "events": _count("events"),
    "engine": lambda result: result["engine"],
    "limit": lambda result: f"{result['memory_limit'] / 1e9:g} GB" if result.get("memory_limit") else "",
    "seconds": lambda result: _span(result, "seconds"),
    "events/s": _count("events_per_second"),
    "processor s": lambda result: f"{result['cpu_seconds']:.1f}" if "cpu_seconds" in result else "",
    "peak MiB": _count("peak_mib"),
    "fingerprint": lambda result: f"`{result['fingerprint'][:12]}`" if "fingerprint" in result else "",
    "load": _load,
}

_PEER_COLUMNS: dict[str, Callable[[Result], str]] = {
    "library": lambda result: f"{result['library']} {result['library_version']}",
    "batch": _count("batch_size"),
    "padded to": lambda result: str(result.get("padded_to") or ""),
    "checks": lambda result: "yes" if result.get("gradient_checks") else "",
    "turns": _count("turns"),
    "other, s": lambda result: _span(result, "peer_processor_seconds"),
    "ours, s": lambda result: _span(result, "our_processor_seconds"),
    "faster": lambda result: _span(result, "processor_ratio", 1),
    "by wall time": lambda result: f"{result['ratio']:.1f}",
    "our events/s": lambda result: f"{result['events'] / result['spread']['our_processor_seconds']['median']:,.0f}",
    "load": _load,
}


def main() -> None:
    """Draw the page anew."""
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    PAGE.write_text(page(results), encoding="utf-8")
    for name, drawing in figures(results).items():
        (PAGE.parent / "figures" / name).write_bytes(drawing)
    print(f"drawn: docs/{PAGE.name}, {len(results)} results")


if __name__ == "__main__":
    main()
