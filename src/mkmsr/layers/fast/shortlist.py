"""Scores of the items that an index proposes, where the product with a whole catalogue takes too long.

The index holds each vector in codes of 4 bits for two components (product quantisation), a sixteenth of its size, and
looks at all of them: unlike graphs and cells of vectors it does not need vectors that form clusters. What it ranks
highest is then scored exactly.
Dimension letters: B queries, D size of a vector, V catalogue + 1, C columns, M proposals of a query.
"""

from __future__ import annotations

import math
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

_TRAINED_ON = 16_384
"""Vectors that codes are made from."""
_CHECKED, _CLOSE = 1000, 0.1
"""Vectors that tell whether codes are out of date, and how far a component may have moved: less than a code tells."""
_LEAST = -5.0
"""Components below it count as it: one far from all others, such as the prior of an item that cannot come, would make
the codes of all too coarse. Such an item may be proposed; it is then scored as it is."""
_SAMPLE = 4096
"""Items that stand for those not proposed."""


def has_index() -> bool:
    """Whether faiss is installed, which makes the codes."""
    return find_spec("faiss") is not None


class ItemCodes:
    """Codes of the items of a catalogue.

    Args:
        vectors: Shape [V, D]; row 0 is no item.
    """

    def __init__(self, vectors: Tensor):
        import faiss

        self.num_rows = len(vectors)
        faiss.omp_set_num_threads(1)
        width = vectors.shape[1] + vectors.shape[1] % 2
        self._index = faiss.IndexPQFastScan(width, width // 2, 4, faiss.METRIC_INNER_PRODUCT)
        chosen = torch.randperm(self.num_rows - 1, generator=torch.Generator().manual_seed(0))[:_TRAINED_ON] + 1
        self._checked, self._as_coded = chosen[:_CHECKED], vectors[chosen[:_CHECKED]].clone()
        self._index.train(self._padded(vectors[chosen].clamp(min=_LEAST)))
        for part in torch.split(vectors[1:], _TRAINED_ON):
            self._index.add(self._padded(part.clamp(min=_LEAST)))

    def are_of(self, vectors: Tensor) -> bool:
        """Whether they still describe these vectors, of which there may be more by now."""
        return bool((vectors[self._checked] - self._as_coded).abs().max() < _CLOSE)

    def propose(self, queries: Tensor, most: int) -> Tensor:
        """Return the items with the highest inner products, as far as codes can tell. [B, D] -> [B, M]."""
        import faiss

        faiss.omp_set_num_threads(1)  # OpenMP counts for each thread that calls.
        _, places_BM = self._index.search(self._padded(queries), min(most, self.num_rows - 1))
        return torch.from_numpy(places_BM) + 1

    def _padded(self, vectors: Tensor) -> np.typing.NDArray[np.float32]:
        """The same with an even number of components."""
        return torch.nn.functional.pad(vectors, (0, self._index.d - vectors.shape[1])).numpy()


class Shortlist:
    """Inner products with the items that codes propose, and with some others.

    Args:
        codes: Made of these vectors, apart from rows behind, which are items that came later: they are on every list.
        vectors: Shape [V, D].
        proposals: M.
    """

    def __init__(self, codes: ItemCodes, vectors: Tensor, proposals: int):
        self._codes, self._vectors, self._proposals = codes, vectors, proposals
        generator = torch.Generator().manual_seed(1)
        self._sample = torch.randint(1, codes.num_rows, (_SAMPLE,), generator=generator)
        self._of_sample = vectors[self._sample].T.contiguous()

    def items(self, queries: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Return items to score for all queries, and what codes propose for each.

        Args:
            queries: Shape [B, D].
            others: Further items.

        Returns:
            The items, each once, rising, the first of them 0; [C]. And the proposals, [B, M].
        """
        proposed_BM = self._codes.propose(queries, self._proposals)
        later = torch.arange(self._codes.num_rows, len(self._vectors))
        return torch.unique(torch.cat([later.new_zeros(1), proposed_BM.flatten(), others, later])), proposed_BM

    def products(self, queries: Tensor, items: Tensor) -> Tensor:
        """Return inner products. [B, D], [C] -> [B, C]."""
        return queries @ self._vectors.index_select(0, items).T

    def log_rest(self, queries: Tensor, items: Tensor) -> Tensor:
        """Return the logarithm of an estimate of the sum of e^product over all items but these [C]. Shape [B]."""
        place = torch.searchsorted(items, self._sample).clamp(max=len(items) - 1)
        products_BN = (queries @ self._of_sample).masked_fill(items[place] == self._sample, -torch.inf)
        return products_BN.logsumexp(1) + math.log((self._codes.num_rows - 1) / _SAMPLE)
