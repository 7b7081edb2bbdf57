"""The model card: a bundle's README, written from the same facts as its `bundle.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mkmsr.config import to_toml
from mkmsr.models.entry import ModelEntry

_CARD = """# {model} on {data[name]}

{entry.summary}. Source: {entry.source}.

## What it learnt from

- {data[sessions]:,} sessions, {data[events]:,} events ({data[fitted_on]})
- {sizes[num_items]:,} items, {sizes[num_operations]:,} operations, \
{sizes[num_relations]:,} relations, {sizes[num_attributes]:,} attributes
- prefixes of at most {longest} events; new items: {data[new_items]}
- data fingerprint `{data[fingerprint]}`

{quality}## Use

```python
from mkmsr import Recommender

recommender = Recommender.load("path/to/this/folder")
recommender.recommend([("item id", "operation")], k=20)
```

or `mkmsr recommend path/to/this/folder --session sessions.jsonl`.

## Limits

It ranks the items of its catalogue and no others; items it does not know are skipped. It reflects the log it
learnt from, with that log's habits and biases; measure it on newer sessions before relying on it.

## Settings

```toml
{settings}
```

Written by mkmsr {libraries[mkmsr]} with torch {libraries[torch]} and Python {libraries[python]}. \
`bundle.json` holds the SHA-256 of every file; loading verifies them.
"""


def model_card(header: Mapping[str, Any], entry: ModelEntry) -> str:
    """Return the text of a bundle's README.md from the entries of its `bundle.json`."""
    longest, settings = header["data"]["max_session_events"] - 1, to_toml(header["config"]).rstrip()
    quality = "".join(f"{line}\n" for line in _metric_lines(header["metrics"]))
    return _CARD.format(**header, entry=entry, longest=longest, quality=quality, settings=settings)


def _metric_lines(metrics: Mapping[str, Any]) -> list[str]:
    splits = {name: _numbers(value) for name, value in metrics.items() if isinstance(value, Mapping)}
    splits = {name: numbers for name, numbers in splits.items() if numbers} or {"metrics": _numbers(metrics)}
    keys = sorted({key for numbers in splits.values() for key in numbers}, key=_metric_order)
    if not keys:
        return []
    return [
        "## Measured quality (per cent, whole catalogue ranked)",
        "",
        "| split | " + " | ".join(keys) + " |",
        "|" + "---|" * (len(keys) + 1),
        *(
            f"| {name} | " + " | ".join(f"{100 * found[key]:.2f}" if key in found else "" for key in keys) + " |"
            for name, found in splits.items()
        ),
        "",
    ]


def _numbers(document: Mapping[str, Any]) -> dict[str, float]:
    """The `name@k` metrics of an evaluation document, or of a plain mapping."""
    inner = document.get("metrics", document)
    if not isinstance(inner, Mapping):
        return {}
    return {key: float(value) for key, value in inner.items() if "@" in key and isinstance(value, int | float)}


def _metric_order(key: str) -> tuple[str, int]:
    name, _, k = key.partition("@")
    return name, int(k) if k.isdigit() else 0
