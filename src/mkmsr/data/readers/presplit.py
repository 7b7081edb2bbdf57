"""Reader of data that the field passes on already split: RecBole's `.inter` files, and the pickled lists of SR-GNN.

    NAME.train.inter, NAME.test.inter, perhaps NAME.valid.inter
        Tab-separated with a header of `field:type`. A row is an example (`item_id_list:token_seq`, `item_id:token`),
        or an event (`session_id:token` or `user_id:token`, `item_id:token`, perhaps `timestamp:float`).
    train.txt, test.txt
        A pickle of (prefixes, targets), two lists with an entry an example.

Examples are put together again to the sessions that they were made from: all prefixes of a session stand one after the
other, the longest first or last. Their number is checked, so that preparation makes exactly the examples of the files.
"""

from __future__ import annotations

import csv
import math
import pickle
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl

from mkmsr.data.log import InteractionLog, LogSource
from mkmsr.data.readers.options import ReadOptions
from mkmsr.errors import DataError

__all__ = ["read_presplit"]

INTER_FILES = {"train": "*.train.inter", "validation": "*.valid.inter", "test": "*.test.inter"}
PICKLES = {"train": "train.txt", "test": "test.txt"}
OPERATION = "event"

Example = tuple[int, list[str], str]
"""Its line or record in the file, the prefix, the target."""


def read_presplit(source: Path, options: ReadOptions) -> InteractionLog:
    """Read the log behind a folder of pre-split examples, with its splits as given.

    Raises:
        DataError: A file is missing or damaged, or its examples are not all the prefixes of some sessions; names the
            file and the line or record.
        ConfigError: An option is set that has no meaning here.
    """
    options.refuse("presplit", allowed=())
    files = _files(source)
    parts, examples = [], {}
    for split, path in files.items():
        sessions = list(_sessions(path))
        if not sessions:
            raise DataError("holds no example", path=path)
        examples[split] = sum(len(session) - 1 for session in sessions)
        parts.append(_events(sessions, split))
    events = pl.concat(parts).with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
    return InteractionLog(
        events.lazy(),
        name="presplit",
        sources=tuple(LogSource.of(path) for path in files.values()),
        notes={"examples": examples},
    )


class ListsOnly(pickle.Unpickler):
    """Loads lists, tuples and integers; a pickle that names any class or function is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse it.

        Raises:
            UnpicklingError: Always.
        """
        raise pickle.UnpicklingError(f"it names {module}.{name}; only lists, tuples and integers are read")


def _files(source: Path) -> dict[str, Path]:
    if not source.is_dir():
        found = "should be a folder with the data set's files" if source.exists() else "no such folder"
        raise DataError(found, path=source)
    places = {split: sorted(source.glob(pattern)) for split, pattern in INTER_FILES.items()}
    if not any(places.values()):
        places = {split: [source / name] for split, name in PICKLES.items() if (source / name).is_file()}
    for split, paths in places.items():
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise DataError(f"holds several files of the {split} split: {names}; leave one", path=source)
    for split in ("train", "test"):
        if not places.get(split):
            raise DataError(f"holds no {INTER_FILES[split]} and no {PICKLES[split]}", path=source)
    return {split: paths[0] for split, paths in places.items() if paths}


def _sessions(path: Path) -> Iterator[list[str]]:
    if path.suffix != ".inter":
        yield from _joined(_pickled_examples(path), path, "record")
        return
    with path.open(encoding="utf-8", newline="") as lines:
        try:
            rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            fields = [field.partition(":")[0] for field in next(rows, [])]
            if {"item_id_list", "item_id"} <= set(fields):
                yield from _joined(_listed_examples(rows, fields, path), path, "row")
            elif "item_id" in fields and {"session_id", "user_id"} & set(fields):
                yield from _grouped_events(rows, fields, path)
            else:
                right = "item_id_list and item_id (examples), or session_id and item_id (events)"
                raise DataError(f"the header should name {right}; found {', '.join(fields) or 'nothing'}", path=path)
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8 text: {error.reason} at byte {error.start}", path=path) from None
        except csv.Error as error:
            raise DataError(f"not readable as tab-separated text: {error}", path=path) from None


def _listed_examples(rows: Iterable[list[str]], fields: list[str], path: Path) -> Iterator[Example]:
    prefix_column, target_column = fields.index("item_id_list"), fields.index("item_id")
    for number, row in enumerate(rows, start=2):
        _check_width(row, fields, number, path)
        prefix, target = row[prefix_column].split(), row[target_column]
        if not prefix or not target:
            raise DataError("an example needs a prefix and a target", path=path, row=number)
        yield number, prefix, target


def _grouped_events(rows: Iterable[list[str]], fields: list[str], path: Path) -> Iterator[list[str]]:
    """The events of each session by time, where there is one, and else in the order of the file."""
    key, item = fields.index("session_id" if "session_id" in fields else "user_id"), fields.index("item_id")
    clock = fields.index("timestamp") if "timestamp" in fields else None
    sessions: dict[str, list[tuple[float, str]]] = {}
    for number, row in enumerate(rows, start=2):
        _check_width(row, fields, number, path)
        if not row[key] or not row[item]:
            raise DataError("the value is empty", path=path, row=number, column=fields[item if row[key] else key])
        sessions.setdefault(row[key], []).append((_time(row, clock, number, path), row[item]))
    for events in sessions.values():
        yield [each for _, each in sorted(events, key=lambda event: event[0])]


def _check_width(row: list[str], fields: list[str], number: int, path: Path) -> None:
    if len(row) != len(fields):
        raise DataError(f"has {len(row)} fields, the header {len(fields)}", path=path, row=number)


def _time(row: list[str], clock: int | None, number: int, path: Path) -> float:
    if clock is None:
        return 0.0
    with suppress(ValueError):
        if math.isfinite(found := float(row[clock])):
            return found
    raise DataError(f"found {row[clock]!r}, should be a number", path=path, row=number, column="timestamp")


def _pickled_examples(path: Path) -> Iterator[Example]:
    with path.open("rb") as file:
        try:
            content = ListsOnly(file).load()
        except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, AttributeError) as error:
            raise DataError(f"not a pickle of lists of integers: {error}", path=path) from None
        except (TypeError, OverflowError, MemoryError, RecursionError) as error:
            raise DataError(f"a damaged pickle: {error or type(error).__name__}", path=path) from None
    if not (isinstance(content, tuple | list) and len(content) == 2 and all(isinstance(e, list) for e in content)):
        raise DataError("should be a pair of lists: the prefixes and the targets", path=path)
    prefixes, targets = content
    if len(prefixes) != len(targets):
        raise DataError(f"holds {len(prefixes)} prefixes and {len(targets)} targets", path=path)
    for number, (prefix, target) in enumerate(zip(prefixes, targets, strict=True), start=1):
        if (
            not isinstance(prefix, list | tuple)
            or not prefix
            or not all(type(each) is int for each in (*prefix, target))
        ):
            raise DataError(
                "an example should be a list of at least one integer and an integer target", path=path, row=number
            )
        yield number, [str(each) for each in prefix], str(target)


def _joined(examples: Iterable[Example], path: Path, unit: str) -> Iterator[list[str]]:
    """The sessions behind examples."""
    session: list[str] = []
    first = count = 0
    shortest: list[str] = []
    for number, prefix, target in examples:
        if session and prefix == session:  # one event longer than the last
            session = [*prefix, target]
        elif session and [*prefix, target] == shortest:
            shortest = prefix
        else:
            if session:
                yield _whole(session, count, first, path, unit)
            session, shortest, first, count = [*prefix, target], prefix, number, 0
        count += 1
    if session:
        yield _whole(session, count, first, path, unit)


def _whole(session: list[str], count: int, first: int, path: Path, unit: str) -> list[str]:
    """The session, if it has as many examples as prefixes."""
    if count != len(session) - 1:
        text = (
            f"the examples of a session should be all of its prefixes, one after the other: that of {unit} {first} has "
            f"{len(session) - 1} prefixes, {count} are here"
        )
        raise DataError(text, path=path, row=first)
    return session


def _events(sessions: list[list[str]], split: str) -> pl.DataFrame:
    items = [item for session in sessions for item in session]
    numbers = [number for number, session in enumerate(sessions) for _ in session]
    return pl.DataFrame(
        {"number": numbers, "item_id": items}, schema={"number": pl.Int64, "item_id": pl.String}
    ).select(
        session_id=pl.lit(f"{split}-") + pl.col("number").cast(pl.String).str.zfill(9),
        item_id="item_id",
        operation=pl.lit(OPERATION),
        split=pl.lit(split),
    )
