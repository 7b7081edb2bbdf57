"""A second round of votes: the neighbours of the items that the first round likes best vote too.

Where few sessions share an item, the first round names few items; the second one fills the list with what stands one
step further. Dimension letters: B prefixes, M votes.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.models.neighbours.index import VoteSettings
from mkmsr.models.neighbours.voting import Votes

__all__ = ["second_round"]

_BEST_ITEMS = 10
_LESS = 10


def second_round(first: Votes, settings: VoteSettings) -> tuple[Tensor, SessionBatch, VoteSettings]:
    """Whom to ask next: the ten best items of each prefix, as a prefix, best one newest; from a tenth of the sample.

    Args:
        first: The first round's votes, `summed`.
        settings: Its settings.

    Returns:
        For each new prefix the row of `first` that it stands for, the new prefixes, and how their neighbours vote:
        those that share items, whatever kinds did in the first round.
    """
    best = first.best(_BEST_ITEMS)
    rows, lengths = torch.unique_consecutive(best.rows, return_counts=True)
    items = best.items.flip(0)
    nothing = torch.zeros_like(rows)
    offsets = torch.cat([lengths.new_zeros(1), lengths.flip(0).cumsum(0)])
    batch = SessionBatch(items, torch.zeros_like(items), offsets, nothing, nothing, nothing - 1)
    return rows.flip(0), batch, replace(settings, sample_size=-(-settings.sample_size // _LESS), kind_weight=0.0)
