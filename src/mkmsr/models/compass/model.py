"""COMPASS, the model that we recommend: COMposed item vectors, PASt copies, and Similar sessions, as one mixture.

    p(j | s) = g_explore mean_k softmax_j(scale cos(m_k q, x_j)) + g_copy p_copy(j) + g_neighbours p_neighbours(j)
               [+ g_earlier p_earlier(j)]

x_j is composed of an id and of attributes, so that a new item is scored from its first minute; q is MKM-SR's encoder of
micro-behaviours with a direct path from the items, seen through a dropout mask m, through several fixed ones when
scoring; copies weigh the session's own events; neighbours are training sessions like it. The weights g depend on it.
Where visitors are known, the items of their earlier sessions are one component more. When scoring, similar sessions
lift items once more, see `compass_lift`.
Dimension letters: B sessions, P events, M votes, D embedding size, V catalogue + 1, C components, K masks.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch, TripleBatch
from mkmsr.errors import ConfigError, DataError
from mkmsr.layers.attention import Part, SoftAttention
from mkmsr.layers.dropout import dropout, fixed_masks
from mkmsr.layers.ggnn import GGNN
from mkmsr.layers.rows import unit_rows
from mkmsr.layers.segments import segment_log_softmax
from mkmsr.layers.transh import transh_distance
from mkmsr.layers.tree_gru import TreeGRU
from mkmsr.models.base import ModelSizes, Negatives, SessionModel, TrainingData
from mkmsr.models.compass.composition import ComposedVectors, ItemVectors, SomeVectors
from mkmsr.models.compass.config import CompassConfig, ExploreConfig, RetrievalConfig
from mkmsr.models.compass.copying import CopyAttention, repeat_likelihood
from mkmsr.models.compass.earlier_finds import EarlierVisits, visits_of
from mkmsr.models.compass.explore import draw_columns, explore_all, explore_at, explore_sample, explore_scores
from mkmsr.models.compass.gates import SMALLEST, MixtureGates
from mkmsr.models.compass.knowledge import items_and_attributes, newcomers
from mkmsr.models.compass.lift import lifted
from mkmsr.models.compass.matching import AttributeMatch
from mkmsr.models.compass.mixture import COMPONENTS, Mixture, add_lists
from mkmsr.models.compass.recent_items import RecentItems
from mkmsr.models.compass.similar_sessions import CompassScorer, Similar, SimilarSessions, no_similar
from mkmsr.models.compass.wanted_operation import WantedOperation
from mkmsr.models.entry import Choice, ModelEntry, Range, one_cycle
from mkmsr.models.neighbours.voting import Votes

__all__ = ["ENTRY", "Compass", "CompassConfig", "ExploreConfig", "RetrievalConfig"]

_FEATURES = 6
_OWN_START = ("vectors.", "copying.", "matching.", "recent.", "wanting.", "earlier.", "similar.")
"""Parts that draw their weights themselves."""
_LAST = -1e4
"""Popularity of an item that was added without any known attribute: probability 0."""
_START_SCALE = 16.0


class Compass(SessionModel):
    """COMPASS.

    Source: this project. The encoder is MKM-SR's (SIGIR 2020), the copies are RepeatNet's idea (AAAI 2019), the
    neighbours' weights V-SkNN's and STAN's.
    """

    masks: Tensor
    popularity: Tensor
    newcomers: Tensor
    novelty: Tensor

    def __init__(self, config: CompassConfig, sizes: ModelSizes):
        super().__init__(sizes)
        self.config = config
        dim, explore = config.dim, config.explore
        self.vectors = ComposedVectors(
            sizes.num_items,
            sizes.num_attributes if explore.attributes else 0,
            sizes.num_relations,
            dim,
            id_dropout=explore.id_dropout if explore.attributes and sizes.num_attributes else 0.0,
            use_ids=explore.ids,
        )
        if self.has_matching:
            self.matching = AttributeMatch(sizes.num_attributes, sizes.num_relations)
        self.register_buffer("popularity", torch.zeros(sizes.num_items + 1))
        self.register_buffer("newcomers", torch.ones(()))
        self.register_buffer("novelty", torch.zeros(()))
        self.item_ggnn = GGNN(dim)
        part_dims = [dim]
        if config.operations:
            self.operations = nn.Embedding(sizes.num_operations + 1, dim, padding_idx=0)
            self.operation_gru = TreeGRU(dim, dim)
            part_dims.append(dim)
        self.readout = SoftAttention(part_dims, dim)
        if explore.recent_items:
            self.recent = RecentItems(sizes.num_operations if config.operations else 0)
        self.register_buffer("masks", fixed_masks(explore.masks, dim, config.dropout))
        self.log_scale = nn.Parameter(torch.empty(()))
        width, components = sum(part_dims), len(COMPONENTS) - (not config.earlier_visits)
        if config.copy_past:
            self.copying = CopyAttention(width, sizes.num_operations if config.operations else 0)
        if config.neighbours:
            self.similar = SimilarSessions(config.retrieval, sizes.num_items + 1, kinds=self.has_kinds)
        if config.copy_past or config.neighbours:
            more = EarlierVisits.features if config.earlier_visits else 0
            self.gates = MixtureGates(width, _FEATURES + more, components)
        if self.has_knowledge_task:
            self.normals = nn.Embedding(sizes.num_relations + 1, dim, padding_idx=0)
            self.translations = nn.Embedding(sizes.num_relations + 1, dim, padding_idx=0)
        if config.target_operation:
            self.wanting = WantedOperation(sizes.num_operations, dim, components)
        if config.earlier_visits:
            self.earlier = EarlierVisits(sizes.num_operations)
        self.reset_parameters()

    def check_buffers(self) -> None:
        """Make sure that buffers from a file have the shapes that sizes and settings ask for; parts check their own.

        Raises:
            DataError: One has not.
        """
        expected = {"popularity": (self.sizes.num_items + 1,), "newcomers": (), "novelty": ()}
        expected["masks"] = fixed_masks(self.config.explore.masks, self.config.dim, self.config.dropout).shape
        for name, shape in expected.items():
            found = getattr(self, name).shape
            if found != shape:
                raise DataError(f"{name} is of another shape: expected {list(shape)}, found {list(found)}")

    def reset_parameters(self) -> None:
        """Draw weights from U(-1/sqrt(D), 1/sqrt(D)); layers start as their own files say."""
        bound = 1 / math.sqrt(self.config.dim)
        for name, parameter in self.named_parameters():
            if not name.startswith(_OWN_START):
                nn.init.uniform_(parameter, -bound, bound)
        self.vectors.reset_parameters()
        self.readout.start_at_last_event()
        if self.config.explore.recent_items:
            self.recent.reset_parameters()
        if self.has_matching:
            self.matching.reset_parameters()
        nn.init.constant_(self.log_scale, math.log(_START_SCALE))
        if self.config.target_operation:
            self.wanting.reset_parameters()
        if self.config.copy_past:
            self.copying.reset_parameters()
        with torch.no_grad():
            for module in self.children():
                if isinstance(module, nn.Embedding):
                    module.weight[0].zero_()

    def observe(self, training: TrainingData) -> None:
        if self.config.earlier_visits and training.sessions.earlier is None:
            raise ConfigError("the data do not know visitors; use `mkmsr prepare --visitors`", key="earlier_visits")
        items = torch.from_numpy(training.sessions.items).long()
        counts = torch.bincount(items, minlength=self.sizes.num_items + 1)
        seen = counts > 0
        self.popularity = (self.config.explore.popularity * counts.log1p()).to(self.popularity)
        triples = torch.from_numpy(training.knowledge.triples)
        self.vectors.observe(seen, triples[:, 0], triples[:, 1], triples[:, 2] - training.knowledge.num_items)
        self.newcomers = torch.tensor(float(newcomers(training.sessions))).to(self.newcomers)
        self._expect_new_items(training.expects_new_items)
        if self.config.neighbours:
            self.similar.build(training.sessions, items_and_attributes(triples, training.knowledge.num_items))

    @property
    def answers_wanted(self) -> bool:
        return self.config.target_operation

    @property
    def places_new_items(self) -> bool:
        return self.vectors.attributes is not None

    def take_over(self, earlier: SessionModel, items: Tensor) -> None:
        assert isinstance(earlier, Compass)
        self.vectors.remember(earlier.vectors.seen[items.to(earlier.vectors.seen.device)])

    def append_items(self, count: int, triples: Tensor) -> None:
        self._expect_new_items(True)
        items, relations, attributes = triples.unbind(1)
        described = torch.bincount(items - len(self.popularity), minlength=count) > 0
        self.sizes = replace(self.sizes, num_items=self.sizes.num_items + count)
        self.vectors.append(count, items, relations, attributes)
        self.popularity = torch.cat([self.popularity, torch.where(described, 0.0, _LAST).to(self.popularity)])
        if self.config.neighbours:
            self.similar.append_items(count, triples[:, [0, 2]])

    def _expect_new_items(self, expected: bool) -> None:
        self.novelty = torch.full_like(self.novelty, self.config.explore.novelty if expected else 0.0)

    @property
    def has_knowledge_task(self) -> bool:
        explore = self.config.explore
        return self.config.knowledge and explore.ids and explore.attributes and self.sizes.num_relations > 0

    @property
    def has_matching(self) -> bool:
        """Whether shared attributes count by themselves."""
        explore = self.config.explore
        return explore.matching and explore.attributes and self.sizes.num_attributes > 0

    @property
    def has_kinds(self) -> bool:
        """Whether sessions are neighbours for items of the same kind too."""
        return self.config.retrieval.kind_weight > 0 and self.sizes.num_attributes > 0

    def log_likelihood(self, batch: SessionBatch, *, block: int = 0) -> Tensor:
        vectors_VD = self.vectors()
        mixture = self.mixture(batch, vectors_VD)
        candidates_VD = self.candidates(vectors_VD)
        explore_B = explore_all(self.vectors, mixture, candidates_VD, batch.targets, block=block)
        return self._likelihood(batch, mixture, explore_B)

    def sampled_log_likelihood(self, batch: SessionBatch, negatives: Negatives) -> Tensor:
        sample = draw_columns(batch, negatives)
        items, log_weights_C = sample.columns.items, sample.columns.log_weights
        vectors = SomeVectors(items, self.vectors.rows_of(items))
        mixture = self.mixture(batch, vectors)
        candidates_CD = self.candidates(vectors.vectors, self.prior()[items] + log_weights_C)
        explore_B = explore_sample(self.vectors, mixture, candidates_CD, batch.targets, sample)
        return self._likelihood(batch, mixture, explore_B)

    def _likelihood(self, batch: SessionBatch, mixture: Mixture, explore_B: Tensor) -> Tensor:
        """What training raises, given the explore component's log probability of each target; no lifts. Shape [B]."""
        listed = [each.of(batch.targets) for each in mixture.lists]
        logs_BC = torch.stack([explore_B, *(each.clamp_min(SMALLEST).log() for each in listed)], dim=1)
        likelihood_B = (logs_BC + mixture.log_gates).logsumexp(1)
        if not self.training:
            return likelihood_B
        share = self.config.explore.own_task
        likelihood_B = (1 - share) * likelihood_B + share * explore_B
        asked = [("copy", self.config.copy_past), ("earlier", self.config.earlier_visits)]
        columns = [COMPONENTS.index(name) for name, is_on in asked if is_on and self.config.copy_task]
        for column in columns:
            right_B = repeat_likelihood(mixture.log_gates[:, column], listed[column - 1])
            likelihood_B = likelihood_B + self.config.copy_task * right_B
        return likelihood_B

    def score(self, batch: SessionBatch) -> Tensor:
        return self.scorer()(batch)

    def scorer(self) -> CompassScorer:
        vectors_VD = self.vectors()
        items_DV = self.candidates(vectors_VD).T.contiguous()
        return lambda batch, found=None: self._score(batch, vectors_VD, items_DV, found)

    def triple_distances(self, triples: TripleBatch) -> Tensor:
        assert self.vectors.ids is not None
        assert self.vectors.attributes is not None
        return transh_distance(
            self.vectors.ids(triples.items),
            self.normals(triples.relations),
            self.translations(triples.relations),
            self.vectors.attributes(triples.attributes),
        )

    def mixture(self, batch: SessionBatch, vectors_VD: ItemVectors, found: Similar | None = None) -> Mixture:
        """Everything that p(j | s) is made of, given the vectors of all items, or of those that stand in the batch.

        `found` is what `SimilarSessions.look_up` said of the batch, if it was asked before.
        """
        graph = batch.graph_for(self.item_ggnn.steps)
        vectors_UD = vectors_VD[graph.distinct]
        parts = self._micro_behaviours(batch, vectors_UD)
        wanted_B = self._wanted(batch)
        session_BD = self.readout(parts, batch.rows, batch.last)
        if self.config.explore.recent_items:
            items_PD = self._drop(vectors_UD[graph.node_value[graph.alias]])
            session_BD = self.recent(session_BD, items_PD, self._operations(batch), batch.ages, batch.rows)
        if wanted_B is not None:
            session_BD = self.wanting.of_sessions(session_BD, wanted_B)
        events_PD = torch.cat([part.table[part.alias] for part in parts], dim=1)
        copies = self._copies(batch, self._drop(events_PD), wanted_B)
        similar: Similar = self.similar(batch, found) if self.config.neighbours else no_similar(batch, self.popularity)
        views = [self._drop(session_BD)] if self.training else [session_BD * mask_D for mask_D in self.masks]
        mixture = Mixture(
            queries=tuple(self._query(view_BD) for view_BD in views),
            evidence=similar.evidence,
            match_weights=self.match_weights(batch) if self.has_matching else None,
            log_gates=self._log_gates(batch, vectors_VD, self._drop(events_PD[batch.last]), similar.votes, wanted_B),
            copies=Votes(batch.rows, batch.items, copies),
            votes=similar.votes,
            log_lift=similar.log_lift,
        )
        if not self.config.earlier_visits:
            return mixture
        query_BD = mixture.queries[0] if self.training else self._query(session_BD)
        return replace(mixture, earlier=self._earlier(batch, mixture, query_BD, vectors_VD))

    def _query(self, session_BD: Tensor) -> Tensor:
        """The scaled unit vector, and a 1 that meets the items' popularity. Shape [B, D + 1]."""
        query_BD = unit_rows(session_BD) * self.log_scale.exp()
        return torch.cat([query_BD, query_BD.new_ones(len(query_BD), 1)], dim=1)

    def attention(self, batch: SessionBatch, vectors_VD: Tensor) -> Tensor:
        """How much the readout weighs each event, not normalised. Shape [P]."""
        vectors_UD = vectors_VD[batch.graph_for(self.item_ggnn.steps).distinct]
        return self.readout.weights(self._micro_behaviours(batch, vectors_UD), batch.rows, batch.last)

    def prior(self) -> Tensor:
        """What each item's explore score begins with: its popularity, or the chances of an item without events. [V].

        In training such items take no part, because none can be the target: the softmax would learn that they never
        are. Afterwards each has `novelty`, less where there are more of them than lately came in: they share what
        newcomers get. Items that nothing is known about get nothing, and nor does any item where the data leave new
        ones out, until some are added.
        """
        new_V = self.vectors.seen == 0
        if self.training:
            return self.popularity.masked_fill(new_V, _LAST)
        described_V = new_V & (self.vectors.rows.diff() > 0)
        crowd = (described_V.sum() / self.newcomers).clamp(min=1).log()
        return self.popularity + described_V * (self.novelty - crowd)

    def candidates(self, vectors_VD: Tensor, prior: Tensor | None = None) -> Tensor:
        """Unit vectors of the catalogue, or of some items with their prior, and a column of it. Shape [V, D + 1]."""
        popularity = self.prior() if prior is None else prior
        return torch.cat([unit_rows(vectors_VD), popularity[:, None]], dim=1)

    def _micro_behaviours(self, batch: SessionBatch, vectors_UD: Tensor) -> list[Part]:
        graph = batch.graph_for(self.item_ggnn.steps)
        states_ND = self.item_ggnn(self._drop(vectors_UD), graph.node_value, graph.incoming, graph.outgoing)
        parts = [Part(states_ND, graph.alias)]
        if self.config.operations:
            tree = batch.operation_tree
            states = self.operation_gru(self.operations.weight, tree.value, tree.parent, tree.level_sizes)
            parts.append(Part(states, tree.alias))
        return parts

    def match_weights(self, batch: SessionBatch) -> Tensor:
        """What each attribute adds to an item that has it, because the session's items have it. Shape [A + 1, B]."""
        event, attributes, shares = self.vectors.attributes_of(batch.items)
        rows = batch.rows[event]
        relations = self.vectors.relation_of[attributes]
        weights_AB: Tensor = self.matching(attributes, relations, shares, batch.ages[event], rows, len(batch))
        return weights_AB

    def _wanted(self, batch: SessionBatch) -> Tensor | None:
        """The operation asked for, [B]: in training the target's own for some examples, else what the caller says."""
        if not self.config.target_operation:
            return None
        return self.wanting.masked(batch.target_operations) if self.training else batch.wanted

    def _copies(self, batch: SessionBatch, events_PD: Tensor, wanted_B: Tensor | None) -> Tensor:
        if not self.config.copy_past:
            return events_PD.new_zeros(len(events_PD))
        log_shares: Tensor = self.copying(events_PD, self._operations(batch), batch.ages, batch.rows, batch.last)
        if wanted_B is not None:
            log_shares = log_shares + self.wanting.of_copies(batch.operations, wanted_B[batch.rows])
            log_shares = segment_log_softmax(log_shares, batch.rows, len(batch))
        return log_shares.exp()

    def _earlier(self, batch: SessionBatch, mixture: Mixture, query_BD: Tensor, vectors_VD: ItemVectors) -> Votes:
        """The items of the visitors' earlier sessions, as probabilities."""
        visits = visits_of(batch)
        scores_H = explore_at(self.vectors, mixture, query_BD, vectors_VD, visits.rows, visits.items)
        votes: Votes = self.earlier(batch, scores_H)
        return votes

    def _operations(self, batch: SessionBatch) -> Tensor:
        return batch.operations if self.config.operations else torch.zeros_like(batch.operations)

    def _log_gates(
        self, batch: SessionBatch, vectors_VD: ItemVectors, last_BD: Tensor, votes: Votes, wanted_B: Tensor | None
    ) -> Tensor:
        """Log weights of the components; one that is off, or has nothing to say, has weight zero. Shape [B, C]."""
        config, rows = self.config, len(batch)
        if not (config.copy_past or config.neighbours):
            return last_BD.new_tensor([0.0, -torch.inf, -torch.inf]).expand(rows, -1)
        candidates_B = torch.bincount(votes.rows, minlength=rows).to(last_BD)
        lengths_B = batch.lengths.to(last_BD)
        features = [
            (candidates_B > 0).to(last_BD),
            candidates_B.log1p(),
            last_BD.new_zeros(rows).scatter_reduce(0, votes.rows, votes.weights.detach(), "amax"),
            lengths_B.log(),
            torch.bincount(batch.graph.node_row, minlength=rows) / lengths_B,
            self.vectors.seen[batch.items[batch.last]],
        ]
        nowhere_B = torch.zeros_like(candidates_B, dtype=torch.bool)
        silent = [nowhere_B, nowhere_B if config.copy_past else ~nowhere_B, candidates_B == 0]
        if config.earlier_visits:
            features += self.earlier.of_sessions(batch, vectors_VD).to(last_BD).unbind(1)
            silent.append(features[_FEATURES] == 0)
        extra_BC = None if wanted_B is None else self.wanting.gates(wanted_B)
        log_gates_BC: Tensor = self.gates(last_BD, torch.stack(features, 1), torch.stack(silent, 1), extra_BC)
        return log_gates_BC

    def _score(self, batch: SessionBatch, vectors_VD: Tensor, items_DV: Tensor, found: Similar | None) -> Tensor:
        mixture = self.mixture(batch, vectors_VD, found)
        scores_BV = explore_scores(self.vectors, mixture, items_DV) + mixture.log_gates[:, :1]
        gates_BC = mixture.log_gates.exp()
        scores_BV = add_lists(scores_BV, [mixture.copies, mixture.votes], gates_BC[:, 1:])
        if mixture.log_lift is not None:
            scores_BV = lifted(scores_BV, mixture.log_lift, self.vectors.seen, gates_BC[:, :3].sum(1))
        return scores_BV if mixture.earlier is None else add_lists(scores_BV, [mixture.earlier], gates_BC[:, 3:])

    def _drop(self, vectors: Tensor) -> Tensor:
        return dropout(vectors, self.config.dropout, self.training)


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
)
