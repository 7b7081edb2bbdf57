"""Recommendations from a model bundle: sessions and ids in, ranked ids out; a catalogue that may change meanwhile."""

from __future__ import annotations

from mkmsr.recommender.batch_ranker import BatchRanker
from mkmsr.recommender.explanation import Explanation
from mkmsr.recommender.filters import Condition, Filters, parse_condition
from mkmsr.recommender.live_catalogue import CatalogueChange
from mkmsr.recommender.recommender import Recommendations, RecommendedItem, Recommender
from mkmsr.recommender.session_input import Event, Session

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
