"""The package as users get it: installed from the project's folder into an empty environment, used outside of it."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

NOTEBOOK = """
import pandas as pd
from mkmsr import Compass, Dataset

visits = [(f"v{visit}", f"sku-{(visit + step) % 9}", "click") for visit in range(60) for step in range(4)]
events = pd.DataFrame(visits, columns=["visitor", "sku", "action"])
products = pd.DataFrame({"sku": [f"sku-{n}" for n in range(9)], "brand": list("abcabcabc")})
data = Dataset.from_frame(events, item="sku", operation="action", user="visitor", items=products)
print(Compass(dim=8).fit(data).recommend([("sku-1", "click")], k=3).to_frame().shape)
"""

OWN_MODEL = """
import torch
from mkmsr.config import StrictModel
from mkmsr.models.base import SessionModel, mask_padding
from mkmsr.models.entry import ModelEntry
from mkmsr.models.registry import register


class Settings(StrictModel):
    pass


class FirstItem(SessionModel):
    def __init__(self, config, sizes):
        super().__init__(sizes)

    def score(self, batch):
        scores = torch.zeros(len(batch), self.sizes.num_items + 1)
        scores[:, 1] = 1.0
        return mask_padding(scores)


register("first-item", ModelEntry(config=Settings, model=FirstItem, summary="always the first item", source="mine"))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment; the requirements are read from the one that runs the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [scripts / "python", "-m", "pip", "install", "--quiet", "--no-deps", ROOT]
    done = subprocess.run(pip, capture_output=True, text=True, env=_clean(), check=False)
    if done.returncode and "setuptools" in done.stderr:
        pytest.skip("the build requirements cannot be installed here")
    assert done.returncode == 0, done.stderr
    place = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    (Path(place) / "zz_requirements.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return scripts


def _clean(**more: str) -> dict[str, str]:
    return {**{key: value for key, value in os.environ.items() if key != "PYTHONPATH"}, **more}


def run(command: list[object], folder: Path, **environment: str) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=_clean(**environment), check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installed_package_is_not_the_checkout(program: Path, tmp_path: Path) -> None:
    home = run([program / "python", "-c", "import mkmsr; print(mkmsr.__file__)"], tmp_path)
    assert str(program.parent) in home
    assert str(ROOT / "src") not in home


def test_the_readme_example_runs_outside_the_checkout(program: Path, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "example.py").write_text(readme.partition("```python\n")[2].partition("```")[0], encoding="utf-8")
    assert "compass" in run([program / "python", "example.py"], tmp_path)
    assert (tmp_path / "runs" / "quickstart" / "bundle.json").is_file()


def test_a_script_on_a_pandas_frame_runs_outside_the_checkout(program: Path, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    (tmp_path / "notebook.py").write_text(NOTEBOOK, encoding="utf-8")
    assert "(3, 3)" in run([program / "python", "notebook.py"], tmp_path)


def test_a_model_of_ones_own_goes_through_the_installed_program(program: Path, tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text(OWN_MODEL, encoding="utf-8")
    own = {"MKMSR_MODELS": "my_models", "PYTHONPATH": str(tmp_path)}
    mkmsr = program / "mkmsr"
    run([mkmsr, "simulate", "--sessions", "200", "--items", "50", "--out", "shop"], tmp_path)
    run([mkmsr, "prepare", "events", "shop/events.parquet", "--out", "data"], tmp_path)
    run([mkmsr, "train", "data", "--model", "first-item", "--out", "run"], tmp_path, **own)  # with its report
    (tmp_path / "session.json").write_text('{"events": [{"item": "item-00001"}]}', encoding="utf-8")
    answer = run([mkmsr, "recommend", "run/bundle", "--session", "session.json", "--json"], tmp_path, **own)
    assert len(json.loads(answer)["items"]) == 20
