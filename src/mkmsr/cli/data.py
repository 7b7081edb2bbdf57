"""`mkmsr simulate`, `prepare`, `describe`, `forget`: from a raw log to prepared data, and a visitor out of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from mkmsr.cli.console import AT_LEAST_ONE, COMMON, Common, Terminal, counted, terminal, text_table
from mkmsr.cli.progress import duration, waiting
from mkmsr.cli.reading import Reading, Running, bucket_count, known_kind
from mkmsr.cli.results import show_statistics
from mkmsr.runtime.files import locked

if TYPE_CHECKING:
    from mkmsr.data.audit import Audit
    from mkmsr.data.dataset import PreparedDataset
    from mkmsr.data.prepare import PrepareOptions

_SHARE = Parameter(validator=Number(gte=0, lt=1))


def simulate(
    *,
    out: Path,
    sessions: Annotated[int, Parameter(validator=Number(gte=10))] = 20_000,
    items: Annotated[int, Parameter(validator=Number(gte=50))] = 5_000,
    events_per_session: Annotated[float, Parameter(validator=Number(gte=3, lte=20))] = 5.19,
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    common: Common = COMMON,
) -> None:
    """Write a realistic simulated shop log: events.parquet, attributes.parquet and attributes_display.parquet.

    Operations, transitions driven by attributes, repeats that depend on the operation, items launched late. The third
    file holds names, prices and pictures of the items, which are only shown.

    Args:
        out: Folder for the files.
        sessions: Visits.
        items: Size of the catalogue.
        events_per_session: Mean events of a visit, nearly.
        seed: The same seed gives the same log.
    """
    with terminal(common) as screen, locked(out):
        from mkmsr.data.shop import SimulateOptions
        from mkmsr.data.simulate import simulate as make_log

        began = time.perf_counter()
        with waiting(screen.progress, f"simulating {sessions:,} sessions"):
            log = make_log(
                SimulateOptions(sessions=sessions, items=items, events_per_session=events_per_session, seed=seed)
            )
            log.save(out)
        counts = {"sessions": sessions, "items": items, "events": log.events.height, "triples": log.attributes.height}
        seconds = time.perf_counter() - began
        screen.document({"out": str(out), "seed": seed, **counts, "seconds": seconds})
        screen.print(
            f"{counts['events']:,} events of {sessions:,} sessions in {duration(seconds)}: {out}/events.parquet"
        )
        screen.print(f"{counts['triples']:,} attribute values of {items:,} items: {out}/attributes.parquet")
        files = (f"{out}/events.parquet", "--attributes", f"{out}/attributes*.parquet")
        shown = ("--attribute-columns", "display=name+price+image")
        screen.next("prepare", "events", *files, *shown, "--out", f"{out}/prepared")


@Parameter(name="*")
@dataclass(frozen=True)
class Preparation:
    """What becomes of a log that was read, see `PrepareOptions`.

    Args:
        gap: Without sessions in the log, a pause of more than so many seconds starts a new one (rows, in a log without
            times). By default what is usual for a public data set, or else 3600.
        min_session_events: Shorter sessions are dropped; 2 by default, 1 for a log that comes already split.
        min_item_events: Items with fewer events are dropped.
        longest_session: Sessions of more events, such as those of robots, are dropped.
        drop_duplicates: Keep one of events that agree in user or session, item, operation and time.
        test_share: Share of the events that the newest sessions, the test, hold.
        validation_share: Share of the events before the test that validation holds.
        new_items: What happens to test events of items that no earlier session has.
        catalogue: Candidates: items of the log, or also those that only the attribute table knows.
        visitors: Let each session remember what its visitor touched in earlier ones; the log needs a user column.
        max_session_events: Examples use the last so many events of a session.
        buckets: Numeric relations and how many buckets of about equal size their values become: price=20
    """

    gap: Annotated[int | None, AT_LEAST_ONE] = None
    min_session_events: Annotated[int | None, AT_LEAST_ONE] = None
    min_item_events: Annotated[int, AT_LEAST_ONE] = 1
    longest_session: Annotated[int | None, Parameter(validator=Number(gte=2))] = None
    drop_duplicates: Annotated[bool, Parameter(negative=())] = False
    test_share: Annotated[float, _SHARE] = 0.1
    validation_share: Annotated[float, _SHARE] = 0.1
    new_items: Literal["drop", "keep"] = "drop"
    catalogue: Literal["log", "attributes"] = "log"
    visitors: Annotated[bool, Parameter(negative=())] = False
    max_session_events: Annotated[int, Parameter(validator=Number(gte=2))] = 29
    buckets: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = ()

    def options(self) -> PrepareOptions:
        """Return the same for the library."""
        from mkmsr.data.prepare import PrepareOptions

        values = {**vars(self), "buckets": dict(bucket_count(each) for each in self.buckets)}
        return PrepareOptions(gap_seconds=values.pop("gap"), **values)


def prepare(
    kind: Annotated[str, Parameter(validator=known_kind)],
    source: str | None = None,
    /,
    *,
    out: Path,
    reading: Reading = Reading(),
    preparation: Preparation = Preparation(),
    name: str | None = None,
    running: Running = Running(),
    common: Common = COMMON,
) -> None:
    """Turn a raw log into prepared data: sessions, filters, temporal split, indexes, item knowledge.

    Args:
        kind: What the source is: events (any CSV, TSV or Parquet table, .gz too) or the name of a public data set.
        source: The file or folder, or the address of a table in a database.
        out: Folder of the prepared data; older data there is replaced when the new is complete.
        name: Name of the data in tables; that of the output folder by default.
    """
    with terminal(common) as screen:
        from mkmsr.data.dataset import statistics
        from mkmsr.data.engines import open_engine
        from mkmsr.data.prepare import prepare as prepare_log
        from mkmsr.data.readers import read_log
        from mkmsr.data.readers.sql import is_address, masked

        path = reading.source(source)
        shown = masked(path) if is_address(path) else path
        began = time.perf_counter()
        options = preparation.options()
        name = name or out.resolve().name
        with waiting(screen.progress, f"preparing {shown}"), open_engine(running.options(reading.scratch)) as engine:
            log = read_log(kind, path, reading.options())
            dataset = prepare_log(log, options, name=name, engine=engine)
            dataset.save(out)
        seconds = time.perf_counter() - began
        counts = statistics(dataset)
        notes = {"preparation": dataset.metadata["preparation"], "notes": dict(log.notes)}
        place = {"out": str(out), "name": dataset.name, "engine": engine.name, "seconds": seconds}
        screen.document({**place, **counts, **notes})
        for key, note in log.notes.items():
            if key != "malformed_examples":  # the warning while reading has quoted them
                screen.print(f"{key.replace('_', ' ')}: {_plain(note)}")
        if log.has_time:
            _show_span(screen, dataset)
        _show_left_out(screen, dataset, options)
        _show_doubtful_relations(screen, dataset, is_public=kind != "events")
        show_statistics(screen, dataset, counts)
        screen.print(f"prepared in {duration(seconds)}: {out}")
        use_visitors = ["--set", "model.earlier_visits=true"] if options.visitors else []
        screen.next("train", out, "--model", "compass", *use_visitors, "--out", f"runs/{dataset.name}")


def describe(data: Path, /, *, audit: Annotated[bool, Parameter(negative=())] = False, common: Common = COMMON) -> None:
    """Count what prepared data holds: the paper's Table 1.

    Args:
        data: Folder of prepared data.
        audit: Also look for leaks: training newer than the test, sessions or examples in both, items from the test.
    """
    with terminal(common) as screen:
        from mkmsr.data.audit import audit as look_for_leaks
        from mkmsr.data.dataset import PreparedDataset, statistics

        dataset = PreparedDataset.load(data)
        counts = statistics(dataset)
        found = look_for_leaks(dataset) if audit else None
        screen.document(counts if found is None else {**counts, "audit": found.to_json()})
        show_statistics(screen, dataset, counts)
        if found is not None:
            _show_audit(screen, found)


def _show_audit(screen: Terminal, found: Audit) -> None:
    rows = [[each.verdict, f"{each.count:,} of {each.of:,}", each.detail] for each in found.checks]
    screen.show(text_table("Leakage audit", ["verdict", "found", ""], rows, numbers_from=3))
    meaning = {"clean": "nothing found", "note": "no leak; read the notes", "leak": "do not trust results on this data"}
    screen.print(f"verdict: {found.verdict} ({meaning[found.verdict]})")


def _show_span(screen: Terminal, dataset: PreparedDataset) -> None:
    """Print the date range of the kept events, which shows a misread unit or zone."""
    import numpy as np

    times = np.concatenate([table.times for table in (dataset.train, dataset.validation, dataset.test)])
    first, last = (str(each).replace("T", " ") for each in np.array([times.min(), times.max()], "datetime64[s]"))
    screen.print(f"from {first} to {last} (UTC)")


def _show_left_out(screen: Terminal, dataset: PreparedDataset, options: PrepareOptions) -> None:
    """Print what became of the raw events, and how far the attribute table reaches."""
    events, attributes = (dataset.metadata["preparation"][each] for each in ("events", "attributes"))
    long = events["events_of_long_sessions_dropped"]
    filtered = events["read"] - events["duplicates_dropped"] - long - events["events_after_filters"]
    reasons = {
        "that repeat another": events["duplicates_dropped"],
        f"in sessions of more than {options.longest_session}": long,
        f"in short sessions{' or of rare items' if options.min_item_events > 1 else ''}": filtered,
        "of the test, of items that no earlier session has": events["events_of_new_items_dropped"],
    }
    lost = [f"{count:,} {reason}" for reason, count in reasons.items() if count]
    kept = events["events_after_filters"] - events["events_of_new_items_dropped"]
    screen.print(f"events: {events['read']:,} read, {kept:,} kept{'; left out: ' if lost else ''}{', '.join(lost)}")
    if attributes:
        items = len(dataset.items)
        missing = "is not" if attributes["unknown_items"] == 1 else "are not"
        screen.print(
            f"attributes: {items - attributes['items_without_attributes']:,} of {items:,} items have some; "
            f"{counted(attributes['unknown_items'], 'item')} of the table {missing} in the catalogue, "
            f"{attributes['empty_values']:,} of {attributes['rows']:,} values are empty"
        )


def _show_doubtful_relations(screen: Terminal, dataset: PreparedDataset, *, is_public: bool) -> None:
    """Print which relations are numbers, or texts of a log of one's own, that hardly two items share."""
    from mkmsr.data.buckets import scattered_numbers, unshared_texts

    for relation, (values, items) in scattered_numbers(dataset.knowledge).items():
        screen.print(
            f"{relation}: {values:,} different numbers for {items:,} items, of which little can be learnt; if they are "
            f"amounts, --buckets {relation}=20 makes about 20 ranges of them"
        )
    if dataset.display and not any("name" in shown for shown in dataset.display.values()):
        screen.print(
            "no column is shown as the name, so lists will show ids: "
            "--attribute-columns display=name:COLUMN+image:COLUMN says which columns are name and image"
        )
    if not is_public and (names := unshared_texts(dataset.knowledge)):
        screen.print(
            f"{', '.join(names)}: nearly every item has a text of its own, of which little can be learnt; if it is "
            f"only to be shown, --attribute-columns display={'+'.join(names)} says so"
        )


def _plain(note: Any) -> str:
    """What a reader noticed, as people write it."""
    if isinstance(note, Mapping):
        return ", ".join(f"{key}={value}" for key, value in note.items())
    return "; ".join(map(str, note)) if isinstance(note, list) else str(note)


def forget(
    data: Path,
    source: str | None = None,
    /,
    *,
    bundle: Annotated[tuple[Path, ...], Parameter(consume_multiple=True, negative=())] = (),
    reading: Reading = Reading(),
    common: Common = COMMON,
) -> None:
    """Take the sessions of a visitor out of prepared data and out of the sessions that saved models keep.

    Neither knows visitors, so that SOURCE says which events to forget: a table like the log that was prepared, with the
    visitor's rows alone. A session goes if all of its events are among them, by item and second.

    Args:
        data: Folder of prepared data.
        source: The events to forget.
        bundle: Saved models that learnt from these data.
    """
    with terminal(common) as screen:
        from mkmsr.bundle.forgetting import forget as take_out
        from mkmsr.data.readers import read_log

        log = read_log("events", reading.source(source), reading.options())
        found = take_out(data, log, bundle)
        screen.document({"sessions": found.sessions, "events": found.events, "bundles": found.bundles})
        splits = ", ".join(f"{split} {count:,}" for split, count in found.sessions.items())
        removed = counted(sum(found.sessions.values()), "session")
        screen.print(f"{data}: {removed} of {counted(found.events, 'event')} removed ({splits})")
        for path, count in found.bundles.items():
            screen.print(f"{path}: {counted(count, 'session')} removed from its neighbours")
        if found.bundles:
            screen.note("what a network learnt stays in its weights until it is trained again (docs/privacy.md)")
