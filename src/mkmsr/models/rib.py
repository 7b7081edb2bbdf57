"""RIB: a GRU over micro-behaviours whose vectors come from Word2Vec, and attention over its states.

Dimension letters: B sessions, P events, Q distinct prefixes, U distinct pairs, D embedding size.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.data.session_graph import build_prefix_tree
from mkmsr.data.sessions import SessionTable
from mkmsr.errors import ConfigError
from mkmsr.layers.fast.shared_table import table_rows
from mkmsr.layers.fast.tree_gru import TreeGRU
from mkmsr.layers.segments import segment_softmax, segment_sum
from mkmsr.models.base import ModelSizes, SessionModel, TrainingData
from mkmsr.models.entry import Choice, ModelEntry
from mkmsr.models.item_network import ITEM_NETWORK_SPACE, ITEM_NETWORK_TRAINING, ItemNetwork, ItemNetworkConfig


class RIBConfig(ItemNetworkConfig):
    """Settings of RIB."""

    tied: bool = False
    """Whether the score uses the item vectors that enter the GRU, or a table of its own as in the paper."""
    word2vec: bool = True
    """Whether vectors start from Word2Vec on the training sessions; training goes on with them."""
    window: Annotated[int, Field(ge=1, le=100)] = 5
    """Events to either side that Word2Vec counts as context."""
    word2vec_epochs: Annotated[int, Field(ge=1, le=1000)] = 10
    """Passes of Word2Vec over the training sessions."""


class RIB(ItemNetwork):
    """RIB.

        e_t = [item_t ; operation_t]        h_t = GRU(e_t, h_{t-1})
        alpha = softmax_t(w' tanh(W_m h_t + b_m))
        s = sum_t alpha_t h_t        score(j) = s . y_j

    Source: Zhou et al., Micro Behaviors: A New Perspective in E-commerce Recommender Systems, WSDM 2018; items and
    operations as in the experiments of MKM-SR.

    Differs: no dwell time, which the logs of MKM-SR lack; Word2Vec (skip-gram with negative samples) is learnt for the
    item sequences and the operation sequences separately; no output bias.
    """

    def __init__(self, config: RIBConfig, sizes: ModelSizes):
        super().__init__(config, sizes)
        self.config = config
        self._goes_on = False
        dim = config.dim
        self.operations = nn.Embedding(sizes.num_operations + 1, dim, padding_idx=0)
        self.gru = TreeGRU(2 * dim, dim)
        self.attention_hidden = nn.Linear(dim, dim)
        self.attention = nn.Parameter(torch.empty(dim))
        if not config.tied:
            self.outputs = nn.Embedding(sizes.num_items + 1, dim, padding_idx=0)
        self.reset_parameters()

    def observe(self, training: TrainingData) -> None:
        """Learn Word2Vec vectors of the training sessions; the vectors of what does not occur there stay as drawn.

        A model that goes on from an earlier one keeps those that it took over, and new ids theirs as drawn: other
        Word2Vec vectors would lie elsewhere than the layers above have learnt. Without gensim, ConfigError is raised.
        """
        if not self.config.word2vec or self._goes_on:
            return
        seed = torch.initial_seed() % 2**31  # the run's own seed
        sessions = training.sessions
        for table, values in ((self.items, sessions.items), (self.operations, sessions.operations)):
            indexes, vectors = self._word2vec(values, sessions, seed)
            with torch.no_grad():
                table.weight[indexes] = vectors.to(table.weight)

    def take_over(self, earlier: SessionModel, items: Tensor) -> None:
        self._goes_on = True

    def session_vectors(self, batch: SessionBatch) -> Tensor:
        pair, row_of_event = torch.unique(
            batch.items * (self.sizes.num_operations + 1) + batch.operations, return_inverse=True
        )
        items_UD = self.drop_items(table_rows(self.items, pair // (self.sizes.num_operations + 1)))
        operations_UD = self.operations(pair % (self.sizes.num_operations + 1))
        tree = build_prefix_tree(row_of_event, batch.offsets)
        e_U2D = torch.cat([items_UD, operations_UD], dim=1)
        h_QD = self.gru(e_U2D, tree.value, tree.parent, tree.level_sizes)
        logits_Q = torch.tanh(self.attention_hidden(h_QD)) @ self.attention
        alpha_P = segment_softmax(logits_Q[tree.alias], batch.rows, len(batch))
        return self.drop_session(segment_sum(alpha_P[:, None] * h_QD[tree.alias], batch.rows, len(batch)))

    def output_table(self) -> Tensor:
        return self.items.weight if self.config.tied else self.outputs.weight

    def _word2vec(self, values: np.ndarray[Any, Any], sessions: SessionTable, seed: int) -> tuple[Tensor, Tensor]:
        """Indexes that occur, and their vectors. One worker: with more, the result would depend on their timing."""
        try:
            from gensim.models import Word2Vec
        except ImportError:
            raise ConfigError(
                "Word2Vec needs gensim: pip install 'mkmsr[word2vec]', or set model.word2vec=false",
                key="model.word2vec",
            ) from None
        sentences = [part.tolist() for part in np.split(values, sessions.offsets[1:-1])]
        learnt = Word2Vec(
            sentences,
            vector_size=self.config.dim,
            window=self.config.window,
            epochs=self.config.word2vec_epochs,
            min_count=1,
            sg=1,
            seed=seed,
            workers=1,
        ).wv
        return torch.tensor(learnt.index_to_key), torch.from_numpy(learnt.vectors)


ENTRY = ModelEntry(
    config=RIBConfig,
    model=RIB,
    summary="Word2Vec of items and operations, a GRU, attention",
    source="Zhou et al., WSDM 2018",
    training=ITEM_NETWORK_TRAINING,
    space={**ITEM_NETWORK_SPACE, "model.tied": Choice((False, True)), "model.window": Choice((3, 5, 10))},
)
