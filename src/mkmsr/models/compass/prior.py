"""What COMPASS's explore score of an item begins with: popularity, or the prior of new items.

Dimension letters: V catalogue + 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mkmsr.data.sessions import SessionTable
from mkmsr.errors import DataError
from mkmsr.models.compass.config import ExploreConfig

__all__ = ["Prior"]

_LAST = -1e4
"""Prior of an item that cannot come, and of one that was added without any known attribute: probability 0."""


class Prior(nn.Module):
    """The prior of each item.

    Args:
        config: The weight of popularity, and the prior of new items.
        num_columns: V.

    Buffers:
        popularity: Of items with training events, weighted. Shape [V].
        new_at_a_time: New items that came in lately, see `observe`.
        of_new_items: The prior of a new item; 0 where none is expected.
    """

    popularity: Tensor
    new_at_a_time: Tensor
    of_new_items: Tensor

    def __init__(self, config: ExploreConfig, num_columns: int):
        super().__init__()
        self.config = config
        self.num_columns = num_columns
        self.register_buffer("popularity", torch.zeros(num_columns))
        self.register_buffer("new_at_a_time", torch.ones(()))
        self.register_buffer("of_new_items", torch.zeros(()))

    def observe(self, sessions: SessionTable, counts: Tensor, *, expects_new_items: bool) -> None:
        """Take in the training sessions, the events of each item there [V], and whether new items may come.

        New at a time are the items that occur first in the newest tenth of the sessions, at least one.
        """
        self.popularity = (self.config.popularity * counts.log1p()).to(self.popularity)
        ends = sessions.times[(sessions.offsets[1:] - 1).clip(min=0)]
        late = np.argsort(np.argsort(ends, kind="stable")) >= len(sessions) - len(sessions) // 10
        late = late[sessions.session_of_event]
        new = max(len(np.setdiff1d(sessions.items[late], sessions.items[~late])), 1)
        self.new_at_a_time = torch.tensor(float(new)).to(self.new_at_a_time)
        self._expect_new_items(expects_new_items)

    def check_buffers(self) -> None:
        """Make sure that buffers from a file have the right shapes.

        Raises:
            DataError: One has not.
        """
        for name, shape in (("popularity", (self.num_columns,)), ("new_at_a_time", ()), ("of_new_items", ())):
            found = getattr(self, name).shape
            if found != shape:
                raise DataError(f"{name} is of another shape: expected {list(shape)}, found {list(found)}")

    def append_items(self, described: Tensor) -> None:
        """Take in items behind the catalogue; `described` says which have an attribute, bool, one an item."""
        self._expect_new_items(True)
        self.num_columns += len(described)
        self.popularity = torch.cat([self.popularity, torch.where(described, 0.0, _LAST).to(self.popularity)])

    def forward(self, seen_V: Tensor, num_attributes_V: Tensor) -> Tensor:
        """Return the prior of each item; `seen_V` is 1 for items that training saw, else 0. Shape [V].

        In training new items take no part, because none can be the target: the softmax would learn that they never
        are. Afterwards each has `of_new_items`, less where there are more of them than lately came in: they share what
        new items get. Items that nothing is known about get nothing, and nor does any item where the data leave new
        ones out, until some are added.
        """
        new_V = seen_V == 0
        if self.training:
            return self.popularity.masked_fill(new_V, _LAST)
        described_V = new_V & (num_attributes_V > 0)
        crowd = (described_V.sum() / self.new_at_a_time).clamp(min=1).log()
        return self.popularity + described_V * (self.of_new_items - crowd)

    def _expect_new_items(self, expected: bool) -> None:
        self.of_new_items = torch.full_like(self.of_new_items, self.config.novelty if expected else 0.0)
