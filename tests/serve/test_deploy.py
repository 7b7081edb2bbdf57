"""The files of `deploy` speak of options and metrics that there are."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from live import Live

from mkmsr.cli.app import run

DEPLOY = Path(__file__).parents[2] / "deploy"


def command_lines() -> list[list[str]]:
    unit = (DEPLOY / "mkmsr.service").read_text(encoding="utf-8")
    entry = (DEPLOY / "Containerfile").read_text(encoding="utf-8").partition("ENTRYPOINT ")[2]
    found = re.search(r"^ExecStart=\S+/mkmsr (.*)$", unit, flags=re.MULTILINE)
    assert found is not None
    return [shlex.split(found[1]), json.loads(entry)[1:]]


@pytest.mark.parametrize("words", command_lines(), ids=["systemd", "container"])
def test_the_command_is_understood_as_far_as_its_files(
    words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    here = [str(tmp_path) if before == "--state" else word for before, word in zip(["", *words], words, strict=False)]
    assert run(here) == 1  # Neither the keys nor the bundle are here; a wrong option would be status 2.
    assert "cannot be read as a file of keys" in capfd.readouterr().err


def test_the_dashboard_asks_for_metrics_that_there_are(live: Live) -> None:
    live.recommend(events=[], k=1)
    told = live.call("GET", "/metrics").text
    families = set(re.findall(r"^# TYPE (\w+)", told, flags=re.MULTILINE))
    panels = json.loads((DEPLOY / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    asked = {name for panel in panels for name in re.findall(r"mkmsr_\w+", panel["targets"][0]["expr"])}
    assert len(asked) >= 8
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in asked} <= families
    assert 'endpoint="/v1/recommendations"' in told


def test_prometheus_reads_the_scrape_configuration() -> None:
    [job] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:8421"]}]
