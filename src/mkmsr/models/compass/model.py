"""COMPASS, the model that we recommend: COMposed item vectors, PASt copies, and Similar sessions, as one mixture.

    p(j | s) = g_explore mean_k softmax_j(scale cos(m_k q, x_j)) + g_copy p_copy(j) + g_neighbours p_neighbours(j)
               [+ g_earlier p_earlier(j)]

x_j is composed of an id and of attributes, so that a new item is scored from its first minute; q is MKM-SR's encoder of
micro-behaviours with a direct path from the items, seen through a dropout mask m, through several fixed ones when
scoring; copies weigh the session's own events; neighbours are training sessions like it. The weights g depend on it.
Where visitors are known, the items of their earlier sessions are one component more. When scoring, similar sessions
lift items once more, see `SimilarSessions.log_lifts`.
Dimension letters: B sessions, P events, U distinct items of the batch, D embedding size, V catalogue + 1, A attributes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.data.batching import SessionBatch, TripleBatch
from mkmsr.errors import ConfigError, DataError
from mkmsr.layers.fast.shared_table import unit_rows
from mkmsr.layers.transh import transh_distance
from mkmsr.models.base import ModelSizes, Negatives, SessionModel, TrainingData
from mkmsr.models.compass.config import CompassConfig
from mkmsr.models.compass.encoder import EventEncoder
from mkmsr.models.compass.explanation import ScoredSession
from mkmsr.models.compass.explore import AttributeMatch, ExploreQuery, Sample, candidates, fixed_masks
from mkmsr.models.compass.item_vectors import ComposedVectors, ItemVectors, SomeVectors
from mkmsr.models.compass.mixture import COMPONENTS, Mixture, MixtureGates
from mkmsr.models.compass.prior import Prior
from mkmsr.models.compass.repeats import CopyAttention, EarlierVisits, visits_of
from mkmsr.models.compass.similar_sessions import Similar, SimilarSessions, no_similar
from mkmsr.models.compass.wanted_operation import WantedOperation
from mkmsr.models.entry import Choice, ModelEntry, Range, one_cycle
from mkmsr.models.explanation import Names, ScoreParts
from mkmsr.models.neighbours.session_index import RENAMED
from mkmsr.models.neighbours.voting import Votes

__all__ = ["ENTRY", "Compass"]

_OWN_START = ("vectors.", "copying.", "matching.", "encoder.recent.", "wanted.", "earlier.", "similar.")
"""Parts that draw their weights themselves."""
_START_SCALE = 16.0


class CompassScorer(Protocol):
    """Scores of a batch, [B, V]; what `SimilarSessions.look_up` has found for it may be given."""

    def __call__(self, batch: SessionBatch, found: Similar | None = None) -> Tensor: ...


class Compass(SessionModel):
    """COMPASS.

    Source: this project. The encoder is MKM-SR's (SIGIR 2020), the copies are RepeatNet's idea (AAAI 2019), the
    neighbours' weights V-SkNN's and STAN's.
    """

    masks: Tensor

    def __init__(self, config: CompassConfig, sizes: ModelSizes):
        super().__init__(sizes)
        self.config = config
        dim, explore, has_attributes = config.dim, config.explore, sizes.num_attributes > 0
        self.vectors = ComposedVectors(
            sizes.num_items,
            sizes.num_attributes if explore.attributes else 0,
            sizes.num_relations,
            dim,
            id_dropout=explore.id_dropout if explore.attributes and has_attributes else 0.0,
            use_ids=explore.ids,
        )
        self.has_matching = explore.matching and explore.attributes and has_attributes
        if self.has_matching:
            self.matching = AttributeMatch(sizes.num_attributes, sizes.num_relations)
        self.prior = Prior(explore, sizes.num_items + 1)
        self.encoder = EventEncoder(config, sizes.num_operations)
        self.register_buffer("masks", fixed_masks(explore.masks, dim, config.dropout))
        self.log_scale = nn.Parameter(torch.empty(()))
        if config.copy_past:
            self.copying = CopyAttention(self.encoder.width, sizes.num_operations if config.operations else 0)
        if config.neighbours:
            by_attributes = config.retrieval.kind_weight > 0 and has_attributes
            self.similar = SimilarSessions(config.retrieval, sizes.num_items + 1, by_attributes=by_attributes)
        if config.copy_past or config.neighbours:
            earlier_features = EarlierVisits.features if config.earlier_visits else 0
            self.gates = MixtureGates(self.encoder.width, copies=config.copy_past, earlier_features=earlier_features)
        if self.has_knowledge_task:
            self.normals = nn.Embedding(sizes.num_relations + 1, dim, padding_idx=0)
            self.translations = nn.Embedding(sizes.num_relations + 1, dim, padding_idx=0)
        if config.target_operation:
            components = len(COMPONENTS) - (not config.earlier_visits)
            self.wanted = WantedOperation(sizes.num_operations, dim, components)
        if config.earlier_visits:
            self.earlier = EarlierVisits(sizes.num_operations)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights from U(-1/sqrt(D), 1/sqrt(D)); layers start as their own files say."""
        bound = 1 / math.sqrt(self.config.dim)
        for name, parameter in self.named_parameters():
            if not name.startswith(_OWN_START):
                nn.init.uniform_(parameter, -bound, bound)
        self.vectors.reset_parameters()
        self.encoder.set_starts()
        if self.has_matching:
            self.matching.reset_parameters()
        nn.init.constant_(self.log_scale, math.log(_START_SCALE))
        if self.config.target_operation:
            self.wanted.reset_parameters()
        if self.config.copy_past:
            self.copying.reset_parameters()
        if self.has_knowledge_task:
            nn.init.zeros_(self.normals.weight[0])
            nn.init.zeros_(self.translations.weight[0])

    def check_buffers(self) -> None:
        """Make sure that masks from a file have the shape that the settings ask for; parts check their own.

        Raises:
            DataError: They have not.
        """
        expected = fixed_masks(self.config.explore.masks, self.config.dim, self.config.dropout).shape
        if self.masks.shape != expected:
            raise DataError(f"masks is of another shape: expected {list(expected)}, found {list(self.masks.shape)}")

    def observe(self, training: TrainingData) -> None:
        sessions, knowledge = training.sessions, training.knowledge
        if self.config.earlier_visits and sessions.earlier is None:
            raise ConfigError("the data do not know visitors; use `mkmsr prepare --visitors`", key="earlier_visits")
        counts = torch.bincount(torch.from_numpy(sessions.items).long(), minlength=self.sizes.num_items + 1)
        items, relations, entities = torch.from_numpy(knowledge.triples).unbind(1)
        attributes = entities - knowledge.num_items
        self.prior.observe(sessions, counts, expects_new_items=training.expects_new_items)
        self.vectors.observe(counts > 0, items, relations, attributes)
        if self.config.neighbours:
            self.similar.build(sessions, torch.stack([items, attributes], dim=1))

    # One batch: its likelihood in training, its scores afterwards, both by way of its mixture.

    def log_likelihood(self, batch: SessionBatch, *, block: int = 0) -> Tensor:
        vectors_VD = self.vectors()
        mixture = self.mixture(batch, vectors_VD)
        explore_B = mixture.explore.log_likelihood(
            self.vectors, candidates(vectors_VD, self.item_priors()), batch.targets, block=block
        )
        return mixture.log_likelihood(explore_B, batch.targets, self.config if self.training else None)

    def sampled_log_likelihood(self, batch: SessionBatch, negatives: Negatives) -> Tensor:
        sample = Sample.draw(batch, negatives)
        vectors = SomeVectors(sample.items, self.vectors.rows_of(sample.items))
        mixture = self.mixture(batch, vectors)
        candidates_CD = candidates(vectors.vectors, self.item_priors()[sample.items] + sample.log_weights)
        explore_B = mixture.explore.sampled_log_likelihood(self.vectors, candidates_CD, batch.targets, sample)
        return mixture.log_likelihood(explore_B, batch.targets, self.config if self.training else None)

    def score(self, batch: SessionBatch) -> Tensor:
        return self.scorer()(batch)

    def scorer(self) -> CompassScorer:
        vectors_VD = self.vectors()
        candidates_DV = candidates(vectors_VD, self.item_priors()).T.contiguous()

        def score(batch: SessionBatch, found: Similar | None = None) -> Tensor:
            mixture = self.mixture(batch, vectors_VD, found)
            return mixture.log_scores(mixture.explore.log_scores(self.vectors, candidates_DV), self.vectors.seen)

        return score

    def mixture(self, batch: SessionBatch, vectors: ItemVectors, found: Similar | None = None) -> Mixture:
        """Return everything that p(j | s) is made of but the catalogue's softmax.

        Args:
            batch: The sessions.
            vectors: Of all items, or of those that stand in the batch, read by item index.
            found: What `SimilarSessions.look_up` said of the batch, if it was asked before.
        """
        config = self.config
        vectors_UD = vectors[batch.graph.distinct]
        parts = self.encoder.micro_behaviours(batch, vectors_UD)
        wanted_B = self._wanted_operations(batch)
        session_BD = self.encoder(batch, parts, vectors_UD)
        if wanted_B is not None:
            session_BD = self.wanted.of_sessions(session_BD, wanted_B)
        events_PD = torch.cat([part.table[part.alias] for part in parts], dim=1)
        # Dropped whether there are copies or not, so that models with and without them draw alike.
        copies = Votes(batch.rows, batch.items, self._copies(batch, self._drop(events_PD), wanted_B))
        similar: Similar = self.similar(batch, found) if config.neighbours else no_similar(batch, self.prior.popularity)
        views = [self._drop(session_BD)] if self.training else [session_BD * mask_D for mask_D in self.masks]
        queries = tuple(self._query(view_BD) for view_BD in views)
        explore = ExploreQuery(queries, similar.evidence, self._match_weights(batch))
        last_BD = self._drop(events_PD[batch.last])
        log_gates_BC = last_BD.new_tensor([0.0, -torch.inf, -torch.inf]).expand(len(batch), -1)  # Explore alone.
        earlier = None
        if config.copy_past or config.neighbours:
            log_gates_BC = self.gates(
                batch,
                last_BD,
                similar.votes,
                self.vectors.seen,
                self.earlier.of_sessions(batch, vectors) if config.earlier_visits else None,
                None if wanted_B is None else self.wanted.gates(wanted_B),
            )
        if config.earlier_visits:
            visits, query_BD = visits_of(batch), queries[0] if self.training else self._query(session_BD)
            earlier = self.earlier(batch, explore.scores_of(self.vectors, vectors, query_BD, visits.rows, visits.items))
        return Mixture(explore, log_gates_BC, copies, similar.votes, earlier, similar.log_lift)

    def item_priors(self) -> Tensor:
        """Return what each item's explore score begins with, see `Prior`. Shape [V]."""
        prior_V: Tensor = self.prior(self.vectors.seen, self.vectors.rows.diff())
        return prior_V

    def attention(self, batch: SessionBatch, vectors: ItemVectors) -> Tensor:
        """Return how much the readout weighs each event, not normalised. Shape [P]."""
        return self.encoder.attention(batch, vectors[batch.graph.distinct])

    def _query(self, session_BD: Tensor) -> Tensor:
        """The scaled unit vector, and a 1 that meets the items' prior. Shape [B, D + 1]."""
        query_BD = unit_rows(session_BD) * self.log_scale.exp()
        return torch.cat([query_BD, query_BD.new_ones(len(query_BD), 1)], dim=1)

    def _wanted_operations(self, batch: SessionBatch) -> Tensor | None:
        """The operation asked for, [B]: in training the target's own for some examples, else what the caller says."""
        if not self.config.target_operation:
            return None
        return self.wanted.masked(batch.target_operations) if self.training else batch.wanted

    def _copies(self, batch: SessionBatch, events_PD: Tensor, wanted_B: Tensor | None) -> Tensor:
        """The probability of each event to be copied. Shape [P]."""
        if not self.config.copy_past:
            return events_PD.new_zeros(len(events_PD))
        extra = None if wanted_B is None else self.wanted.of_copies(batch.operations, wanted_B[batch.rows])
        operations = self.encoder.counted(batch)
        log_shares: Tensor = self.copying(events_PD, operations, batch.ages, batch.rows, batch.last, extra)
        return log_shares.exp()

    def _match_weights(self, batch: SessionBatch) -> Tensor | None:
        """What each attribute adds to an item that has it, because the session's items have it. Shape [A + 1, B]."""
        if not self.has_matching:
            return None
        event, attributes, shares = self.vectors.attributes_of(batch.items)
        relations, rows = self.vectors.relation_of[attributes], batch.rows[event]
        weights_AB: Tensor = self.matching(attributes, relations, shares, batch.ages[event], rows, len(batch))
        return weights_AB

    def _drop(self, vectors: Tensor) -> Tensor:
        return F.dropout(vectors, self.config.dropout, self.training)

    # Capabilities, see `mkmsr.models.capabilities`.

    @property
    def has_knowledge_task(self) -> bool:
        explore = self.config.explore
        return self.config.knowledge and explore.ids and explore.attributes and self.sizes.num_relations > 0

    def triple_distances(self, triples: TripleBatch) -> Tensor:
        assert self.vectors.ids is not None
        assert self.vectors.attributes is not None
        return transh_distance(
            self.vectors.ids(triples.items),
            self.normals(triples.relations),
            self.translations(triples.relations),
            self.vectors.attributes(triples.attributes),
        )

    @property
    def answers_wanted(self) -> bool:
        return self.config.target_operation

    @property
    def places_new_items(self) -> bool:
        return self.vectors.attributes is not None

    def append_items(self, count: int, triples: Tensor) -> None:
        items, relations, attributes = triples.unbind(1)
        self.prior.append_items(torch.bincount(items - (self.sizes.num_items + 1), minlength=count) > 0)
        self.sizes = replace(self.sizes, num_items=self.sizes.num_items + count)
        self.vectors.append(count, items, relations, attributes)
        if self.config.neighbours:
            self.similar.append_items(count, triples[:, [0, 2]])

    def explain(self, batch: SessionBatch, items: Sequence[int], names: Names) -> list[ScoreParts]:
        vectors_VD = self.vectors()
        scored = ScoredSession(
            batch,
            names,
            vectors=self.vectors,
            vectors_VD=vectors_VD,
            priors_V=self.item_priors(),
            mixture=self.mixture(batch, vectors_VD),
            attention_P=self.attention(batch, vectors_VD),
            score=self.scorer(),
            similar=self.similar if self.config.neighbours else None,
        )
        return [scored.score_parts(item) for item in items]

    def take_over(self, earlier: SessionModel, items: Tensor) -> None:
        assert isinstance(earlier, Compass)
        self.vectors.remember(earlier.vectors.seen[items.to(earlier.vectors.seen.device)])


ENTRY = ModelEntry(
    config=CompassConfig,
    model=Compass,
    summary="vectors composed from attributes, copies of the past and similar sessions, as one mixture",
    source="this project",
    flagship=True,
    training={**one_cycle(3, 0.004), "keep": "last"},
    space={
        "training.epochs": Choice((2, 3, 4, 6)),
        "training.optimiser.learning_rate": Range(1e-3, 1e-2),
        "training.batch_size": Choice((64, 128, 256)),
        "model.dropout": Choice((0.3, 0.4, 0.5, 0.6)),
        "model.explore.id_dropout": Choice((0.1, 0.3, 0.5, 0.6, 0.7)),
        "model.explore.popularity": Choice((0.0, 0.15, 0.3, 0.45)),
        "model.retrieval.neighbours": Choice((50, 100, 200)),
        "model.retrieval.idf_weight": Choice((0.0, 0.5, 1.0)),
        "model.retrieval.exclude": Choice(("own", "later")),
        "model.retrieval.evidence": Choice((0.0, 0.5, 1.0)),
    },
    renamed={
        **{each: f"encoder.{each}" for each in ("item_ggnn", "operations", "operation_gru", "readout", "recent")},
        "popularity": "prior.popularity",
        "newcomers": "prior.new_at_a_time",
        "novelty": "prior.of_new_items",
        "wanting": "wanted",
        **RENAMED,
    },
)
