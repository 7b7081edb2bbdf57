"""`s-knn`, `v-sknn`, `stan`, `vstan`: the sessions most like this one vote for their items. Training-free.

One model, four settings classes: each paper is a choice of weights in the one sum that `VoteSettings` writes down.
Dimension letters: B sessions, V catalogue + 1.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from mkmsr.data.batching import SessionBatch
from mkmsr.models.base import ModelSizes, TrainingData
from mkmsr.models.neighbour_index import SessionIndex, VoteSettings
from mkmsr.models.voting import NO_DECAY, Decay, DecayKind, Votes, VotingConfig, VotingModel

__all__ = ["NeighbourConfig", "SKNNConfig", "STANConfig", "SessionNeighbours", "VSKNNConfig", "VSTANConfig"]


class NeighbourConfig(VotingConfig):
    """What all neighbour models have in common."""

    neighbours: int = Field(default=100, ge=1)
    """k, the sessions that vote."""
    sample_size: int = Field(default=1000, ge=1)
    """m, the newest sessions that share an item with the prefix; the k come from these."""

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

    prefix_decay: DecayKind = "linear"
    """Weight of a prefix item in the similarity: place / length with "linear", 1 / (steps + 1) with "reciprocal"."""
    match_decay: DecayKind = "linear"
    """Weight of a neighbour by the steps since the newest shared item: 1 - steps / 10 with "linear"."""
    cosine: bool = False
    """Divide the similarity by the root of both sizes, which the published dot product does not."""
    idf_weight: float = Field(default=0.0, ge=0)
    """Rare items get up to 1 + idf_weight * idf times the vote."""

    def vote_settings(self) -> VoteSettings:
        scale = {"linear": 10.0, "exponential": 2.0}
        return VoteSettings(
            neighbours=self.neighbours,
            sample_size=self.sample_size,
            cosine=self.cosine,
            prefix_decay=Decay(self.prefix_decay, 2.0 if self.prefix_decay == "exponential" else None),
            match_decay=Decay(self.match_decay, scale.get(self.match_decay)),
            idf_weight=self.idf_weight,
        )


class STANConfig(NeighbourConfig):
    """STAN: exponential decays for the place in the prefix, the age of a neighbour and the place in the neighbour.

    Source: Garg et al., SIGIR 2019, "Sequence and time aware neighborhood for session-based recommendations".
    """

    prefix_scale: float | None = Field(default=2.0, gt=0)
    """lambda_1, in events; None: all items of the prefix alike."""
    age_scale: float | None = Field(default=20.0, gt=0)
    """lambda_2, in days (86,400 rows in a log without times); None: old neighbours count like new ones."""
    gap_scale: float | None = Field(default=5.0, gt=0)
    """lambda_3, in events; None: every item of a neighbour alike."""

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

    match_scale: float | None = Field(default=5.0, gt=0)
    """Decay of a neighbour with the steps since the newest shared item, in events; None: no decay."""
    cosine: bool = True
    """Divide the similarity by the root of both sizes."""
    idf_weight: float = Field(default=0.0, ge=0)
    """Rare items get up to 1 + idf_weight * idf times the vote."""

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
        self.index = SessionIndex(sizes.num_items + 1)

    def observe(self, training: TrainingData) -> None:
        self.remember(training.sessions)
        self.index.build(training.sessions)

    def votes(self, batch: SessionBatch) -> Votes:
        return self.index.raw_votes(self.index.neighbours(batch, self.settings), batch, self.settings)


def _exponential(scale: float | None) -> Decay:
    return NO_DECAY if scale is None else Decay("exponential", scale)
