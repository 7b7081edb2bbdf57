"""What `mkmsr prepare` says of the data that it made, so that a wrong column, unit or table is seen before training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkmsr.cli.console import Terminal

if TYPE_CHECKING:
    from mkmsr.data.dataset import PreparedDataset
    from mkmsr.data.prepare import PrepareOptions

__all__ = ["show_preparation"]


def show_preparation(screen: Terminal, dataset: PreparedDataset, options: PrepareOptions, *, has_time: bool) -> None:
    """Print from when the events are, what was left out, and what may be wrong with attributes."""
    if has_time:
        _show_span(screen, dataset)
    _show_left_out(screen, dataset, options)
    _show_scattered_numbers(screen, dataset)


def _show_span(screen: Terminal, dataset: PreparedDataset) -> None:
    """Print from when to when the kept events are: a misread unit or zone shows here."""
    import numpy as np

    times = np.concatenate([table.times for table in (dataset.train, dataset.validation, dataset.test)])
    first, last = (str(each).replace("T", " ") for each in np.array([times.min(), times.max()], "datetime64[s]"))
    screen.say(f"from {first} to {last} (UTC)")


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
    screen.say(f"events: {events['read']:,} read, {kept:,} kept{'; left out: ' if lost else ''}{', '.join(lost)}")
    if attributes:
        items = len(dataset.items)
        screen.say(
            f"attributes: {items - attributes['items_without_attributes']:,} of {items:,} items have some; "
            f"{attributes['unknown_items']:,} items of the table are not in the catalogue, "
            f"{attributes['empty_values']:,} of {attributes['rows']:,} values are empty"
        )


def _show_scattered_numbers(screen: Terminal, dataset: PreparedDataset) -> None:
    """Print which relations are numbers that hardly two items share."""
    from mkmsr.data.buckets import scattered_numbers

    for relation, (values, items) in scattered_numbers(dataset.knowledge).items():
        screen.say(
            f"{relation}: {values:,} different numbers for {items:,} items, of which little can be learnt; if they are "
            f"amounts, --buckets {relation}=20 makes about 20 ranges of them"
        )
