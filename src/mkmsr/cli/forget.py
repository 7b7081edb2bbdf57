"""`mkmsr forget`: takes a visitor's sessions out of prepared data and saved models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mkmsr.cli.console import COMMON, Common, counted, terminal
from mkmsr.cli.reading import Reading


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
