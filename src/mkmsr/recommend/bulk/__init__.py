"""Recommendations for millions of sessions: Parquet in, Parquet out, in several processes, and resumable."""

from __future__ import annotations

from mkmsr.recommend.bulk.job import BulkJob, BulkResult, recommend_in_bulk

__all__ = ["BulkJob", "BulkResult", "recommend_in_bulk"]
