from __future__ import annotations

import subprocess
import sys

import pytest

import mkmsr


def loaded_after(statement: str) -> set[str]:
    """Names of the top-level packages in memory after a statement in a fresh interpreter."""
    code = f"import sys; {statement}; print(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_public_names_are_listed_once() -> None:
    assert len(mkmsr.__all__) == len(set(mkmsr.__all__))
    assert set(mkmsr.__all__) <= set(dir(mkmsr))


@pytest.mark.parametrize("name", mkmsr.__all__)
def test_every_public_name_is_the_one_that_its_home_defines(name: str) -> None:
    public = getattr(mkmsr, name)
    assert public.__name__ == name
    assert getattr(sys.modules[public.__module__], name) is public


def test_the_errors_form_one_tree_under_the_public_base() -> None:
    errors = [getattr(mkmsr, name) for name in mkmsr.__all__ if name.endswith("Error")]
    assert len(errors) > 5
    assert all(issubclass(error, mkmsr.MkmsrError) for error in errors)


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
