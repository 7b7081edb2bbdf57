"""Recommendations from a model bundle: sessions and ids in, ranked ids out; a catalogue that may change meanwhile."""

from __future__ import annotations

from mkmsr.recommend.batch_ranker import BatchRanker
from mkmsr.recommend.explanation import Explanation
from mkmsr.recommend.filters import Condition, Filters, parse_condition
from mkmsr.recommend.live_catalogue import CatalogueChange
from mkmsr.recommend.recommender import Recommendations, RecommendedItem, Recommender
from mkmsr.recommend.session_input import Event, Session

__all__ = [
    "BatchRanker",
    "CatalogueChange",
    "Condition",
    "Event",
    "Explanation",
    "Filters",
    "Recommendations",
    "RecommendedItem",
    "Recommender",
    "Session",
    "parse_condition",
]
