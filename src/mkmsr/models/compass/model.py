"""COMPASS, the model that we recommend: COMposed item vectors, PASt copies, and Similar sessions, as one mixture.

    p(j | s) = g_explore p_explore(j) + g_copy p_copy(j) + g_neighbours p_neighbours(j) [+ g_earlier p_earlier(j)]

explore    a softmax over the catalogue: item vectors composed of an id and of attributes, so that a new item is scored
           from its first minute; MKM-SR's encoder of micro-behaviours; shared attributes; evidence of similar sessions
copy       the session's own events, by age and operation
neighbours the items of the training sessions most like it
earlier    where visitors are known, the items of their earlier sessions

Each component learns from the training sessions by itself. The gates, and the few weights that say how far each term is
to be trusted, are fitted forward in time: on sessions newer than all that the components have learnt from.
Dimension letters: B sessions, P events, U distinct items of the batch, D embedding size, V catalogue + 1, A attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mkmsr.data.batching import SessionBatch, collate
from mkmsr.data.sessions import ExampleTable
from mkmsr.errors import ConfigError
from mkmsr.layers.fast.compiled import has_numba
from mkmsr.layers.fast.shortlist import Shortlist
from mkmsr.models.base import (
    ModelSizes,
    Negatives,
    Scorer,
    SessionModel,
    Shortlisted,
    ShortScorer,
    TrainingData,
)
from mkmsr.models.capabilities import Names, ScoreParts
from mkmsr.models.compass.config import CompassConfig
from mkmsr.models.compass.encoder import EventEncoder, WantedOperation
from mkmsr.models.compass.explanation import ScoredSession
from mkmsr.models.compass.explore import Encoded, Explore, Sample, common_attributes
from mkmsr.models.compass.item_vectors import ComposedVectors
from mkmsr.models.compass.mixture import Component, Mixture, Said, probabilities
from mkmsr.models.compass.repeats import Copies, EarlierVisits
from mkmsr.models.compass.similar_sessions import SimilarSessions
from mkmsr.models.entry import Choice, ModelEntry, Range, one_cycle
from mkmsr.models.neighbours.indexed_sessions import RENAMED

_MOST_EXAMPLES, _MOST_SCORES = 2048, 100_000_000
"""Examples that weights are fitted to, and scores of items that a pass over them may need."""
_BATCH, _PASSES = 256, 25
"""Examples scored at a time, and passes of the fit (L-BFGS): Adam with as many steps stopped short of the optimum."""
_PULL = 4.0
"""Pull to where weights started, in examples a squared point: a small log's few examples move them little."""


class Compass(SessionModel):
    """COMPASS.

    Source: this project. The encoder is MKM-SR's (SIGIR 2020), the copies are RepeatNet's idea (AAAI 2019), the
    neighbours' weights STAN's.
    """

    def __init__(self, config: CompassConfig, sizes: ModelSizes):
        super().__init__(sizes)
        self.config = config
        attributes = sizes.num_attributes if config.attributes else 0
        operations = sizes.num_operations if config.operations else 0
        self.vectors = ComposedVectors(
            sizes.num_items,
            attributes,
            sizes.num_relations,
            config.dim,
            id_dropout=config.id_dropout if attributes else 0.0,
            use_ids=config.ids,
        )
        self.encoder = EventEncoder(operations, config.dim, config.dropout)
        self.explore = Explore(sizes.num_items, attributes, sizes.num_relations)
        if config.target_operation:
            self.wanted = WantedOperation(sizes.num_operations, config.dim)
        if config.copy_past:
            self.copying = Copies(operations, wants=config.target_operation)
        if config.neighbours:
            self.similar = SimilarSessions(config.nearest, config.sample_size, sizes.num_items + 1)
        if config.earlier_visits:
            self.earlier = EarlierVisits(sizes.num_operations)
        self.gates = Mixture([each.features for each in self.components().values()], sizes.num_operations)
        self.reset_parameters()

    def components(self) -> dict[str, Component]:
        """Return the components that name some items, in the order of the formula."""
        return {name: each for name in ("copying", "similar", "earlier") if (each := getattr(self, name, None))}

    def reset_parameters(self) -> None:
        # The encoder draws first, so that a seed keeps the weights that it has had.
        for part in (self.encoder, *(each for each in self.children() if each is not self.encoder)):
            if not isinstance(part, SimilarSessions):
                part.reset_parameters()  # type: ignore[operator]

    def observe(self, training: TrainingData) -> None:
        sessions, knowledge = training.sessions, training.knowledge
        if self.config.earlier_visits and sessions.earlier is None:
            raise ConfigError("the data do not know visitors; use `mkmsr prepare --visitors`", key="earlier_visits")
        counts = torch.bincount(torch.from_numpy(sessions.items).long(), minlength=self.sizes.num_items + 1)
        items, relations, entities = torch.from_numpy(knowledge.triples).unbind(1)
        self.vectors.observe(counts > 0, items, relations, entities - knowledge.num_items)
        self.explore.observe(sessions, counts, expects_new_items=training.expects_new_items)
        if self.config.neighbours:
            self.similar.index.build(sessions)

    # What a batch comes to: in training the likelihood of each component by itself, afterwards that of the mixture.

    def log_likelihood(self, batch: SessionBatch, *, block: int = 0) -> Tensor:
        vectors_VD = self.vectors()
        session, said = self.said(batch, vectors_VD.__getitem__)
        explore_B = self.explore.log_likelihood(session, self.vectors, vectors_VD, batch.targets, block=block)
        if self.training:
            return explore_B + _repeats(said, batch.targets)
        return self.gates.log_likelihood(session, said, explore_B)

    def sampled_log_likelihood(self, batch: SessionBatch, negatives: Negatives) -> Tensor:
        sample = Sample.draw(batch, negatives)
        vectors_CD = self.vectors.rows_of(sample.items)
        session, said = self.said(batch, lambda items: vectors_CD[torch.searchsorted(sample.items, items)])
        explore_B = self.explore.sampled_log_likelihood(session, self.vectors, vectors_CD, sample)
        return explore_B + _repeats(said, batch.targets)

    def score(self, batch: SessionBatch) -> Tensor:
        return self.scorer()(batch)

    def scorer(self) -> Scorer:
        vectors_VD = self.vectors()
        all_items = self.explore.all_items(self.vectors, vectors_VD)

        def score(batch: SessionBatch) -> Tensor:
            session, said = self.said(batch, vectors_VD.__getitem__)
            log_gates_BC = self.gates.log_gates(session, said)
            scores_BV = self.explore.log_scores(session, self.vectors, all_items, log_gates_BC[:, 0])
            return self.gates.add_lists(scores_BV, log_gates_BC, said)

        return score

    def shortlist_vectors(self) -> Tensor:
        return self.explore.wide_candidates(self.vectors, self.vectors())

    def short_scorer(self, shortlist: Shortlist) -> ShortScorer:
        common = common_attributes(self.vectors)

        def score(batch: SessionBatch) -> Shortlisted:
            session, said = self.said(batch, self.vectors.rows_of)
            log_gates_BC = self.gates.log_gates(session, said)
            query_BD, extra = self.explore.wide_query(session, self.vectors, common)
            listed = [each.items.items for each in said]
            items_C, proposed_BM = shortlist.items(query_BD, torch.cat([extra.columns, *listed]))
            scores_BC = shortlist.products(query_BD, items_C)
            place = extra.rows * len(items_C) + torch.searchsorted(items_C, extra.columns)
            scores_BC.view(-1).index_add_(0, place, extra.values)
            scores_BC[:, 0] = -torch.inf
            total_B = torch.logaddexp(scores_BC.logsumexp(1), shortlist.log_rest(query_BD, items_C))
            scores_BC += (log_gates_BC[:, 0] - total_B)[:, None]
            columns = [replace(each.items, items=torch.searchsorted(items_C, each.items.items)) for each in said]
            of_columns = [each._replace(items=votes) for each, votes in zip(said, columns, strict=True)]
            return Shortlisted(self.gates.add_lists(scores_BC, log_gates_BC, of_columns), items_C, proposed_BM)

        return score

    def compiled_scorer(self) -> Scorer:
        if self.config.earlier_visits or not has_numba():
            return self.scorer()
        from mkmsr.models.compass.compiled import Parts, compiled_scorer

        others = [getattr(self, name, None) for name in ("copying", "similar", "wanted")]
        return compiled_scorer(Parts(self.vectors, self.encoder, self.explore, self.gates, *others))

    def said(self, batch: SessionBatch, vectors: Callable[[Tensor], Tensor]) -> tuple[Encoded, list[Said]]:
        """Return what components look at, and what they say of it; in training only those that learn."""
        parts = self.encoder.micro_behaviours(batch, vectors(batch.graph.distinct))
        session_BD, wanted_B = self.encoder(batch, parts), None
        if self.config.target_operation:
            wanted_B = self.wanted.masked(batch.target_operations) if self.training else batch.wanted
        if wanted_B is not None:
            session_BD = self.wanted(session_BD, wanted_B)
        query_BD = self.explore.query(F.dropout(session_BD, self.config.dropout, self.training))
        match = None if self.explore.matching is None else self.explore.matching(batch, self.vectors)
        asks = self.config.neighbours and not self.training
        votes, evidence = self.similar.look_up(batch) if asks else (None, None)
        session = Encoded(batch, vectors, self.explore.popularity, query_BD, match, votes, evidence, wanted_B)
        speak = [each for each in self.components().values() if each.learns or not self.training]
        return session, [each(session) for each in speak]

    # Weights that are fitted forward in time.

    def calibrate(self, examples: ExampleTable) -> None:
        self.eval()
        weights = list(self._fitted_forward().values())
        starts, device = [each.clone() for each in weights], weights[0].device
        most = min(_MOST_EXAMPLES, max(_MOST_SCORES // self.sizes.num_items, _BATCH), len(examples))
        chosen = np.random.default_rng(0).permutation(len(examples))[:most]
        batches = [collate(examples, part).to(device) for part in np.array_split(chosen, -(-most // _BATCH))]
        with torch.no_grad():
            vectors_VD = self.vectors()
            prepared = [self.said(self._asked(batch), vectors_VD.__getitem__) for batch in batches]
        optimiser = torch.optim.LBFGS(
            [each.requires_grad_() for each in weights], max_iter=_PASSES, line_search_fn="strong_wolfe"
        )

        def surprise() -> Tensor:
            optimiser.zero_grad()
            moved = torch.stack([(now - start).square().sum() for now, start in zip(weights, starts, strict=True)])
            losses = [_PULL * moved.sum() / most]
            losses[0].backward()  # type: ignore[no-untyped-call]
            for session, said in prepared:
                targets = session.batch.targets
                explore_B = self.explore.log_likelihood(session, self.vectors, vectors_VD, targets)
                losses.append(-self.gates.log_likelihood(session, said, explore_B).sum() / most)
                losses[-1].backward()  # type: ignore[no-untyped-call]
            return torch.stack(losses).sum().detach()

        optimiser.step(surprise)  # type: ignore[no-untyped-call]
        for each in weights:
            each.requires_grad_(False)
            each.grad = None

    def calibrate_like(self, other: SessionModel) -> None:
        theirs = dict(other.named_parameters())
        for name, each in self._fitted_forward().items():
            each.copy_(theirs[name])

    def _fitted_forward(self) -> dict[str, Tensor]:
        return {name: each for name, each in self.named_parameters() if not each.requires_grad}

    def _asked(self, batch: SessionBatch) -> SessionBatch:
        """The batch with an operation asked for in some rows, where that can be."""
        if not self.config.target_operation:
            return batch
        return replace(batch, wanted=self.wanted.masked(batch.target_operations))

    # Capabilities, see `mkmsr.models.capabilities`.

    @property
    def answers_wanted(self) -> bool:
        return self.config.target_operation

    @property
    def places_new_items(self) -> bool:
        return self.vectors.attributes is not None

    def append_items(self, count: int, triples: Tensor) -> None:
        self.sizes = replace(self.sizes, num_items=self.sizes.num_items + count)
        self.vectors.append(count, *triples.unbind(1))
        self.explore.append_items(count)
        if self.config.neighbours:
            self.similar.index.append_items(count)

    @property
    def asks_neighbours(self) -> bool:
        return self.config.neighbours

    def neighbour_shares(self, batch: SessionBatch) -> Tensor:
        votes, _ = self.similar.look_up(batch)
        shares = probabilities(votes, len(batch))
        shares_BV = shares.weights.new_zeros(len(batch), self.similar.index.num_columns)
        return shares_BV.index_put_((shares.rows, shares.items), shares.weights)

    def explain(self, batch: SessionBatch, items: Sequence[int], names: Names) -> list[ScoreParts]:
        vectors_VD = self.vectors()
        session, said = self.said(batch, vectors_VD.__getitem__)
        parts = self.encoder.micro_behaviours(batch, vectors_VD[batch.graph.distinct])
        scored = ScoredSession(
            names,
            self.explore,
            self.vectors,
            session,
            listed=dict(zip(self.components(), self.gates.lists(said, 1), strict=True)),
            gates_C=self.gates.log_gates(session, said)[0].exp(),
            attention_P=self.encoder.readout.weights(parts, batch.rows, batch.last),
            score=self.scorer(),
            similar=getattr(self, "similar", None),
        )
        return [scored.score_parts(item) for item in items]

    def take_over(self, earlier: SessionModel, items: Tensor) -> None:
        assert isinstance(earlier, Compass)
        self.vectors.remember(earlier.vectors.seen[items.to(earlier.vectors.seen.device)])


def _repeats(said: Sequence[Said], targets: Tensor) -> Tensor:
    """How well each component tells which of its items comes next, where one does. Shape [B]."""
    listed = [probabilities(each.items, len(targets)).of(targets) for each in said]
    return sum((each.where(each > 0, 1.0).log() for each in listed), torch.zeros(len(targets), device=targets.device))


ENTRY = ModelEntry(
    config=CompassConfig,
    model=Compass,
    summary="vectors composed from attributes, copies of the past and similar sessions, as one mixture",
    source="this project",
    flagship=True,
    training={**one_cycle(4, 0.004), "keep": "last", "loss.session": "by-size"},
    space={
        "training.epochs": Choice((2, 3, 4, 6)),
        "training.optimiser.learning_rate": Range(1e-3, 1e-2),
        "training.batch_size": Choice((64, 128, 256)),
        "model.dropout": Choice((0.3, 0.4, 0.5, 0.6)),
        "model.id_dropout": Choice((0.1, 0.3, 0.5, 0.6, 0.7)),
        "model.nearest": Choice((50, 100, 200)),
    },
    renamed=RENAMED,
)
