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

import pickle
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from mkmsr.data.log import InteractionLog, LogSource
from mkmsr.data.readers.malformed import ROW, Fault, empty
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.sources import RawSource, open_source
from mkmsr.errors import DataError
from mkmsr.runtime.files import Scratch

INTER_FILES = {"train": "*.train.inter", "validation": "*.valid.inter", "test": "*.test.inter"}
PICKLES = {"train": "train.txt", "test": "test.txt"}
OPERATION = "event"

Example = tuple[int, list[str], str]
"""Its line or record in the file, the prefix, the target."""


def read_presplit(source: Path, options: ReadOptions) -> InteractionLog:
    """Read the log behind a folder of pre-split examples, with its splits as given.

    A file that is missing or damaged, and examples that are not all the prefixes of some sessions, raise DataError.
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
    source = open_source(path, ReadOptions(separator="\t", quote=False, strict=True), Scratch())
    names = {name.partition(":")[0]: name for name in source.columns}
    if names.keys() >= {"item_id_list", "item_id"}:
        prefixes, targets = names["item_id_list"], names["item_id"]
        rows = _rows(source, [prefixes, targets], [empty(prefixes), empty(targets)])
        line = pl.col(ROW) + source.tables[0].first_row
        yield from _joined(
            rows.select(line, pl.col(prefixes).str.extract_all(r"\S+"), targets).iter_rows(), path, "row"
        )
    elif "item_id" in names and {"session_id", "user_id"} & names.keys():
        yield from _grouped_events(source, names)
    else:
        right = "item_id_list and item_id (examples), or session_id and item_id (events)"
        raise DataError(f"the header should name {right}; found {', '.join(names) or 'nothing'}", path=path)


def _grouped_events(source: RawSource, names: Mapping[str, str]) -> Iterator[list[str]]:
    """The items of each session by time, where there is one, and else in the order of the file."""
    key, item = names["session_id" if "session_id" in names else "user_id"], names["item_id"]
    wanted, faults, order = [key, item], [empty(key), empty(item)], pl.col(ROW)
    if "timestamp" in names:
        wanted.append(names["timestamp"])
        order = pl.col(names["timestamp"]).cast(pl.Float64, strict=False)
        wrong = ~order.is_finite().fill_null(False)
        faults += [empty(names["timestamp"]), Fault(wrong, "found {value}, should be a number", names["timestamp"])]
    rows = _rows(source, wanted, faults).sort(order, maintain_order=True)
    sessions = rows.group_by(key).agg(item, first=pl.col(ROW).min()).sort("first")
    yield from sessions[item].to_list()


def _rows(source: RawSource, wanted: list[str], faults: list[Fault]) -> pl.DataFrame:
    (table,) = source.tables
    return pl.concat(source.good_rows(table, wanted, faults, {}))


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
    """The sessions behind examples, each of which should be there with all its prefixes."""
    session: list[str] = []
    first = count = 0
    shortest: list[str] = []
    for number, prefix, target in chain(examples, [(0, [], "")]):
        if session and prefix == session:  # one event longer than the last
            session = [*prefix, target]
        elif session and [*prefix, target] == shortest:
            shortest = prefix
        else:
            if session and count != len(session) - 1:
                raise DataError(
                    f"the examples of a session should be all of its prefixes, one after the other: that of {unit} "
                    f"{first} has {len(session) - 1} prefixes, {count} are here",
                    path=path,
                    row=first,
                )
            if session:
                yield session
            session, shortest, first, count = [*prefix, target], prefix, number, 0
        count += 1


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
