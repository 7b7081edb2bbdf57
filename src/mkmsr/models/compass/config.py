"""Settings of COMPASS."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mkmsr.config import StrictModel
from mkmsr.models.neighbours.session_index import VoteSettings
from mkmsr.models.neighbours.voting import Decay

__all__ = ["CompassConfig", "ExploreConfig", "RetrievalConfig"]


class RetrievalConfig(StrictModel):
    """How similar training sessions are found."""

    neighbours: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Sessions that vote."""
    sample_size: Annotated[int, Field(ge=1, le=100_000_000)] = 1000
    """The newest sessions that share an item with the prefix; the voters come from these."""
    age_scale: Annotated[float, Field(gt=0)] | None = None
    """Days in which a neighbour's weight falls to 1/e; absent: no decay."""
    gap_scale: Annotated[float, Field(gt=0)] | None = None
    """Events in which the weight of a neighbour's item falls to 1/e, from the shared item on; absent: no decay."""
    idf_weight: Annotated[float, Field(ge=0)] = 0.0
    """How much rare items are preferred."""
    kind_weight: Annotated[float, Field(ge=0)] = 0.3
    """How much it counts, beside shared items, that two sessions have similar items, with the same attributes
    throughout; 0: only shared items make neighbours."""
    exclude: Literal["own", "later"] = "own"
    """In training, leave out a prefix's own session, or also all that ended after it."""
    evidence: Annotated[float, Field(ge=0)] = 1.0
    """How much it raises an item's score in the explore component that similar sessions have it beside the session's
    own items, see `SimilarSessions`."""
    second_hop: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Weight, when scoring, of second-hop neighbours' votes and counts, see `second_hop`; votes in units of the highest
    one. Training goes without them: they change nothing there, and cost a tenth of an epoch. 0: none."""
    share_power: Annotated[float, Field(ge=0)] = 0.15
    """How much it lifts an item's final score which share of the similar sessions holds it, see `log_lifts`. Scoring
    alone knows lifts, as it does second-hop neighbours. 0: not at all."""
    near_power: Annotated[float, Field(ge=0)] = 0.3
    """How much it lifts the score that the item stood close to what they share with the session."""

    @property
    def lifts(self) -> bool:
        """Whether final scores are lifted."""
        return self.share_power > 0 or self.near_power > 0

    def settings(self) -> VoteSettings:
        """The weights that these settings stand for; places in the prefix decay linearly, as in V-SkNN."""
        return VoteSettings(
            neighbours=self.neighbours,
            sample_size=self.sample_size,
            prefix_decay=Decay("exponential", 2.0),
            match_decay=Decay("linear", 10.0),
            age_decay=Decay("none") if self.age_scale is None else Decay("exponential", self.age_scale),
            gap_decay=Decay("none") if self.gap_scale is None else Decay("exponential", self.gap_scale),
            idf_weight=self.idf_weight,
            kind_weight=self.kind_weight,
        )


class ExploreConfig(StrictModel):
    """What the score of any item of the catalogue is made of."""

    ids: bool = True
    """Whether items have vectors of their own."""
    attributes: bool = True
    """Whether item vectors are composed from attributes."""
    matching: bool = True
    """Whether an attribute that items of the session have too counts by itself, see `AttributeMatch`."""
    id_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.6
    """Share of items that stand without their id at a training step; none where they would have no vector at all."""
    popularity: Annotated[float, Field(ge=0)] = 0.3
    """Weight of log(1 + training events) of an item. A constant: learnt on the log that it counts, it would come out
    too high."""
    novelty: float = 2.5
    """Prior of a new item: what an item without a training event has instead of popularity, if it has attributes, see
    `Prior`. At the right value such items get, all together, the share of events that new items get in the log."""
    masks: Annotated[int, Field(ge=1, le=1024)] = 4
    """Dropout masks of the session's vector under which the catalogue is looked at when scoring; the mean counts. The
    whole vector alone (1) is surer of itself than what it has learnt allows."""
    recent_items: bool = True
    """Whether the session's vector has a direct path from its items, see `RecentItems`."""
    own_task: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of the training signal that is this component's own likelihood: what neighbours and copies explain is then
    still learnt by the vectors, which new items depend on."""


class CompassConfig(StrictModel):
    """Settings of COMPASS; every part is a switch."""

    explore: ExploreConfig = ExploreConfig()
    """The catalogue's component; it cannot be left out."""
    copy_past: bool = True
    """Whether the mixture has copies of the session's own events."""
    copy_task: Annotated[float, Field(ge=0)] = 0.3
    """Weight, in training, of telling whether the next item is one of the past, and which; likewise for earlier visits.
    Left to the mixture, the catalogue's softmax explains the repeats that it has overfitted, and the copies'
    weight comes out too low."""
    neighbours: bool = True
    """Whether the mixture has neighbour sessions."""
    earlier_visits: bool = False
    """Whether the items of a visitor's earlier sessions are a component of their own: for data that know them
    (`mkmsr prepare --visitors`), beside copies or neighbours."""
    operations: bool = True
    """Whether operations are encoded."""
    target_operation: bool = False
    """Whether the operation of the next event can be asked for, see `WantedOperation`."""
    knowledge: bool = False
    """Whether TransH is a second task, between id and attribute vectors."""
    dim: Annotated[int, Field(ge=1, le=4096)] = 100
    """Size of every vector."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of components dropped from item vectors that enter the encoder and from session vectors, in training."""
    retrieval: RetrievalConfig = RetrievalConfig()
    """How neighbour sessions are found."""

    @model_validator(mode="after")
    def _mixture_fits(self) -> Self:
        if self.earlier_visits and not (self.copy_past or self.neighbours):
            raise ValueError("earlier_visits needs a mixture: copy_past or neighbours must be on")
        return self
