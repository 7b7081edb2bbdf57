"""JSON lines as a raw table: one object a line, nested ones too, in which a column is the path to a value.

`device.category` is a value inside an object. A path through a list of objects, such as `items.item_id`, has one row
for each of them. In a list of keys and values, as Google Analytics exports them, the key is part of the path:
`event_params.ga_session_id`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from mkmsr.data.readers.cells import EXACT
from mkmsr.data.readers.malformed import EXTRA, ROW
from mkmsr.data.readers.raw_bytes import unpack
from mkmsr.data.readers.table import PIECE_ROWS, RawTable
from mkmsr.errors import DataError
from mkmsr.runtime.files import Scratch

FIRST_LINES = 1000
"""Lines from which the columns are told."""


def scan_json_lines(path: Path, scratch: Scratch, *, label: Path | str | None = None) -> RawTable:
    """Return the table in a file of JSON lines, packed or not; DataError says that the first lines are no objects."""
    label = path if label is None else label
    plain = unpack(path, scratch)
    columns: dict[str, None] = {}
    with plain.open("rb") as lines:
        first = list(islice(lines, FIRST_LINES))
    if not b"".join(first).strip():
        raise DataError("the file is empty", path=label)
    for line in first:
        columns |= dict.fromkeys(_paths(_object(line) or {}))
    if not columns:
        raise DataError("not JSON lines: there should be one object a line, like {...}", path=label, row=1)
    return RawTable(
        label, tuple(columns), partial(_scan, plain, scratch), plain.stat().st_size, kind="JSON lines", several=True
    )


def _scan(path: Path, scratch: Scratch, columns: Sequence[str]) -> pl.LazyFrame:
    schema = {**dict.fromkeys(columns, pl.String()), ROW: pl.Int64(), EXTRA: pl.String()}
    files = []
    rows = _rows(path, [name.split(".") for name in columns])
    while piece := list(islice(rows, PIECE_ROWS)):
        files.append(scratch.file(".parquet"))
        pl.DataFrame(piece, schema=schema, orient="row").write_parquet(files[-1], compression="lz4")
    return pl.scan_parquet(files, glob=False) if files else pl.LazyFrame(schema=schema)


def _rows(path: Path, wanted: list[list[str]]) -> Iterator[tuple[Any, ...]]:
    """The values at the wanted paths, the line from 0, and what is wrong with it."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines):
            if not line.strip():
                continue
            found = _object(line)
            if found is None:
                yield (*(None for _ in wanted), number, "not JSON")
                continue
            cells = [_values(found, each) for each in wanted]
            for index in range(max(map(len, cells), default=0)):
                row = (
                    cell[index if len(cell) > 1 else 0] if index < len(cell) or len(cell) == 1 else None
                    for cell in cells
                )
                yield (*map(_text, row), number, None)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line.decode("utf-8-sig"))  # From bytes, json would also take halves of characters.
        if b"\\ud" in line.lower():
            json.dumps(found, ensure_ascii=False).encode()  # Half a character, which no table holds, is an error.
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _paths(value: Any, prefix: str = "") -> Iterator[str]:
    """The paths to all values, lists of plain values being values themselves."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _paths(each, f"{prefix}.{key}" if prefix else key)
    elif _is_pairs(value):
        yield from (f"{prefix}.{each['key']}" for each in value)
    elif _is_objects(value):
        for each in value:
            yield from _paths(each, prefix)
    else:
        yield prefix


def _values(value: Any, path: Sequence[str]) -> list[Any]:
    """What stands at a path: one value, or several where it goes through a list."""
    if not path:
        return [value]
    if isinstance(value, dict):
        for end in range(len(path), 0, -1):  # a key may hold dots itself
            key = ".".join(path[:end])
            if key in value:
                return _values(value[key], path[end:])
        return [None]
    if _is_pairs(value):
        named = next((each["value"] for each in value if each["key"] == ".".join(path)), None)
        if isinstance(named, dict):  # The value may name its type: {"int_value": 7}.
            named = next((each for each in named.values() if each is not None), None)
        return [named]
    if _is_objects(value):
        return [found for each in value for found in _values(each, path)]
    return [None]


def _is_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _is_pairs(value: Any) -> bool:
    return _is_objects(value) and all(each.keys() == {"key", "value"} for each in value)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) <= EXACT else repr(value)
    return json.dumps(value, ensure_ascii=False)
