"""Recommendations from a model bundle: sessions and ids in, ranked ids out; a catalogue that may change meanwhile."""

from __future__ import annotations

from mkmsr.recommend.explanation import Explanation
from mkmsr.recommend.filters import Condition, Filters, parse_condition
from mkmsr.recommend.live_catalogue import CatalogueChange
from mkmsr.recommend.ranker import Ranker
from mkmsr.recommend.recommender import Recommendations, RecommendedItem, Recommender
from mkmsr.recommend.sessions import Event, Session, SessionEncoder

__all__ = [
    "CatalogueChange",
    "Condition",
    "Event",
    "Explanation",
    "Filters",
    "Ranker",
    "Recommendations",
    "RecommendedItem",
    "Recommender",
    "Session",
    "SessionEncoder",
    "parse_condition",
]
