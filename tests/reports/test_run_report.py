"""The HTML report of a run."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mkmsr.errors import DataError, EvaluationError
from mkmsr.reports.run_report import write_run_report

HOSTILE = '<script>alert("1")</script>'
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """A page taken apart: text by tag, attributes, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[tuple[str, str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append((self.open[-1], " ".join(data.split())))

    def words(self) -> str:
        return " ".join(text for tag, text in self.text if tag != "style")


@pytest.fixture(scope="module")
def page(reported_run: Path) -> Page:
    return Page((reported_run / "report.html").read_text(encoding="utf-8"))


def test_the_page_is_whole_and_asks_nothing_of_the_network(page: Page) -> None:
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object"}
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/svg+xml,"))
    style = " ".join(text for tag, text in page.text if tag == "style")
    assert not re.search(r"@import|url\(", style)


def test_hostile_and_foreign_ids_are_shown_as_text(page: Page) -> None:
    words = page.words()
    assert HOSTILE in words
    assert "add <to> cart" in words
    assert "物品 & 其他" in words


def test_the_headline_has_intervals_and_the_baselines_stand_beside_it(page: Page, reported_run: Path) -> None:
    document = json.loads((reported_run / "metrics.json").read_text())["test"]
    low, high = document["intervals"]["mrr@20"]
    words = page.words()
    assert f"MRR@20 {100 * document['metrics']['mrr@20']:.2f} % [{100 * low:.1f}, {100 * high:.1f}]" in words
    assert re.search(r"\+\d+\.\d\d points over recency, the best baseline \(p = 0\.\d+\)", words)
    rows = [text for tag, text in page.text if tag == "th"]
    assert {"mkm-sr (reference)", "pop", "recency", "repeat (60)", "new item (48)", "seen (144)"} <= set(rows)


def test_a_run_by_itself_is_compared_with_nothing(make_run: Any) -> None:
    words = Page(write_run_report(make_run("lonely"), samples=100).read_text("utf-8")).words()
    assert "Metrics, per cent [95 % interval over sessions] model Hit@20 MRR@20" in words
    assert not {"difference", "Difference:", "(reference)", "Holm"} & set(words.split())


def test_the_verdict_is_a_sentence_and_tells_visitors_and_repetition(page: Page, reported_run: Path) -> None:
    document = json.loads((reported_run / "metrics.json").read_text())["test"]
    words = page.words()
    assert "mkm-sr finds the most: mkm-sr has the next item among its first 20 in" in words
    assert f"{round(20 * document['metrics']['hit@5'])} of 20 visitors found their next item in the first five" in words
    marks = [attributes for tag, attributes in page.tags if tag == "span" and attributes == {"class": "found"}]
    assert len(marks) == round(20 * document["metrics"]["hit@5"])
    repeats = document["slices"]["repeat"]["hit@20"] * 60 / (document["metrics"]["hit@20"] * 240)
    assert f"Of the items found in the first 20, {100 * repeats:.0f} % were in the session already" in words


def test_products_are_shown_with_their_pictures_unless_the_network_has_them(page: Page) -> None:
    pictures = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert pictures == ["data:image/svg+xml,%3Csvg/%3E"] * 2  # what came next, and its place below the list
    assert "example.org" not in page.words()


def test_a_single_run_or_epoch_is_not_drawn_as_a_single_dot(make_run: Any) -> None:
    folder = make_run("short")
    history = (folder / "history.jsonl").read_text(encoding="utf-8")
    (folder / "history.jsonl").write_text(history.splitlines()[0] + "\n", encoding="utf-8")
    page = write_run_report(folder, samples=100).read_text(encoding="utf-8")
    assert "<svg" not in page
    assert "Learning curves" not in page
    assert "pip install" not in page


def test_a_continued_run_is_run_again_from_its_bundle(make_run: Any) -> None:
    folder = make_run("next week")
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({**metrics, "continued_from": {"name": "shop"}}))
    words = Page(write_run_report(folder, samples=100).read_text("utf-8")).words()
    assert "fingerprint above, BUNDLE the model that this training went on from" in words
    assert "--config 'next week/config.toml' --seed 7 --from BUNDLE --refit --out 'next week-again'" in words


def test_the_example_session_shows_events_recommendations_and_what_came_next(page: Page) -> None:
    words = page.words()
    assert "Missed: the next item is not among the recommendations" in words
    assert "ranked 321 of 999" in words
    assert "✓ came next Kettle & co € 24.90 the one" in words
    assert "new item" in words
    marked = [attributes for tag, attributes in page.tags if tag == "li" and attributes.get("class") == "target"]
    assert len(marked) == 1
    assert "red (shared with the session)" in words


def test_data_settings_and_the_way_to_run_it_again_are_stated(page: Page) -> None:
    words = page.words()
    assert "sessions 1,234" in words
    assert "test targets that are new items 20.00 %" in words
    assert 'name = "mkm-sr"' in words
    assert "mkmsr train DATA --model mkm-sr --config shop/config.toml --seed 7 --refit --out shop-again" in words
    assert "fitted again on training and validation sessions, for the 2 epochs that validation chose" in words
    assert "3 epochs ; validation chose epoch 2" in words.replace("epochs;", "epochs ;")


def test_a_run_that_keeps_its_last_epoch_does_not_say_that_validation_chose_it(make_run: Any) -> None:
    folder = make_run("planned")
    metrics = json.loads((folder / "metrics.json").read_text())
    planned = {**metrics, "best_epoch": 3, "config": {"training": {"keep": "last"}}}
    (folder / "metrics.json").write_text(json.dumps(planned))
    words = Page(write_run_report(folder, samples=100).read_text("utf-8")).words()
    assert "fitted again on training and validation sessions, for the same 3 epochs" in words
    assert "3 epochs, of which the last is kept as the settings ask" in words
    assert "epoch kept, the last one 3 of 3" in words
    assert "validation chose" not in words


def test_the_page_can_be_read_without_seeing_it(page: Page) -> None:
    assert ("html", {"lang": "en"}) in page.tags
    figures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(figures) == 3
    assert all(each["role"] == "img" and each["aria-label"] for each in figures)
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert sum(tag == "caption" for tag, _ in page.tags) == tables
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(attributes["aria-labelledby"] in ids for tag, attributes in page.tags if tag == "section")


@pytest.mark.slow
@pytest.mark.parametrize("width", [420, 1280])
def test_the_page_fits_a_phone_and_a_desk(chrome: Any, reported_run: Path, width: int) -> None:
    chrome.get((reported_run / "report.html").as_uri())
    size = {"width": width, "height": 1100, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
        assert [each for each in chrome.get_log("browser") if each["level"] != "INFO"] == []
    finally:
        chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_figures_are_also_written_as_files(reported_run: Path) -> None:
    written = sorted(path.name for path in (reported_run / "figures").iterdir())
    assert written == ["curves.svg", "metrics.svg", "slices.svg"]


def test_a_report_is_redrawn_with_the_baselines_that_it_had(make_run: Any) -> None:
    run, pop = make_run("shop"), make_run("pop", "pop", 0.1, trained=False)
    first = write_run_report(run, baselines=[pop], samples=200).read_text(encoding="utf-8")
    for path in pop.iterdir():
        path.unlink()
    assert write_run_report(run, samples=200).read_text(encoding="utf-8") == first
    other = make_run("recency", "recency", 0.3, trained=False)
    write_run_report(run, baselines=[other], samples=200)
    again = write_run_report(run, samples=200).read_text(encoding="utf-8")
    assert "recency" in again
    assert ">pop<" not in again


def test_baselines_that_were_run_inside_the_folder_are_found_and_not_copied(make_run: Any) -> None:
    run = make_run("shop")
    (run / "baselines").mkdir()
    pop = make_run("shop/baselines/pop", "pop", 0.1, trained=False)
    given = write_run_report(run, baselines=[pop], samples=200).read_text(encoding="utf-8")
    assert write_run_report(run, samples=200).read_text(encoding="utf-8") == given
    assert [path.name for path in (run / "baselines").iterdir()] == ["pop"]


def test_baselines_of_an_earlier_run_on_other_data_are_not_shown(make_run: Any) -> None:
    run = make_run("shop")
    write_run_report(run, baselines=[make_run("pop", "pop", 0.1, trained=False)], samples=200)
    for path in make_run("newer", examples=120).glob("[mr]*s.*"):
        path.rename(run / path.name)
    page = write_run_report(run).read_text(encoding="utf-8")
    assert "120 examples of the test split" in page
    assert ">pop<" not in page


def test_a_model_that_is_not_trained_has_a_report_too(make_run: Any) -> None:
    page = Page(write_run_report(make_run("pop", "pop", 0.1, trained=False)).read_text(encoding="utf-8"))
    assert page.open == []
    words = page.words()
    assert "Learning curves" not in words
    assert "Example sessions" not in words
    assert "mkmsr train DATA --model pop --seed 7 --out pop-again" in words


def test_without_matplotlib_the_page_says_how_to_get_figures(make_run: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = Page(write_run_report(make_run("shop")).read_text(encoding="utf-8"))
    assert page.open == []
    assert "pip install 'mkmsr[plots]'" in page.words()


def test_a_baseline_over_other_examples_is_refused_and_the_old_report_stays(make_run: Any) -> None:
    run = make_run("shop")
    old = write_run_report(run).read_text(encoding="utf-8")
    with pytest.raises(EvaluationError, match="cannot be compared: examples is 240 against 120"):
        write_run_report(run, baselines=[make_run("pop", "pop", 0.1, examples=120)])
    assert (run / "report.html").read_text(encoding="utf-8") == old


@pytest.mark.parametrize("name", ["config.toml", "metrics.json"])
def test_a_file_of_a_run_that_is_no_text_is_named(make_run: Any, name: str) -> None:
    run = make_run("shop")
    (run / name).write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=rf"{name}: cannot be read as text"):
        write_run_report(run)


def test_a_folder_that_holds_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        write_run_report(tmp_path)
