"""The worked examples of the documents run as they stand."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def python_blocks(name: str) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", (DOCS / name).read_text("utf-8"), re.MULTILINE | re.DOTALL))


def printed(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the Python blocks of a document print, run in a folder."""
    monkeypatch.chdir(folder)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(python_blocks(name), name, "exec"), {})
    return out.getvalue().splitlines()


@pytest.mark.slow
def test_a_new_item_appears_in_the_right_sessions_within_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown, similar, other, retired, cheap, excluded = printed("live_catalogue.md", tmp_path, monkeypatch)
    assert unknown == "left out: {'colour=mint': 1}"
    near, far = (int(line.rpartition(" ")[2]) for line in (similar, other))
    assert near <= 20
    assert far > 120
    assert retired == "after it is sold out: False"
    assert excluded == "bought and excluded items: set()"
    assert cheap == "under 50 and not sold out: True"
    assert (tmp_path / "runs" / "live" / "tonight" / "bundle.json").is_file()


def test_the_explanations_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed("explanations.md", tmp_path, monkeypatch)
    assert len(lines) == 3
    assert all(re.fullmatch(r"item-\d+: .* \(explore \d+%, copy \d+%, neighbours \d+%\)", line) for line in lines)
