"""Changes that a damaged copy, a careless export or an enemy makes: to bytes, texts, JSON and tables.

Each function returns a changed copy, and draws all chances from the generator that it is given.
"""

from __future__ import annotations

import copy
import io
import json
from random import Random
from typing import Any

import polars as pl

NUMBERS = [0, -1, 1, 255, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400]
FLOATS = [0.5, -0.0, 1e-320, 1e308, 1e18, float("nan"), float("inf"), float("-inf")]
WORDS = [
    *("", " ", "\t", "\0", "\x1b[31m", "\r\n", '"', '""', "'", "\\", ",", ";", "::", "|", "=", "!=", "..", "[]", "{}"),
    *("null", "None", "NaN", "inf", "-inf", "1e999", "0x10", "1_000", "007", "9" * 400, "9" * 5000, "-0", "1e5", "٣"),
    *("true", "1970-01-01", "0000-00-00", "9999-12-31T23:59:60Z", "2026-02-30 25:61", "1.7e12", "12/31/1999"),
    *("../../etc/passwd", "http://host/", "=1+1", "<script>", "%s%n", "a" * 3000, "\ufeff", "\u202e", "\ud800", "--"),
    *("é", "e\u0301", "コーヒー", "💥", "item-03", "click", "colour=red", "price=1..2", "brand!=b", "SELECT 1"),
]
BYTES = [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3\x28", b"\xed\xa0\x80", b"\n", b"\r", b'"', b"\\", b"\x80" * 9]
TYPES = [pl.Int8, pl.UInt64, pl.Float64, pl.String, pl.Binary, pl.Boolean, pl.Datetime("ns"), pl.Null, pl.Int128]
TYPES += [pl.List(pl.String), pl.Categorical, pl.Decimal(38, 4), pl.Duration("us")]
DEEP = [30, 200, 5000]
"""How often something is put into itself."""


def changed_bytes(content: bytes, chance: Random) -> bytes:
    """Flip, replace, cut out, repeat, insert, or end early, up to four times."""
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 4])):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.choice([1, 2, 4, 8, 64]))
        old = bytes(data[at:to])
        flipped = bytes([old[0] ^ 1 << chance.randrange(8)]) + old[1:] if old else b""
        more = old * chance.choice([2, 3, 30])
        data[at:to] = chance.choice([flipped, b"", more, chance.choice(BYTES) + old, chance.randbytes(to - at)])
        if chance.random() < 0.05:
            del data[at:]
    return bytes(data)


def changed_text(text: str, chance: Random, separators: str = ",\n") -> str:
    """Change a field between separators: for an odd word or another field, away, or many times; up to three times."""
    for _ in range(chance.choice([1, 1, 2, 3])):
        separator = chance.choice(separators)
        fields = text.split(separator)
        at, other = chance.randrange(len(fields)), chance.choice(fields)
        odd = [
            chance.choice(WORDS),
            fields[at] + chance.choice(WORDS),
            other,
            str(chance.choice(NUMBERS[:-1] + FLOATS)),
        ]
        fields[at : at + 1] = chance.choice([*([each] for each in odd), [], [fields[at], other], [other] * 50])
        text = separator.join(fields)
    return text


def encoded(text: str, chance: Random) -> bytes:
    """Return a text in UTF-8, rarely in another encoding or with a mark at its beginning."""
    name = chance.choice(["utf-8"] * 20 + ["utf-16", "latin-1", "cp1252", "utf-8-sig", "utf-32"])
    return text.encode(name, "surrogatepass" if name.startswith("utf") else "replace")


def changed_value(value: Any, chance: Random) -> Any:
    """Change JSON at up to three places: another value, key or type, more, less, deeper."""
    box = [copy.deepcopy(value)]
    for _ in range(chance.choice([1, 1, 2, 3])):
        places = _places(box)
        holder, key = chance.choice(places)
        kind = chance.randrange(7)
        if kind == 0 and isinstance(holder, dict):
            holder[chance.choice([*WORDS, *holder])] = holder.pop(key)
        elif kind == 1 and holder is not box:
            del holder[key]
        elif kind == 2 and isinstance(holder, list):
            holder[key:key] = [holder[key]] * chance.choice([1, 2, 40])
        elif kind == 3:
            other, place = chance.choice(places)
            holder[key] = copy.deepcopy(other[place])
        elif kind == 4 and chance.random() < 0.3:
            for _ in range(chance.choice(DEEP[:2])):
                holder[key] = chance.choice([[holder[key]], {"a": holder[key]}])
        elif kind == 5 and isinstance(holder[key], str):
            holder[key] = changed_text(holder[key], chance, " =.-")
        else:
            holder[key] = odd_value(chance)
    return box[0]


def odd_value(chance: Random) -> Any:
    """Return a value that is rarely right."""
    return chance.choice([*(chance.choice(each) for each in (WORDS, NUMBERS, FLOATS)), None, True, [], {}, [[]]])


def changed_json(content: bytes, chance: Random) -> bytes:
    """Change JSON as a value; now and then, or where it is none any more, as bytes."""
    if chance.random() < 0.1:
        return content[: chance.randrange(len(content) + 1)] + chance.choice([b"[", b'{"a":']) * chance.choice(DEEP)
    try:
        if chance.random() < 0.8:
            value = changed_value(json.loads(content), chance)
            return json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        pass
    return changed_bytes(content, chance)


def changed_parquet(content: bytes, chance: Random) -> bytes:
    """Change a Parquet file as a table: values, names, types, order and number of rows; or as bytes."""
    try:
        if chance.random() < 0.6:
            return _changed_table(pl.read_parquet(io.BytesIO(content)), chance)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, OverflowError, TypeError, ValueError):
        pass
    return changed_bytes(content, chance)


def _changed_table(table: pl.DataFrame, chance: Random) -> bytes:
    name = chance.choice(table.columns or [""])
    kind = chance.randrange(8)
    if kind == 0:
        table = table.rename({name: chance.choice(["", "x", "time", "item_id", "a" * 300])}, strict=False)
    elif kind == 1:
        table = table.drop(name)
    elif kind == 2:
        values = pl.lit(None) if chance.random() < 0.3 else pl.col(name)
        table = table.with_columns(values.cast(chance.choice(TYPES), strict=False).alias(name))
    elif kind == 3:
        table = table.sample(table.height, with_replacement=True, shuffle=True, seed=chance.randrange(10**6))
    elif kind == 4:
        table = pl.concat([table] * chance.choice([1, 2, 30])).head(chance.choice([0, 1, 10**6]))
    elif table.height:
        values = table[name].to_list()
        odd = odd_value(chance)
        is_storable = not isinstance(odd, list | dict) and odd != "\ud800" and odd not in NUMBERS[-2:]
        values[chance.randrange(len(values))] = odd if is_storable else None
        table = table.with_columns(pl.Series(name, values, table[name].dtype, strict=False))
    file = io.BytesIO()
    table.write_parquet(file)
    return file.getvalue()


def _places(box: Any) -> list[tuple[Any, Any]]:
    """Places in nested lists and mappings: what holds each, and its key there."""
    found, waiting = [], [box]
    while waiting and len(found) < 500:
        holder = waiting.pop()
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return found
