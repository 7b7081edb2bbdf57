"""What COMPASS reads off the training log and the triples: how many items come in at a time, and who has what."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mkmsr.data.sessions import SessionTable

__all__ = ["items_and_attributes", "newcomers"]


def newcomers(sessions: SessionTable) -> int:
    """Items that occur first in the newest tenth of the sessions, at least 1: how many new ones there are at a time."""
    ends = sessions.times[(sessions.offsets[1:] - 1).clip(min=0)]
    late = np.argsort(np.argsort(ends, kind="stable")) >= len(sessions) - len(sessions) // 10
    late = late[sessions.session_of_event]
    return max(len(np.setdiff1d(sessions.items[late], sessions.items[~late])), 1)


def items_and_attributes(triples: Tensor, num_items: int) -> Tensor:
    """The item and attribute (1..A) of each triple. Shape [T, 2]."""
    return torch.stack([triples[:, 0], triples[:, 2] - num_items], dim=1)
