"""Write docs/benchmarks.md, the whole page, from benchmarks/results/*.json: `python benchmarks/page.py`."""

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

`python benchmarks/page.py` writes this page from `benchmarks/results/*.json`. `python benchmarks/run.py --data
data/demo` measures: it calls `mkmsr bench` and the scripts `large.py` and `growth.py` beside it. Times are medians,
with the smallest and largest in brackets. *Load* is the mean number of busy processes while measuring. If it is above
the benchmark's own threads, other programs were running, and times are too long. Ratios suffer less, because both
sides are timed in turns, but an encoder's small arrays are the first to leave a cache that others use. Training,
evaluation, growth and preparation were measured before the rebuild of 0.2.0 and with COMPASS's former core
([the rebuild](log/2026-11-30-rebuild.md) says what it changed); serving is of today's code.
"""

TRAINING = """
## Training

The table shows one epoch of the real trainer over the Demo training sessions, with every step of the strategy, and
its *floor* in the same run: the three products of a batch with the catalogue, the softmax and the optimiser's step
over the item table, without an encoder. After every ten steps of the trainer, ten steps of the floor are timed. The
floor is written in plain PyTorch operations. *Triples* are the steps of the knowledge task, which the floor does not
have. Vectors have 100 components. Unless the case says otherwise, the score is an inner product, and the softmax is
exact over the whole catalogue.
"""

THREADS = """
## Threads

PyTorch takes one thread for training, ranking and recommending unless `training.threads` or
`Recommender(threads=...)` sets more. While other programs run, two threads wait for each other: on two cores with ten
busy processes, an epoch of MKM-SR over Demo took 7.6 s with one thread and 367 s with two (5.9 and 272 s of processor
time), and an epoch of COMPASS 13.4 and 161 s (9.8 and 138). On two idle cores a second thread saves a quarter of a
step of COMPASS over 134,548 items.
"""

EVALUATION = """
## Evaluation

The table shows the ranking of the whole catalogue for every test example (of the large log, for the first ones),
after loading. Weights are untrained, which takes the same time. Processor seconds are those of one repetition. With
one thread on an idle core, wall time is the same; `--workers 2` uses a second core.
"""

LARGE = """
## A large catalogue

The table shows one epoch over the train and validation sessions of a simulated log of JDATA's size: 455,000 sessions,
2.45 million events, 134,548 items, four relations. Each case is a process of its own. *Sampled* is
`sampled-cross-entropy` with shared negatives and an optimiser that updates only touched rows
([COMPASS](compass.md#large-catalogues)). The exact losses are extrapolated from a few steps, and so is the sampled
loss where *steps* says so. [COMPASS](compass.md#large-catalogues) also shows how much accuracy sampling costs. We had
no GPU to measure this on.
"""

GROWTH = """
## Growth

Each point is a process of its own on a simulated log. It measures an epoch with the sampled loss (extrapolated from
{steps} steps, one thread) and the ranking of the test (extrapolated from {examples} examples), in processor seconds;
on an idle core, wall time is the same. The curve over the log has 30,000 items; the curve over the catalogue has
25,000 sessions. The figures show the fits a size^b beside the names, and the first table of each figure has the
exponents b. Python, PyTorch and Polars alone take about 300 MiB, which flattens the curves of memory.
"""

SERVING = """
## Serving

`mkmsr bench serving` starts the service and sends `POST /v1/recommendations` at a constant rate, whether or not it
keeps up: each request appends an event to a stored session and asks for 20 items. Times count from the moment at which
a request was due, in milliseconds. The generator runs on the same two cores. *Recall* compares lists with those of
`mkmsr recommend`. The large catalogue has first weights, which cost the same as trained ones. *Empty* asks whether the
service lives, and for no list. `python benchmarks/serving.py` measures all of it; [the log](log/2026-12-01-live.md)
says where the time goes.
"""

PREPARATION = """
## Preparation

The table shows the way from a raw Parquet log of a simulated shop to saved prepared data: duplicates dropped,
sessions cut by pauses, rare items and short sessions filtered until nothing changes, splits, encoding, triples.
Memory is that of all processes together, and times include the start of the engine. Other programs change processor
seconds least; on idle cores the wall time is between half of them and all of them. Equal data have equal
fingerprints.
"""

PEERS = """
## Beside other libraries

The table compares an epoch of training of the same model on the same Demo examples. The other library and ours train
in turns in one process with one thread;
[benchmarks/peers](https://github.com/mkmsr/mkmsr/blob/main/benchmarks/peers/README.md) says what is equal on both
sides. *Other* and *ours* are seconds of processor time, which other programs change little. *Faster* is the median
over the turns of other / ours, by processor time and by wall time. *Batch* is ours; Cornac's GRU4Rec has 32. *Padded
to*: hopwise pads every prefix, by default to 50 events. The longest prefix has 28 events, and hopwise is told so
unless the case says otherwise. *Checks*: loading hopwise's models turns on PyTorch's anomaly detection for the whole
process, which checks all gradients for NaN. Its users train with these checks, so it is timed with them unless the
case says otherwise; ours is timed without. `python benchmarks/peers/compare.py speed PAIR --data data/demo --out
runs/peers [--default-padding] [--no-gradient-checks]` measures.
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
        ("serving", SERVING, _SERVING_COLUMNS),
        ("prepare", PREPARATION, _PREPARATION_COLUMNS),
    ):
        chosen = {name: result for name, result in sorted(results.items()) if result["case"] == case}
        if case == "serving":
            chosen = {
                f"{name} {point['rate']:,.0f}/s": {**result, **point}
                for name, result in chosen.items()
                for point in result["curve"]
            }
        if chosen:
            parts += [text, "\n", table(chosen, columns)]
            if case == "training":
                parts.append(THREADS)
    return "".join([*parts, growth(results), environments([results[name] for name in sorted(results)])])


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
_SERVING_COLUMNS: dict[str, Callable[[Result], str]] = {
    "items": _count("items"),
    "workers": _count("workers"),
    "seconds": _count("seconds"),
    "p50": lambda result: f"{result['p50_ms']:.1f}",
    "p90": lambda result: f"{result['p90_ms']:.1f}",
    "p99": lambda result: f"{result['p99_ms']:.1f}",
    "errors": _count("errors"),
    "recall": lambda result: "-" if result["recall_at_20"] is None else f"{result['recall_at_20']:.3f}",
    "peak MiB": _count("peak_mib"),
    "generator": lambda result: f"{100 * result['generator_cpu_share']:.0f} % of a core",
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
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    results = {name: result for name, result in found.items() if "environment" in result}  # others have pages of theirs
    PAGE.write_text(page(results), encoding="utf-8")
    for name, drawing in figures(results).items():
        (PAGE.parent / "figures" / name).write_bytes(drawing)
    print(f"drawn: docs/{PAGE.name}, {len(results)} results")


if __name__ == "__main__":
    main()
