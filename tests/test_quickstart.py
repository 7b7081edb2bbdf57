from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "examples" / "quickstart.py"


@pytest.mark.slow
def test_the_quickstart_runs_and_recommends(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, QUICKSTART], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("│ ") and "item-" in line] == list(
        "12345"
    )
    assert "v-sknn" in done.stdout
    assert (tmp_path / "runs" / "quickstart" / "bundle.json").is_file()


def test_the_readme_shows_the_quickstart_as_it_is() -> None:
    readme = ROOT / "README.md"
    if not readme.is_file():
        pytest.skip("there is no README")
    body = QUICKSTART.read_text(encoding="utf-8").split('"""\n', 1)[1].strip()
    assert body in readme.read_text(encoding="utf-8")
    assert len(body.splitlines()) <= 25
