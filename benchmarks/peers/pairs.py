"""Which of our models stands beside which model of another library, and with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_SAME_PLAN: dict[str, Any] = {
    "batch_size": 128,
    "epochs": 30,
    "optimiser": {"name": "adam", "learning_rate": 1e-3, "schedule": "constant"},
}
"""Both sides: Adam at 0.001, batches of 128 examples, at most 30 epochs. Ours shuffles whole sessions where that is the
model's default, the other examples."""

_HOPWISE: dict[str, Any] = {
    "train_batch_size": 128,
    "learner": "adam",
    "learning_rate": 1e-3,
    "embedding_size": 100,
    "train_neg_sample_args": None,
}
_ONE_NEGATIVE = {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0}


@dataclass(frozen=True)
class Pair:
    """Two implementations of one model.

    Args:
        label: What tables call the model.
        library: "hopwise" or "cornac".
        peer: The library's name of the model.
        peer_settings: The library's settings.
        model: Our registered name.
        settings: Our settings of the model, where they are not its defaults.
        training: Our settings of training, where they are not the model's defaults.
        hook: For Cornac: what the model asks its data for once an epoch.
        peer_epochs: Most epochs of the library's side, where it needs more than ours may have.
    """

    label: str
    library: str
    peer: str
    peer_settings: Mapping[str, Any]
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    hook: str = "s_iter"
    peer_epochs: int | None = None


@dataclass(frozen=True)
class Habits:
    """What hopwise does unless it is told otherwise, and what of it a comparison leaves to it.

    Args:
        default_padding: Fill prefixes up to hopwise's default of 50 events, as it does itself where it cuts sessions
            into prefixes; those that it reads from files it fills up to the longest.
        gradient_checks: Leave PyTorch's anomaly detection on, as hopwise does: loading its models turns it on for the
            whole process (`model/sequential_recommender/sine.py`).
    """

    default_padding: bool = False
    gradient_checks: bool = True


USUAL = Habits()
"""Prefixes as long as the longest one of the files, and gradients checked."""

PAIRS: dict[str, Pair] = {
    "hopwise-sr-gnn": Pair(
        "SR-GNN", "hopwise", "SRGNN", {**_HOPWISE, "step": 1}, "sr-gnn", training={**_SAME_PLAN, "epochs": 8}
    ),
    "hopwise-narm": Pair(
        "NARM",
        "hopwise",
        "NARM",
        {**_HOPWISE, "hidden_size": 100, "dropout_probs": [0.25, 0.5]},
        "narm",
        {"dropout": 0.25, "session_dropout": 0.5},
        _SAME_PLAN,
    ),
    "hopwise-stamp": Pair(
        "STAMP", "hopwise", "STAMP", {**_HOPWISE, "learning_rate": 5e-3}, "stamp", training=_SAME_PLAN
    ),
    "hopwise-fpmc": Pair(
        "FPMC",
        "hopwise",
        "FPMC",
        {**_HOPWISE, "train_neg_sample_args": _ONE_NEGATIVE},
        "fpmc",
        training=_SAME_PLAN,
    ),
    "cornac-gru4rec": Pair(
        "GRU4REC",
        "cornac",
        "GRU4Rec",
        {
            "layers": [100],
            "batch_size": 32,
            "loss": "cross-entropy",
            "dropout_p_embed": 0.5,
            "dropout_p_hidden": 0.3,
            "learning_rate": 0.1,
        },
        "gru4rec",
    ),
    "cornac-fpmc": Pair(
        "FPMC",
        "cornac",
        "FPMC",
        {"embedding_dim": 100, "batch_size": 128},
        "fpmc",
        hook="sessions",
        peer_epochs=80,
    ),
}
