"""A repeat-aware network after RepeatNet: decide whether the session returns to one of its items, then to which.

Dimension letters: B sessions, P events, M distinct (session, item) pairs, D embedding size, V catalogue + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.data.session_graph import build_prefix_tree
from mkmsr.layers.fast.tree_gru import TreeGRU
from mkmsr.layers.segments import segment_softmax, segment_sum
from mkmsr.models.base import ModelSizes, Scorer, mask_padding
from mkmsr.models.entry import ModelEntry
from mkmsr.models.item_network import ITEM_NETWORK_SPACE, ITEM_NETWORK_TRAINING, ItemNetwork, ItemNetworkConfig

_NEVER = -1e30
"""The score of an item that cannot be explored; not -inf, so that a session may hold the whole catalogue."""
_LEAST = 1e-30
"""A weight whose logarithm and slope can still be computed."""


class RepeatNet(ItemNetwork):
    """RepeatNet. Its scores are log probabilities.

        h_t = GRU(x_t, h_{t-1})        e_t = v' tanh(W h_L + U h_t)        a = softmax of e, for each of three purposes
        [p(repeat), p(explore)] = softmax(M sum_t a_t h_t)
        p(i | repeat) = sum over t with item i of a_t
        p(i | explore) = softmax over the items that the session lacks of  x_i . E [h_L ; sum_t a_t h_t]
        p(i) = p(repeat) p(i | repeat) + p(explore) p(i | explore)

    Source: Ren et al., RepeatNet: A Repeat Aware Neural Recommendation Machine for Session-based Recommendation, AAAI
    2019.

    Differs: explored items are scored by the vectors that enter the GRU.
    """

    def __init__(self, config: ItemNetworkConfig, sizes: ModelSizes):
        super().__init__(config, sizes)
        dim = config.dim
        self.gru = TreeGRU(dim, dim)
        self.deciding, self.repeating, self.exploring = (EventWeights(dim) for _ in range(3))
        self.modes = nn.Linear(dim, 2, bias=False)
        self.explore = nn.Linear(2 * dim, dim, bias=False)
        self.reset_parameters()

    @property
    def is_factorised(self) -> bool:
        return False

    def score(self, batch: SessionBatch) -> Tensor:
        h_PD = self.states(batch)
        decided_BD = self.deciding.mean(h_PD, batch)
        log_repeat_B, log_explore_B = self.modes(decided_BD).log_softmax(1).unbind(1)
        query_BD = torch.cat([h_PD[batch.last], self.exploring.mean(h_PD, batch)], dim=1)
        scores_BV = self.scaled(self.explore(self.drop_session(query_BD))) @ self.catalogue().T
        own = (batch.rows, batch.items)
        scores_BV = mask_padding(scores_BV).index_put(own, scores_BV.new_tensor(_NEVER))
        scores_BV = scores_BV.log_softmax(1) + log_explore_B[:, None]

        keys_M, pair = torch.unique(batch.rows * scores_BV.shape[1] + batch.items, return_inverse=True)
        repeat_M = segment_sum(self.repeating(h_PD, batch), pair, len(keys_M))
        rows_M, items_M = keys_M // scores_BV.shape[1], keys_M % scores_BV.shape[1]
        log_p_BV: Tensor = scores_BV.index_put(
            (rows_M, items_M), repeat_M.clamp(min=_LEAST).log() + log_repeat_B[rows_M]
        )
        return log_p_BV

    def scorer(self) -> Scorer:
        return self.score

    def states(self, batch: SessionBatch) -> Tensor:
        """h_t of each event. Shape [P, D]."""
        x_UD, row_of_event = self.distinct_items(batch)
        tree = build_prefix_tree(row_of_event, batch.offsets)
        states: Tensor = self.gru(x_UD, tree.value, tree.parent, tree.level_sizes)[tree.alias]
        return states


class EventWeights(nn.Module):
    """softmax over the events of each session of v' tanh(W h_L + U h_t)."""

    def __init__(self, dim: int):
        super().__init__()
        self.of_last = nn.Linear(dim, dim, bias=False)
        self.of_each = nn.Linear(dim, dim, bias=False)
        self.weight = nn.Parameter(torch.empty(dim))

    def forward(self, states: Tensor, batch: SessionBatch) -> Tensor:
        """The weight of each event; `states` [P, D]. Shape [P]."""
        hidden_PD = self.of_last(states[batch.last])[batch.rows] + self.of_each(states)
        return segment_softmax(hidden_PD.tanh() @ self.weight, batch.rows, len(batch))

    def mean(self, states: Tensor, batch: SessionBatch) -> Tensor:
        """The weighted mean of each session's states. Shape [B, D]."""
        return segment_sum(self(states, batch)[:, None] * states, batch.rows, len(batch))


ENTRY = ModelEntry(
    config=ItemNetworkConfig,
    model=RepeatNet,
    summary="a GRU that decides between returning to an item and a new one",
    source="Ren et al., AAAI 2019",
    training=ITEM_NETWORK_TRAINING,
    space=ITEM_NETWORK_SPACE,
)
