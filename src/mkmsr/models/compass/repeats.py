"""COMPASS's components of items that come back: the session's own, and those of the visitor's earlier sessions.

Dimension letters: B sessions, P events of all prefixes, H items of earlier sessions of all visitors, O operations + 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mkmsr.data.batching import EarlierBatch, SessionBatch
from mkmsr.layers.fast.shared_table import unit_rows
from mkmsr.layers.segments import segment_sum
from mkmsr.models.compass.explore import Encoded
from mkmsr.models.compass.mixture import Said, largest_shares
from mkmsr.models.neighbours.voting import Votes

_AGES = 28
"""Ages told apart, in events of the session; older ones share the last. The longest prefix of the paper's data."""
_RANKS = 50
"""Places told apart among the items of earlier sessions: as many as data hold."""
_NEWEST = 10.0
"""An item at place r of the earlier ones is as likely as 1 / (10 + r) at first."""
_REACH = 3
"""Places before and after an old find that are told apart; farther ones count as this far."""


class Copies(nn.Module):
    """Which event of the session comes back.

        logit_t = age[L - t] + pair[operation_t, operation_L] [+ wanted[operation_t, operation wanted]]

    The pair table lets "added to cart, then clicked something else" weigh differently from "clicked twice"; an item in
    the cart is ordered, one just ordered is not, so the wanted operation has a table of pairs too.

    Source: the repeat mode of RepeatNet (Ren et al., AAAI 2019), by operations and age in place of vectors.
    """

    features, learns = 1, True

    def __init__(self, num_operations: int, *, wants: bool):
        super().__init__()
        self.num_columns = num_operations + 1
        self.age = nn.Embedding(_AGES, 1)
        self.pair = nn.Embedding(self.num_columns**2, 1)
        self.wanted = nn.Embedding(self.num_columns**2, 1) if wants else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin neutral: every event is as likely."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, session: Encoded) -> Said:
        """Return the session's events; gates look at the largest probability."""
        batch, rows = session.batch, session.batch.rows
        before_P = (batch.operations if self.num_columns > 1 else torch.zeros_like(batch.operations)) * self.num_columns
        newest_B = before_P[batch.last] // self.num_columns
        logits_P = self.age(batch.ages.clamp(max=_AGES - 1)) + self.pair(before_P + newest_B[rows])
        if self.wanted is not None and session.wanted is not None:
            wanted_P = session.wanted[rows]
            logits_P = logits_P + self.wanted(before_P + wanted_P) * (wanted_P > 0)[:, None]
        items = Votes(rows, batch.items, logits_P.squeeze(1))
        return Said(items, largest_shares(items, len(batch)).log()[:, None])


class EarlierVisits(nn.Module):
    """Which item of the visitor's earlier sessions comes back.

        logit_h = age[rank_h] + operation[o_h] + beside[rank_a - rank_h] + w scale cos(q, x_h)

    rank_h counts the visitor's items from the newest back, o_h is the last operation on the item; what the session
    looks for decides which of the old finds it goes back to. a is the newest item of the session that is an old find
    itself; what stood beside it then is likely to come back with it.

    Source: this project.
    """

    features, learns = 6, True

    def __init__(self, num_operations: int):
        super().__init__()
        self.age = nn.Embedding(_RANKS, 1)
        self.operation = nn.Embedding(num_operations + 1, 1)
        self.beside = nn.Embedding(2 * _REACH + 2, 1)
        self.likeness = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Newer items are likelier, all else is alike, and half the explore score counts."""
        self.age.weight.copy_(-(_NEWEST + torch.arange(_RANKS)).log()[:, None])
        self.operation.weight.zero_()
        self.beside.weight.zero_()
        self.likeness.fill_(0.5)

    def forward(self, session: Encoded) -> Said:
        """Return the items of the batch's visitors; none where the data do not know them."""
        batch = session.batch
        earlier = EarlierBatch.nothing(len(batch), batch.items.device) if batch.earlier is None else batch.earlier
        looked_for_H = (session.query[earlier.rows] * unit_rows(session.vectors(earlier.items))).sum(1)
        logits_H = (
            self.age(earlier.positions.clamp(max=_RANKS - 1)).squeeze(1)
            + self.operation(earlier.operations).squeeze(1)
            + self.beside(_steps_from_old_find(batch, earlier)).squeeze(1)
            + self.likeness * looked_for_H
        )
        return Said(Votes(earlier.rows, earlier.items, logits_H), _of_visitors(batch, earlier, session.vectors))


@torch.no_grad()
def _of_visitors(batch: SessionBatch, earlier: EarlierBatch, vectors: Callable[[Tensor], Tensor]) -> Tensor:
    """Whether there are old finds, log(1 + how many), whether the session's last item is one, which share of its events
    are, and the greatest and the mean cosine of the others with its last item. Shape [B, 6]."""
    num_rows, counts_B = len(batch), earlier.offsets.diff().float()
    is_old_P, last_B = (batch.earlier_ranks >= 0).float(), batch.items[batch.last]
    is_other_H = earlier.items != last_B[earlier.rows]
    rows = earlier.rows[is_other_H]
    cosines = (unit_rows(vectors(earlier.items[is_other_H])) * unit_rows(vectors(last_B))[rows]).sum(1)
    greatest_B, mean_B = (
        cosines.new_zeros(num_rows).scatter_reduce(0, rows, cosines, how, include_self=False)
        for how in ("amax", "mean")
    )
    share_B = segment_sum(is_old_P, batch.rows, num_rows) / batch.lengths
    features = [(counts_B > 0).float(), counts_B.log1p(), is_old_P[batch.last], share_B, greatest_B, mean_B]
    return torch.stack(features, dim=1)


def _steps_from_old_find(batch: SessionBatch, earlier: EarlierBatch) -> Tensor:
    """Row of `beside` of each earlier item: how far after the session's newest old find it stood; the last row where
    the session has none. Shape [H]."""
    ranks_P = batch.earlier_ranks
    event_P = torch.where(ranks_P >= 0, torch.arange(len(ranks_P), device=ranks_P.device), -1)
    newest_B = torch.full_like(batch.last, -1).scatter_reduce(0, batch.rows, event_P, "amax")
    newest_H = newest_B[earlier.rows]
    steps_H = (ranks_P[newest_H] - earlier.positions).clamp(-_REACH, _REACH) + _REACH
    return torch.where(newest_H >= 0, steps_H, 2 * _REACH + 1)
