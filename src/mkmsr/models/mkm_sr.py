"""MKM-SR and its ablations: micro-behaviours by a graph network and a GRU, item knowledge by TransH beside them.

Dimension letters: B sessions, P events, U distinct items of the batch, N graph nodes, D embedding size, V catalogue +
1, O operations + 1, T triples, R relations, A attributes.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.config import StrictModel
from mkmsr.data.batching import SessionBatch, TripleBatch
from mkmsr.data.session_graph import SessionGraph, build_prefix_tree, build_session_graph
from mkmsr.layers.attention import Part, SoftAttention
from mkmsr.layers.fast.compiled import has_numba
from mkmsr.layers.fast.pair_scorer import PairScorer
from mkmsr.layers.fast.shared_table import rows_and_table, table_rows
from mkmsr.layers.fast.tree_gru import TreeGRU
from mkmsr.layers.ggnn import GGNN, Aggregation, Gate
from mkmsr.models.base import ModelSizes, Scorer, mask_padding, product_scorer
from mkmsr.models.entry import Choice, ModelEntry, Range, one_cycle
from mkmsr.models.item_network import ItemNetwork, ItemNetworkConfig


class MKMSRConfig(StrictModel):
    """Settings of MKM-SR; the five ablations differ in the four encoder fields alone."""

    item_encoder: Literal["ggnn", "none"] = "ggnn"
    """How items are encoded over the session's item graph."""
    operation_encoder: Literal["gru", "ggnn", "none"] = "gru"
    """How operations are encoded; "none" drops them."""
    pair_encoder: Literal["gru", "ggnn", "none"] = "none"
    """Encode (item, operation) pairs as units of their own instead; needs both encoders above to be "none"."""
    knowledge: bool = True
    """Whether TransH shares the item table (the multi-task model)."""
    dim: Annotated[int, Field(ge=1, le=4096)] = 100
    """d, the size of every vector. Source: the authors' code."""
    steps: Annotated[int, Field(ge=0, le=16)] = 1
    """H, steps of the graph network. Source: the authors' code."""
    aggregation: Aggregation = "concat"
    """"sum" as in the talk, "concat" as in the authors' code."""
    gate: Gate = "gru"
    """"slides" as in the talk, "gru" as in the authors' code."""
    scorer: Literal["cosine", "dot", "mlp"] = "cosine"
    """"mlp" as in the talk, "dot" as in the authors' code, "cosine" ours: normalised, with a learnt temperature."""
    scale: Annotated[float, Field(gt=0, le=1000)] = 16.0
    """Where the cosine's learnt scale (1 / temperature) starts."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of components dropped from item vectors that enter the encoder and from session vectors, in training."""
    readout_start: Literal["uniform", "last-item"] = "last-item"
    """Where W3 starts: drawn like the rest, as in the authors' code, or near "the session is its newest item"."""

    @model_validator(mode="after")
    def _encoders_fit(self) -> Self:
        if (self.item_encoder == "none") == (self.pair_encoder == "none"):
            raise ValueError("exactly one of item_encoder and pair_encoder must be chosen, the other is 'none'")
        if self.pair_encoder != "none" and self.operation_encoder != "none":
            raise ValueError("pair_encoder encodes the operations too: operation_encoder must be 'none' beside it")
        return self


class MKMSR(ItemNetwork):
    """MKM-SR.

    Source: Meng, Yang, Xiao: Incorporating User Micro-behaviors and Item Knowledge into Multi-task Learning for
    Session-based Recommendation, SIGIR 2020.

    Differs: default scorer "cosine" instead of a perceptron over s (+) i_j, because most items of a sparse log occur
    once or twice and an inner product confuses rarity with dislike (docs/model.md has the numbers); the readout starts
    near "the session is its newest item", so that items which follow each other attract each other from the first step;
    operations have a table of their own, which in the authors' code they share with the knowledge graph's relations.
    """

    def __init__(self, config: MKMSRConfig, sizes: ModelSizes):
        network = ItemNetworkConfig(
            dim=config.dim,
            scorer="cosine" if config.scorer == "cosine" else "dot",
            scale=config.scale,
            dropout=config.dropout,
            session_dropout=config.dropout,
            bias_start="uniform",
        )
        super().__init__(network, sizes)
        self.config = config
        dim = config.dim
        part_dims = []
        if config.item_encoder == "ggnn":
            self.item_ggnn = _ggnn(config)
            part_dims.append(dim)
        if config.operation_encoder != "none":
            self.operations = nn.Embedding(sizes.num_operations + 1, dim, padding_idx=0)
            part_dims.append(dim)
        if config.operation_encoder == "gru":
            self.operation_gru = TreeGRU(dim, dim)
        elif config.operation_encoder == "ggnn":
            self.operation_ggnn = _ggnn(config)
        if config.pair_encoder != "none":
            self.pairs = nn.Embedding((sizes.num_items + 1) * (sizes.num_operations + 1), dim)
            part_dims.append(dim)
        if config.pair_encoder == "gru":
            self.pair_gru = TreeGRU(dim, dim)
        elif config.pair_encoder == "ggnn":
            self.pair_ggnn = _ggnn(config)
        self.readout = SoftAttention(part_dims, dim)
        if config.scorer == "mlp":
            self.pair_scorer = PairScorer(dim, dim)
        if self.has_knowledge_task:
            self.transh = TransH(sizes.num_relations, sizes.num_attributes, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every weight from U(-1/sqrt(D), 1/sqrt(D)), as in the authors' code; padding rows are zero."""
        super().reset_parameters()
        if self.config.readout_start == "last-item" and self.config.item_encoder != "none":
            self.readout.start_at_last_event()
        if self.config.pair_encoder != "none":
            pairs_VOD = self.pairs.weight.view(self.sizes.num_items + 1, self.sizes.num_operations + 1, -1)
            nn.init.zeros_(pairs_VOD[0])
            nn.init.zeros_(pairs_VOD[:, 0])

    @property
    def is_factorised(self) -> bool:
        return self.config.scorer != "mlp"

    @property
    def has_knowledge_task(self) -> bool:
        return self.config.knowledge and self.sizes.num_relations > 0

    def micro_behaviours(self, batch: SessionBatch, entering: Tensor | None = None) -> list[Part]:
        """The parts of m_t for every event: items, operations, or pairs of both.

        `entering` are the vectors of the batch's distinct items [U, D], where they have been taken from the table.
        """
        parts = []
        if self.config.item_encoder == "ggnn":
            graph = batch.graph
            if entering is None:
                entering = table_rows(self.items, graph.distinct)
            parts.append(Part(_run(self.item_ggnn, self.drop_items(entering), graph), graph.alias))
        if self.config.operation_encoder == "gru":
            tree = batch.operation_tree
            states = self.operation_gru(self.operations.weight, tree.value, tree.parent, tree.level_sizes)
            parts.append(Part(states, tree.alias))
        elif self.config.operation_encoder == "ggnn":
            graph = build_session_graph(batch.operations, batch.rows)
            parts.append(Part(_run(self.operation_ggnn, self.operations(graph.distinct), graph), graph.alias))
        if self.config.pair_encoder != "none":
            parts.append(self._pairs(batch))
        return parts

    def session_vectors(self, batch: SessionBatch, entering: Tensor | None = None) -> Tensor:
        """s of each prefix; `entering` as in `micro_behaviours`. Shape [B, D]."""
        return self.drop_session(self.readout(self.micro_behaviours(batch, entering), batch.rows, batch.last))

    def both_sides(self, batch: SessionBatch) -> tuple[Tensor, Tensor]:
        if self.config.item_encoder == "none":
            return super().both_sides(batch)
        entering_UD, table_VD = rows_and_table(self.items.weight, batch.graph.distinct)
        return self.scaled(self.session_vectors(batch, entering_UD)), self.matched(table_VD)

    def score(self, batch: SessionBatch) -> Tensor:
        if self.config.scorer == "mlp":
            return mask_padding(self.pair_scorer(self.session_vectors(batch), self.items.weight))
        return super().score(batch)

    def scorer(self) -> Scorer:
        return self.score if self.config.scorer == "mlp" else super().scorer()

    def compiled_scorer(self) -> Scorer:
        config = self.config
        has_loops = config.item_encoder == "ggnn" and config.aggregation == "concat" and config.gate == "gru"
        if not has_numba() or not has_loops or config.operation_encoder == "ggnn" or not self.is_factorised:
            return self.scorer()
        from mkmsr.layers.fast.compiled_encoder import CompiledEncoder

        operations = (self.operations.weight, self.operation_gru) if config.operation_encoder == "gru" else None
        encode = CompiledEncoder(self.item_ggnn, self.readout, operations)

        def queries(batch: SessionBatch) -> Tensor:
            return self.scaled(encode(self.items.weight, batch.items, batch.operations, batch.offsets))

        return product_scorer(queries, self.catalogue())

    def triple_distances(self, triples: TripleBatch) -> Tensor:
        distances: Tensor = self.transh(table_rows(self.items, triples.items), triples.relations, triples.attributes)
        return distances

    def _pairs(self, batch: SessionBatch) -> Part:
        values = batch.items * (self.sizes.num_operations + 1) + batch.operations
        if self.config.pair_encoder == "ggnn":
            graph = build_session_graph(values, batch.rows)
            return Part(_run(self.pair_ggnn, self.drop_items(self.pairs(graph.distinct)), graph), graph.alias)
        distinct, value = torch.unique(values, return_inverse=True)
        tree = build_prefix_tree(value, batch.offsets)
        states = self.pair_gru(self.drop_items(self.pairs(distinct)), tree.value, tree.parent, tree.level_sizes)
        return Part(states, tree.alias)


def transh_distance(head: Tensor, normal: Tensor, translation: Tensor, tail: Tensor) -> Tensor:
    """Squared TransH distances, || (h - w'h w) + d - (t - w't w) ||^2; 0 is a perfect fit. Shape [T].

    Items h, hyperplanes' normals w, which are normalised here, translations d and attributes t are [T, D].

    Source: Wang et al., AAAI 2014; squared norm as in the MKM-SR talk, "Learning Knowledge Embeddings".
    """
    normal = F.normalize(normal, dim=-1)
    difference = head - tail
    projected = difference - (difference * normal).sum(-1, keepdim=True) * normal
    return (projected + translation).square().sum(-1)


class TransH(nn.Module):
    """Attribute vectors, hyperplanes and translations of the knowledge task; item vectors come from the main task."""

    def __init__(self, num_relations: int, num_attributes: int, dim: int):
        super().__init__()
        self.dim = dim
        self.attributes = nn.Embedding(num_attributes + 1, dim, padding_idx=0)
        self.normals = nn.Embedding(num_relations + 1, dim, padding_idx=0)
        self.translations = nn.Embedding(num_relations + 1, dim, padding_idx=0)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every vector from U(-1/sqrt(D), 1/sqrt(D)), padding rows zero."""
        bound = 1 / math.sqrt(self.dim)
        for table in (self.attributes, self.normals, self.translations):
            nn.init.uniform_(table.weight, -bound, bound)
            with torch.no_grad():
                table.weight[0].zero_()

    def forward(self, items: Tensor, relations: Tensor, attributes: Tensor) -> Tensor:
        """Squared distance of each triple. Shape [T]."""
        return transh_distance(
            items, self.normals(relations), self.translations(relations), self.attributes(attributes)
        )


def _ggnn(config: MKMSRConfig) -> GGNN:
    return GGNN(config.dim, steps=config.steps, aggregation=config.aggregation, gate=config.gate)


def _run(ggnn: GGNN, vectors: Tensor, graph: SessionGraph) -> Tensor:
    states: Tensor = ggnn(vectors, graph.node_value, graph.incoming, graph.outgoing)
    return states


def _entry(
    summary: str, *, items: str = "none", operations: str = "none", pairs: str = "none", knowledge: bool = False
) -> ModelEntry:
    """MKM-SR or one of its ablations: the four encoder settings are what the name stands for."""
    space: dict[str, Choice | Range] = {
        "training.optimiser.learning_rate": Range(5e-4, 2e-2),
        "training.optimiser.schedule": Choice(("constant", "one-cycle")),
        "training.batch_size": Choice((64, 128, 256)),
        "model.scorer": Choice(("dot", "cosine")),
        "model.scale": Choice((8.0, 12.0, 16.0, 20.0)),
        "model.dropout": Choice((0.0, 0.3, 0.5, 0.6)),
        "model.readout_start": Choice(("uniform", "last-item")),
    }
    if "ggnn" in (items, pairs):
        space |= {"model.steps": Choice((1, 2)), "model.aggregation": Choice(("sum", "concat"))}
    if knowledge:
        space |= {
            "training.loss.knowledge": Choice(("squared", "margin")),
            "training.loss.knowledge_weight": Range(1e-3, 1.0),
        }
    return ModelEntry(
        config=MKMSRConfig,
        model=MKMSR,
        summary=summary,
        source="Meng, Yang, Xiao, SIGIR 2020",
        preset={
            "item_encoder": items,
            "operation_encoder": operations,
            "pair_encoder": pairs,
            "knowledge": knowledge,
        },
        # Half as many triple steps as with 256 in the authors' old code, as accurate on validation (docs/log); the
        # published model leaves the size open, and at 256 a log like Demo has more triple steps than session steps.
        training={**one_cycle(12, 0.01), **({"triple_batch_size": 512} if knowledge else {})},
        space=space,
    )


ENTRIES = {
    "mkm-sr": _entry(
        "graph network over items, GRU over operations, TransH as a second task",
        items="ggnn",
        operations="gru",
        knowledge=True,
    ),
    "km-sr": _entry("MKM-SR without operations", items="ggnn", knowledge=True),
    "m-sr": _entry("MKM-SR without the knowledge task", items="ggnn", operations="gru"),
    "m-gru-sr": _entry("a GRU over (item, operation) pairs, no knowledge task", pairs="gru"),
    "m-ggnn-sr": _entry("a graph network over (item, operation) pairs, no knowledge task", pairs="ggnn"),
    "m-ggnnx2-sr": _entry(
        "one graph network over items and one over operations, no knowledge task", items="ggnn", operations="ggnn"
    ),
}
