"""mkmsr: session-based recommendation from micro-behaviours and item knowledge.

Every name is imported from its home when it is first used, so that `import mkmsr` itself takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkmsr.api import (
        EMBSR,
        FPMC,
        KMSR,
        MKMSR,
        MSR,
        NARM,
        RIB,
        SKNN,
        SRGNN,
        STAMP,
        STAN,
        VSKNN,
        VSTAN,
        Compass,
        Dataset,
        Evaluation,
        GRU4Rec,
        ItemKNN,
        Model,
        Popularity,
        Recency,
        SASRec,
        SequentialRules,
        SessionPopularity,
        compare,
    )
    from mkmsr.bundle.model_bundle import ModelBundle, load_bundle, save_bundle
    from mkmsr.data.dataset import PreparedDataset, statistics
    from mkmsr.data.log import InteractionLog
    from mkmsr.data.prepare import PrepareOptions, prepare
    from mkmsr.data.readers import ReadOptions, read_log
    from mkmsr.data.shop import SimulateOptions
    from mkmsr.data.simulate import simulate
    from mkmsr.errors import (
        BundleError,
        ConfigError,
        DataError,
        EvaluationError,
        MkmsrError,
        NotFittedError,
        ServiceError,
        TrainingError,
        UnknownIdError,
    )
    from mkmsr.evaluation.document import evaluation_document
    from mkmsr.evaluation.evaluator import evaluate
    from mkmsr.evaluation.ranks import RankTable
    from mkmsr.models.registry import register
    from mkmsr.recommend import Recommendations, RecommendedItem, Recommender
    from mkmsr.runs.config import ExperimentConfig
    from mkmsr.runs.experiment import run_experiment
    from mkmsr.training.config import TrainingConfig

__all__ = [
    "EMBSR",
    "FPMC",
    "KMSR",
    "MKMSR",
    "MSR",
    "NARM",
    "RIB",
    "SKNN",
    "SRGNN",
    "STAMP",
    "STAN",
    "VSKNN",
    "VSTAN",
    "BundleError",
    "Compass",
    "ConfigError",
    "DataError",
    "Dataset",
    "Evaluation",
    "EvaluationError",
    "ExperimentConfig",
    "GRU4Rec",
    "InteractionLog",
    "ItemKNN",
    "MkmsrError",
    "Model",
    "ModelBundle",
    "NotFittedError",
    "Popularity",
    "PrepareOptions",
    "PreparedDataset",
    "RankTable",
    "ReadOptions",
    "Recency",
    "Recommendations",
    "RecommendedItem",
    "Recommender",
    "SASRec",
    "SequentialRules",
    "ServiceError",
    "SessionPopularity",
    "SimulateOptions",
    "TrainingConfig",
    "TrainingError",
    "UnknownIdError",
    "compare",
    "evaluate",
    "evaluation_document",
    "load_bundle",
    "prepare",
    "read_log",
    "register",
    "run_experiment",
    "save_bundle",
    "simulate",
    "statistics",
]

_HOMES = {
    "bundle.model_bundle": ("ModelBundle", "load_bundle", "save_bundle"),
    "data.dataset": ("PreparedDataset", "statistics"),
    "data.log": ("InteractionLog",),
    "data.prepare": ("PrepareOptions", "prepare"),
    "data.readers": ("ReadOptions", "read_log"),
    "data.shop": ("SimulateOptions",),
    "data.simulate": ("simulate",),
    "errors": tuple(name for name in __all__ if name.endswith("Error")),
    "evaluation.document": ("evaluation_document",),
    "evaluation.evaluator": ("evaluate",),
    "evaluation.ranks": ("RankTable",),
    "models.registry": ("register",),
    "runs.config": ("ExperimentConfig",),
    "runs.experiment": ("run_experiment",),
    "recommend": ("Recommendations", "RecommendedItem", "Recommender"),
    "training.config": ("TrainingConfig",),
}
_HOME_OF = dict.fromkeys(__all__, "api") | {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("mkmsr")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
