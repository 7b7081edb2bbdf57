"""STAMP: no recurrence; attention over the session's items, and the newest item beside it.

Dimension letters: B sessions, P events, U distinct items, D embedding size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.layers.segments import segment_mean, segment_sum
from mkmsr.models.base import ModelSizes
from mkmsr.models.entry import ModelEntry
from mkmsr.models.item_network import ITEM_NETWORK_SPACE, ITEM_NETWORK_TRAINING, ItemNetwork, ItemNetworkConfig


class STAMP(ItemNetwork):
    """STAMP, the short-term attention and memory priority model.

        m_s = mean_i x_i        m_t = x_L
        a_i = w0' sigmoid(W1 x_i + W2 m_t + W3 m_s + b)
        m_a = sum_i a_i x_i
        h_s = tanh(W_s m_a + b_s)        h_t = tanh(W_t m_t + b_t)
        score(j) = sum_d h_s[d] h_t[d] x_j[d]

    a is not normalised. The trilinear product is an inner product of h_s * h_t with the item's vector.

    Source: Liu et al., STAMP: Short-Term Attention/Memory Priority Model for Session-based Recommendation, KDD 2018.

    Differs: no sigmoid around the trilinear product; under the softmax it would keep every score between 0 and 1, too
    close together for a catalogue of thousands. Weights start like those of the other networks, not from N(0, 0.05)
    (layers) and N(0, 0.002) (items): a product of three such small numbers hardly moves.
    """

    def __init__(self, config: ItemNetworkConfig, sizes: ModelSizes):
        super().__init__(config, sizes)
        dim = config.dim
        self.of_each = nn.Linear(dim, dim, bias=False)
        self.of_last = nn.Linear(dim, dim)
        self.of_mean = nn.Linear(dim, dim, bias=False)
        self.attention = nn.Parameter(torch.empty(dim))
        self.general = nn.Linear(dim, dim)
        self.current = nn.Linear(dim, dim)
        self.reset_parameters()

    def session_vectors(self, batch: SessionBatch) -> Tensor:
        x_UD, row_of_event = self.distinct_items(batch)
        x_PD, last_BD = x_UD[row_of_event], x_UD[row_of_event[batch.last]]
        mean_BD = segment_mean(x_PD, batch.rows, batch.lengths)
        of_session_BD = self.of_last(last_BD) + self.of_mean(mean_BD)
        hidden_PD = self.of_each(x_UD)[row_of_event] + of_session_BD[batch.rows]
        a_P = torch.sigmoid(hidden_PD) @ self.attention
        memory_BD = segment_sum(a_P[:, None] * x_PD, batch.rows, len(batch))
        general_BD, current_BD = torch.tanh(self.general(memory_BD)), torch.tanh(self.current(last_BD))
        return self.drop_session(general_BD * current_BD)


ENTRY = ModelEntry(
    config=ItemNetworkConfig,
    model=STAMP,
    summary="attention that favours the newest item",
    source="Liu et al., KDD 2018",
    training=ITEM_NETWORK_TRAINING,
    space=ITEM_NETWORK_SPACE,
)
