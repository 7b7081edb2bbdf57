"""Table 1: counts of prepared data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mkmsr.data.dataset import PreparedDataset, statistics
from mkmsr.paper.data_table import table_1
from mkmsr.paper.published import published_name
from mkmsr.paper.settings import Reproduction, data_title

__all__ = ["reproduce_table_1"]


def reproduce_table_1(datasets: Sequence[Path], *, command: str) -> Reproduction:
    """Count prepared data beside the published counts.

    Args:
        datasets: Folders of prepared data.
        command: What writes the table, to be stated in it.
    """
    rows = []
    for data in datasets:
        dataset = PreparedDataset.load(data)
        rows.append((data_title(data, dataset), statistics(dataset), published_name(dataset)))
    document = {title: counts for title, counts, _ in rows}
    return Reproduction(table_1(rows, command=command), document)
