"""Settings of COMPASS: the same for every log; what differs between logs is learnt."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mkmsr.config import StrictModel


class CompassConfig(StrictModel):
    """Settings of COMPASS; every part is a switch."""

    ids: bool = True
    """Whether items have vectors of their own."""
    attributes: bool = True
    """Whether item vectors are composed from attributes too, and shared attributes count."""
    operations: bool = True
    """Whether operations are encoded."""
    copy_past: bool = True
    """Whether the mixture has copies of the session's own events."""
    neighbours: bool = True
    """Whether the mixture has similar sessions, and scores have their evidence."""
    earlier_visits: bool = False
    """Whether the items of a visitor's earlier sessions are a component of their own: for data that know them
    (`mkmsr prepare --visitors`)."""
    target_operation: bool = False
    """Whether the operation of the next event can be asked for, see `WantedOperation`."""
    dim: Annotated[int, Field(ge=1, le=4096)] = 100
    """Size of every vector."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of components dropped from item vectors that enter the encoder and from session vectors, in training."""
    id_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.6
    """Share of items that stand without their id at a training step; none where they would have no vector at all."""
    nearest: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Similar sessions that vote."""
    sample_size: Annotated[int, Field(ge=1, le=100_000_000)] = 1000
    """The newest sessions that share an item with the session; the voters come from these."""
