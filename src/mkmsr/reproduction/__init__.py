"""The paper's tables and figures from our own runs: trains what is missing, then writes what the runs say."""

from __future__ import annotations

from mkmsr.reproduction.ablation import reproduce_ablation
from mkmsr.reproduction.figure3 import reproduce_figure_3
from mkmsr.reproduction.figure4 import reproduce_figure_4
from mkmsr.reproduction.settings import Reproduction, experiment_settings
from mkmsr.reproduction.table1 import reproduce_table_1
from mkmsr.reproduction.table2 import reproduce_table_2

__all__ = [
    "Reproduction",
    "experiment_settings",
    "reproduce_ablation",
    "reproduce_figure_3",
    "reproduce_figure_4",
    "reproduce_table_1",
    "reproduce_table_2",
]
