"""RuleTable: for each item the items that follow from it, with weights; what `sr` and `item-knn` read off the log.

Dimension letters: M rules or votes, V catalogue + 1.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.layers.compressed_rows import check_compressed_rows, check_indexes
from mkmsr.models.neighbours.voting import Decay, Votes, expand, prefix_items

__all__ = ["RuleTable", "strongest", "summed_pairs"]


class RuleTable(nn.Module):
    """Rules item -> item in compressed rows. All state is buffers, filled by `build`.

    Args:
        num_columns: V.

    Buffers:
        offsets: Where each item's rules begin. Shape [V + 1].
        consequents: Item that the rule names. Shape [M].
        weights: Its weight. Shape [M].
    """

    offsets: Tensor
    consequents: Tensor
    weights: Tensor

    def __init__(self, num_columns: int):
        super().__init__()
        self.register_buffer("offsets", torch.zeros(num_columns + 1, dtype=torch.int64))
        self.register_buffer("consequents", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("weights", torch.zeros(0))

    def build(self, keys: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
        """Put these rules in place of what was there; `keys` are `antecedent * V + consequent`, distinct and rising."""
        num_columns = len(self.offsets) - 1
        antecedents, consequents = np.divmod(keys, num_columns)
        offsets = np.searchsorted(antecedents, np.arange(num_columns + 1))
        device = self.offsets.device
        self.offsets = torch.from_numpy(offsets.astype(np.int64)).to(device)
        self.consequents = torch.from_numpy(consequents).to(device)
        self.weights = torch.from_numpy(weights.astype(np.float32)).to(device)

    def check_buffers(self) -> None:
        """Make sure that buffers from a file fit each other.

        Raises:
            DataError: They do not.
        """
        check_compressed_rows("rules", self.offsets, self.consequents, self.weights)
        check_indexes("items that rules name", self.consequents, 0, len(self.offsets) - 1)

    def votes(self, batch: SessionBatch, decay: Decay) -> Votes:
        """`decay(steps)` times the weight, for every rule of every distinct prefix item; pairs may recur.

        A decay that is 0 from some step on leaves the items beyond it out.
        """
        prefix = prefix_items(batch, len(self.offsets) - 1)
        by_step = decay(prefix.steps, batch.lengths[prefix.rows])
        begin, end = self.offsets[prefix.items], self.offsets[prefix.items + 1]
        source, rule = expand(begin, torch.where(by_step > 0, end, begin))
        return Votes(prefix.rows[source], self.consequents[rule], by_step[source] * self.weights[rule])


def strongest(
    keys: NDArray[np.int64], weights: NDArray[np.float64], num_columns: int, most: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The `most` heaviest rules of each antecedent, the lower item first among equals; keys rise before and after."""
    antecedents = keys // num_columns
    counts = np.bincount(antecedents, minlength=num_columns)
    long = np.flatnonzero(counts[antecedents] > most)  # sorting only what must be cut is most of the speed
    order = long[np.lexsort((-weights[long], antecedents[long]))]
    counts = np.where(counts > most, counts, 0)
    place = np.arange(len(order)) - (counts.cumsum() - counts)[antecedents[order]]
    kept = np.ones(len(keys), dtype=np.bool_)
    kept[order[place >= most]] = False
    return keys[kept], weights[kept]


def summed_pairs(
    keys: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Distinct keys, rising, and the sum of the weights of each."""
    order = np.argsort(keys, kind="stable")
    keys, weights = keys[order], weights[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[first], np.add.reduceat(weights, first) if len(first) else weights
