from __future__ import annotations

import subprocess
import sys

import pytest

import mkmsr

PUBLIC = [
    "BundleError",
    "ConfigError",
    "DataError",
    "EvaluationError",
    "ExperimentConfig",
    "InteractionLog",
    "MkmsrError",
    "ModelBundle",
    "PrepareOptions",
    "PreparedDataset",
    "RankTable",
    "ReadOptions",
    "Recommendations",
    "RecommendedItem",
    "Recommender",
    "ServiceError",
    "SimulateOptions",
    "TrainingConfig",
    "TrainingError",
    "UnknownIdError",
    "evaluate",
    "evaluation_document",
    "load_bundle",
    "prepare",
    "read_log",
    "run_experiment",
    "save_bundle",
    "simulate",
    "statistics",
]


def loaded_after(statement: str) -> set[str]:
    """Names of the top-level packages in memory after a statement in a fresh interpreter."""
    code = f"import sys; {statement}; print(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_public_names_are_these() -> None:
    assert mkmsr.__all__ == PUBLIC == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_home(name: str) -> None:
    assert getattr(mkmsr, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = mkmsr.nothing


def test_importing_the_package_pulls_nothing_heavy() -> None:
    assert not loaded_after("import mkmsr") & {"torch", "polars", "numpy", "matplotlib", "starlette", "fastapi", "rich"}


def test_the_recommender_pulls_no_plotting_and_no_web_framework() -> None:
    loaded = loaded_after("from mkmsr import Recommender")
    assert "torch" in loaded
    assert not loaded & {"matplotlib", "starlette", "fastapi", "uvicorn", "cyclopts", "rich", "scipy", "sklearn"}


def test_the_command_line_starts_without_torch() -> None:
    loaded = loaded_after("import mkmsr.cli.app as cli; cli.run(['train', '--help'])")
    assert not loaded & {"torch", "polars", "matplotlib"}
