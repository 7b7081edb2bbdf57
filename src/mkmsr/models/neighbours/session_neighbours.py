"""`s-knn`, `v-sknn`, `stan`, `vstan`: the sessions most like this one vote for their items. Training-free.

One model, four settings classes: each paper is a choice of weights in the one sum that `VoteSettings` writes down.
Dimension letters: B sessions, V catalogue + 1.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from mkmsr.data.batching import SessionBatch
from mkmsr.data.sessions import SessionTable
from mkmsr.models.base import ModelSizes
from mkmsr.models.entry import Choice, ModelEntry, SearchSpace
from mkmsr.models.neighbours.indexed_sessions import RENAMED
from mkmsr.models.neighbours.session_index import SessionIndex, second_hop
from mkmsr.models.neighbours.voting import NO_DECAY, Decay, DecayKind, Votes, VoteSettings
from mkmsr.models.neighbours.voting_model import VOTING_SPACE, VotingConfig, VotingModel


class NeighbourConfig(VotingConfig):
    """What all neighbour models have in common."""

    neighbours: int = Field(default=500, ge=1)
    """k, the sessions that vote."""
    sample_size: int = Field(default=2500, ge=1)
    """m, the newest sessions that share an item with the prefix; the k come from these."""
    second_hop: float = Field(default=0.1, ge=0, le=1)
    """Weight of second-hop neighbours, in units of the highest vote: the neighbours of the best 10 items vote too, from
    a tenth of the sample, which fills lists where few sessions share an item. 0: none, as published."""

    def vote_settings(self) -> VoteSettings:
        """The weights that these settings stand for."""
        raise NotImplementedError


class SKNNConfig(NeighbourConfig):
    """S-KNN: `score(i) = sum of cos(s, n) over neighbours n with i`, sessions as sets of items.

    Source: Jannach, Ludewig, RecSys 2017, "When recurrent neural networks meet the neighborhood".
    """

    def vote_settings(self) -> VoteSettings:
        return VoteSettings(neighbours=self.neighbours, sample_size=self.sample_size)


class VSKNNConfig(NeighbourConfig):
    """V-SkNN: the newer an item of the prefix, the more it counts, in the similarity and in the vote.

    Source: Ludewig, Jannach, UMUAI 2018, "Evaluation of session-based recommendation algorithms", and the decays and
    idf of its public evaluation framework.
    """

    prefix_decay: DecayKind = "exponential"
    """Fall of a prefix item's weight in the similarity with its steps from the end. Differs: the paper's is "linear",
    place / length."""
    prefix_scale: float = Field(default=5.0, ge=0)
    """Of prefix_decay, in events: exp(-steps / scale), or 1 - steps / scale; 0 is the length of the prefix."""
    match_decay: DecayKind = "linear"
    """Fall of a neighbour's weight with the steps of the newest shared item."""
    match_scale: float = Field(default=10.0, ge=0)
    """Of match_decay, in events, alike. Source: the framework's 1 - steps / 10."""
    cosine: bool = True
    """Divide the similarity by the root of both sizes. Differs: the paper's dot product does not."""
    idf_weight: float = Field(default=0.0, ge=0)
    """Rare items get 1 + idf_weight * idf times the vote."""

    def vote_settings(self) -> VoteSettings:
        return VoteSettings(
            neighbours=self.neighbours,
            sample_size=self.sample_size,
            cosine=self.cosine,
            prefix_decay=Decay(self.prefix_decay, self.prefix_scale or None),
            match_decay=Decay(self.match_decay, self.match_scale or None),
            idf_weight=self.idf_weight,
        )


class STANConfig(NeighbourConfig):
    """STAN: exponential decays for the place in the prefix, the age of a neighbour and the place in the neighbour.

    Source: Garg et al., SIGIR 2019, "Sequence and time aware neighborhood for session-based recommendations".
    """

    neighbours: int = Field(default=200, ge=1)
    """k, the sessions that vote."""
    prefix_scale: float = Field(default=3.0, ge=0)
    """lambda_1, in events; 0: all items of the prefix alike."""
    age_scale: float = Field(default=50.0, ge=0)
    """lambda_2, in days (86,400 rows in a log without times); 0: old neighbours count like new ones."""
    gap_scale: float = Field(default=40.0, ge=0)
    """lambda_3, in events; 0: every item of a neighbour alike."""

    def vote_settings(self) -> VoteSettings:
        return VoteSettings(
            neighbours=self.neighbours,
            sample_size=self.sample_size,
            prefix_decay=_exponential(self.prefix_scale),
            age_decay=_exponential(self.age_scale),
            gap_decay=_exponential(self.gap_scale),
        )


class VSTANConfig(STANConfig):
    """VSTAN: STAN with V-SkNN's decay by the newest shared item and idf.

    Source: Ludewig et al., UMUAI 2021, "Empirical analysis of session-based recommendation algorithms".
    """

    prefix_scale: float = Field(default=10.0, ge=0)
    """lambda_1, in events; 0: all items of the prefix alike."""
    age_scale: float = Field(default=20.0, ge=0)
    """lambda_2, in days (86,400 rows in a log without times); 0: old neighbours count like new ones."""
    gap_scale: float = Field(default=20.0, ge=0)
    """lambda_3, in events; 0: every item of a neighbour alike."""
    match_scale: float = Field(default=2.0, ge=0)
    """Decay of a neighbour with the steps since the newest shared item, in events; 0: no decay."""
    cosine: bool = True
    """Divide the similarity by the root of both sizes."""
    idf_weight: float = Field(default=0.0, ge=0)
    """Rare items get 1 + idf_weight * idf times the vote."""

    def vote_settings(self) -> VoteSettings:
        return replace(
            super().vote_settings(),
            cosine=self.cosine,
            match_decay=_exponential(self.match_scale),
            idf_weight=self.idf_weight,
        )


class SessionNeighbours(VotingModel):
    """Score of an item: the summed votes of the k training sessions that are most like the prefix."""

    def __init__(self, config: NeighbourConfig, sizes: ModelSizes):
        super().__init__(config, sizes)
        self.config = config
        self.settings = config.vote_settings()
        self.index = SessionIndex(sizes.num_items + 1, by_age=self.settings.age_decay.kind != "none")

    def build(self, sessions: SessionTable) -> None:
        self.index.build(sessions)

    def votes(self, batch: SessionBatch) -> Votes:
        first = self._round(batch, self.settings)
        if self.config.second_hop == 0:
            return first
        rows, followers, settings = second_hop(first.summed(self.sizes.num_items + 1), self.settings)
        second = self._round(followers, settings)
        second = replace(second, rows=rows[second.rows])
        return first.plus_scaled(second, self.config.second_hop, len(batch), self.sizes.num_items + 1)

    def _round(self, batch: SessionBatch, settings: VoteSettings) -> Votes:
        votes, _ = self.index.raw_votes(self.index.neighbours(batch, settings), batch, settings)
        return votes


def _exponential(scale: float) -> Decay:
    return NO_DECAY if scale == 0 else Decay("exponential", scale)


_SPACE: SearchSpace = {
    **VOTING_SPACE,
    "model.neighbours": Choice((50, 100, 200, 500, 1000)),
    "model.sample_size": Choice((500, 1000, 2500, 5000)),
    "model.second_hop": Choice((0.0, 0.01, 0.05, 0.1, 0.2)),
}
_PREFIX_SCALES = Choice((0.5, 1.0, 2.0, 3.0, 5.0, 10.0))
_STAN_SPACE: SearchSpace = {
    **_SPACE,
    "model.prefix_scale": _PREFIX_SCALES,
    "model.age_scale": Choice((5.0, 10.0, 20.0, 50.0, 100.0)),
    "model.gap_scale": Choice((2.0, 5.0, 10.0, 20.0, 40.0)),
}
_IDF_SPACE: SearchSpace = {
    "model.cosine": Choice((False, True)),
    "model.idf_weight": Choice((0.0, 0.5, 1.0, 2.0)),
}

ENTRIES = {
    "s-knn": ModelEntry(
        config=SKNNConfig,
        model=SessionNeighbours,
        summary="items of the most similar sessions",
        source="Jannach and Ludewig, RecSys 2017",
        space=_SPACE,
        renamed=RENAMED,
    ),
    "v-sknn": ModelEntry(
        config=VSKNNConfig,
        model=SessionNeighbours,
        summary="neighbour sessions, newer prefix items count more",
        source="Ludewig and Jannach, UMUAI 2018",
        space={
            **_SPACE,
            "model.prefix_decay": Choice(("linear", "reciprocal", "exponential")),
            "model.prefix_scale": _PREFIX_SCALES,
            "model.match_decay": Choice(("none", "linear", "reciprocal", "exponential")),
            "model.match_scale": Choice((2.0, 5.0, 10.0)),
            **_IDF_SPACE,
        },
        renamed=RENAMED,
    ),
    "stan": ModelEntry(
        config=STANConfig,
        model=SessionNeighbours,
        summary="neighbour sessions weighted by sequence and time",
        source="Garg et al., SIGIR 2019",
        space=_STAN_SPACE,
        renamed=RENAMED,
    ),
    "vstan": ModelEntry(
        config=VSTANConfig,
        model=SessionNeighbours,
        summary="STAN with the decays of V-SkNN and idf",
        source="Ludewig et al., UMUAI 2021",
        space={**_STAN_SPACE, "model.match_scale": Choice((1.0, 2.0, 5.0, 10.0)), **_IDF_SPACE},
        renamed=RENAMED,
    ),
}
