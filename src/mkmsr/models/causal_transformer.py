"""A causal transformer block over a ragged batch of sequences.

Dimension letters: S sequences, P events, L longest sequence, H heads, D embedding size.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CausalBlock", "Places"]


class Places(NamedTuple):
    """Where each event stands.

    Args:
        row: Sequence of each event. Shape [P].
        position: Its place there, 0 for the oldest. Shape [P].
        shape: S and L.
    """

    row: Tensor
    position: Tensor
    shape: tuple[int, int]


class CausalBlock(nn.Module):
    """Self-attention to the same and earlier events, then two dense layers; each on normalised input, added to it.

        x = x + W_o attention(LN(x))        x = x + W_2 gelu(W_1 LN(x))

    All maps run over the events alone. Only queries, keys and values are laid out as a rectangle [S, H, L, D / H],
    padded at the end, where causality hides the padding from every event.

    Args:
        dim: D, a multiple of `heads`.
        heads: H.
        hidden: Units of the dense layer.
        dropout: Share dropped from attention weights and from both results before they are added.

    Shapes:
        x [P, D] -> [P, D].

    Source: Vaswani et al., Attention Is All You Need, 2017; normalised input as in Xiong et al., On Layer Normalization
    in the Transformer Architecture, ICML 2020.
    """

    def __init__(self, dim: int, *, heads: int, hidden: int, dropout: float = 0.0):
        super().__init__()
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
