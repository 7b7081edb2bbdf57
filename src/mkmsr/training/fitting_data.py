"""What a model may learn from of a prepared dataset: models themselves know nothing of datasets and their files."""

from __future__ import annotations

from mkmsr.data.dataset import PreparedDataset
from mkmsr.models.base import TrainingData

__all__ = ["fitting_data"]


def fitting_data(dataset: PreparedDataset, *, refit: bool = False) -> TrainingData:
    """Train, or for a refit train and validation, with their examples and all triples."""
    sessions = dataset.fitting_sessions(refit=refit)
    return TrainingData(sessions, dataset.examples(sessions), dataset.knowledge, dataset.expects_new_items)
