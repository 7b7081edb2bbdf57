"""The paper's tables and figures from our own runs: trains what is missing, then writes what the runs say."""

from __future__ import annotations

from mkmsr.paper.ablation import reproduce_ablation
from mkmsr.paper.figure3 import reproduce_figure_3
from mkmsr.paper.figure4 import reproduce_figure_4
from mkmsr.paper.settings import Reproduction, experiment_settings
from mkmsr.paper.table1 import reproduce_table_1
from mkmsr.paper.table2 import reproduce_table_2

__all__ = [
    "Reproduction",
    "experiment_settings",
    "reproduce_ablation",
    "reproduce_figure_3",
    "reproduce_figure_4",
    "reproduce_table_1",
    "reproduce_table_2",
]
