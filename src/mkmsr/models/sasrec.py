"""SASRec: a causal transformer over the items of a session.

Dimension letters: B sessions, S sequences, P events, L longest sequence, H heads, D embedding size.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Annotated, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.data.batching import SessionBatch
from mkmsr.data.session_graph import PrefixTree, build_prefix_tree
from mkmsr.layers.fast.shared_table import table_rows
from mkmsr.models.base import ModelSizes
from mkmsr.models.entry import Choice, ModelEntry, one_cycle
from mkmsr.models.item_network import ITEM_NETWORK_SPACE, ItemNetwork, ItemNetworkConfig


class SASRecConfig(ItemNetworkConfig):
    """Settings of SASRec."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share dropped from the input, attention weights and results of each block, in training.
    Chosen on the validation split of Demo."""
    session_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of components dropped from session vectors, in training. Chosen likewise."""
    blocks: Annotated[int, Field(ge=1, le=16)] = 2
    """Transformer blocks. Source: the paper."""
    heads: Annotated[int, Field(ge=1, le=64)] = 1
    """Attention heads. Source: the paper."""
    max_events: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Places that have a vector of their own; later events share the last one."""

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads; {self.dim} is not one of {self.heads}")
        return self


class Places(NamedTuple):
    """The sequence of each event and its place there, 0 for the oldest, [P] each; their shape is (S, L)."""

    row: Tensor
    position: Tensor
    shape: tuple[int, int]


class CausalBlock(nn.Module):
    """Self-attention to the same and earlier events, then two dense layers; each on normalised input, added to it.

        x = x + W_o attention(LN(x))        x = x + W_2 gelu(W_1 LN(x))

    All maps run over the events alone, [P, D] -> [P, D]. Only queries, keys and values are laid out as a rectangle
    [S, H, L, D / H], padded at the end, where causality hides the padding from every event. Dropout falls on attention
    weights and on both results before they are added.

    Source: Vaswani et al., Attention Is All You Need, 2017; normalised input as in Xiong et al., On Layer Normalization
    in the Transformer Architecture, ICML 2020.
    """

    def __init__(self, dim: int, *, heads: int, dropout: float = 0.0):
        super().__init__()
        hidden = 4 * dim
        self.heads, self.dropout = heads, dropout
        self.attention_norm = nn.LayerNorm(dim)
        self.to_query_key_value = nn.Linear(dim, 3 * dim)
        self.from_heads = nn.Linear(dim, dim)
        self.dense_norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, hidden)
        self.narrow = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, places: Places) -> Tensor:
        """The events' vectors after the block. Shape [P, D]."""
        x = x + self._drop(self.from_heads(self._attend(self.attention_norm(x), places)))
        return x + self._drop(self.narrow(F.gelu(self.widen(self.dense_norm(x)))))

    def _attend(self, x_PD: Tensor, places: Places) -> Tensor:
        row, position, shape = places
        packed = self.to_query_key_value(x_PD)
        padded = packed.new_zeros(*shape, packed.shape[1]).index_put((row, position), packed)
        query, key, value = padded.view(*shape, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            query, key, value, is_causal=True, dropout_p=self.dropout if self.training else 0.0
        )
        return mixed.transpose(1, 2).flatten(2)[row, position]

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class SASRec(ItemNetwork):
    """SASRec, trained on the whole catalogue.

        x_t = item_t + place_t        h = LN(blocks(x))        score(j) = h_L . item_j

    Prefixes of one session share its states: the blocks run over the longest sequences of a batch alone, and each
    prefix reads the state at its own newest event. With `training.shuffle = "sessions"` that is the paper's training,
    every position of a sequence at once.

    Source: Kang and McAuley, Self-Attentive Sequential Recommendation, ICDM 2018; full cross-entropy as in Klenitskiy
    and Vasilev, Turning Dross Into Gold Loss, RecSys 2023.

    Differs: softmax over the whole catalogue instead of one sampled negative; blocks normalise their input and use GELU
    and a dense layer of 4 D; places count from the oldest event, so that prefixes can share states.
    """

    block: type[CausalBlock] = CausalBlock
    """What the blocks are."""

    def __init__(self, config: SASRecConfig, sizes: ModelSizes):
        super().__init__(config, sizes)
        self.config = config
        dim = config.dim
        self.places = nn.Embedding(config.max_events, dim)
        blocks = (self.block(dim, heads=config.heads, dropout=config.dropout) for _ in range(config.blocks))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every weight from U(-1/sqrt(D), 1/sqrt(D)), biases and normalisation aside; padding rows are zero."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    def states(self, batch: SessionBatch) -> tuple[Tensor, Tensor]:
        """The vectors after the blocks [P', D], and for each event of the batch the one with its history [P]."""
        _, value = torch.unique(batch.items, return_inverse=True)
        events, shared = longest_sequences(build_prefix_tree(value, batch.offsets), batch)
        position = batch.positions[events]
        _, row = torch.unique_consecutive(batch.rows[events], return_inverse=True)  # Rows of other prefixes are empty.
        places = Places(row, position, (int(row[-1]) + 1, int(position.max()) + 1))
        place_vectors = self.places(position.clamp(max=self.config.max_events - 1))
        x_PD = self.drop_items(table_rows(self.items, batch.items[events]) + place_vectors)
        for block in self.blocks:
            x_PD = block(x_PD, places)
        return x_PD, shared

    def session_vectors(self, batch: SessionBatch) -> Tensor:
        x_PD, shared = self.states(batch)
        return self.drop_session(self.norm(x_PD[shared[batch.last]]))


def longest_sequences(tree: PrefixTree, batch: SessionBatch) -> tuple[Tensor, Tensor]:
    """The events that stand for all prefixes of a batch: those of one copy of each prefix that no other one continues.

    Returns:
        The events, in order, [P'], and for each event of the batch the index among them of one with its history, [P].
    """
    node_of_prefix = tree.alias[batch.last]
    level_starts = [0, *accumulate(tree.level_sizes)]
    continued = torch.zeros(len(tree.value), dtype=torch.bool, device=tree.value.device)
    for level in range(1, len(tree.level_sizes)):
        parents = tree.parent[level_starts[level] : level_starts[level + 1]]
        continued[parents + level_starts[level - 1]] = True
    first_prefix = torch.full_like(tree.value, len(batch)).scatter_reduce(
        0, node_of_prefix, torch.arange(len(batch), device=tree.value.device), "amin"
    )
    kept_prefix = torch.zeros(len(batch) + 1, dtype=torch.bool, device=tree.value.device)
    kept_prefix[first_prefix[~continued]] = True
    events = kept_prefix[batch.rows].nonzero()[:, 0]
    event_of_node = torch.full_like(tree.value, len(events)).scatter_reduce(
        0, tree.alias[events], torch.arange(len(events), device=events.device), "amin"
    )
    return events, event_of_node[tree.alias]


ENTRY = ModelEntry(
    config=SASRecConfig,
    model=SASRec,
    summary="a causal transformer over items, full cross-entropy",
    source="Kang and McAuley, ICDM 2018",
    training={"shuffle": "sessions", **one_cycle(10, 0.003)},
    space={**ITEM_NETWORK_SPACE, "model.blocks": Choice((1, 2, 3)), "model.heads": Choice((1, 2, 4))},
)
