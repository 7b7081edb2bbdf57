"""The flags of `mkmsr recommend` that filter and explain, on a small bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_shop import fitted, small_shop

from mkmsr.bundle.model_bundle import new_bundle, save_bundle
from mkmsr.cli.app import run
from mkmsr.data.dataset import PreparedDataset


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recommending")
    shop = small_shop()
    config, model = fitted("compass", shop, dim=8)
    return save_bundle(folder / "bundle", new_bundle(model, name="compass", config=config, dataset=shop, metrics={}))


@pytest.fixture
def recommend(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    sessions = tmp_path / "sessions.jsonl"
    sessions.write_text(json.dumps({"events": [{"item": "plain", "operation": "click"}, {"item": "item-03"}]}))

    def calling(*arguments: object) -> tuple[int, Any, str]:
        capfd.readouterr()
        status = run(["recommend", str(bundle), "--session", str(sessions), *map(str, arguments), "--json"])
        out, err = capfd.readouterr()
        return status, json.loads(out) if out else None, err

    return calling


def names(document: Any) -> list[str]:
    return [each["item"] for each in document["items"]]


def test_conditions_allow_lists_and_caps_are_flags(recommend: Any) -> None:
    _, everything, _ = recommend("-k", 40)
    _, red, _ = recommend("-k", 40, "--where", "colour=red", "brand!=brand-0")
    assert 0 < len(names(red)) < len(names(everything))
    assert names(red) == [each for each in names(everything) if each in set(names(red))]
    _, only, _ = recommend("--only", "item-07", "two words", "--exclude", "two words")
    assert names(only) == ["item-07"]
    _, capped, _ = recommend("-k", 40, "--at-most", "brand=1", "colour=1")
    assert len(names(capped)) <= 3


def test_what_the_visitor_touched_is_left_out_by_flags_and_lines(recommend: Any, bundle: Path, tmp_path: Path) -> None:
    _, everything, _ = recommend("-k", 40)
    _, found, _ = recommend("-k", 40, "--exclude-session")
    assert set(names(everything)) - set(names(found)) == {"plain", "item-03"}
    (tmp_path / "sessions.jsonl").write_text('{"events": [["plain", "order"], "item-03"], "exclude": ["item-07"]}')
    _, found, _ = recommend("-k", 40, "--exclude-operation", "order", "cart")
    assert set(names(everything)) - set(names(found)) == {"plain", "item-07"}
    assert run(["recommend", str(bundle), "--session", str(tmp_path / "sessions.jsonl"), "-k", "3"]) == 0


def test_ids_that_the_catalogue_lacks_are_named(recommend: Any) -> None:
    _, found, err = recommend("--only", "item-07", "nope", "--exclude", "never", "nowhere")
    assert names(found) == ["item-07"]
    assert "--only: no such item: 'nope'\n" in err
    assert "--exclude: no such items: 'never', 'nowhere'\n" in err


def test_facts_come_from_a_table(recommend: Any, tmp_path: Path) -> None:
    table = tmp_path / "today.csv"
    table.write_text("item,price,in_stock\nplain,12.50,yes\nitem-07,9,\nitem-08,30,no\n咖啡 <b>,11,yes\n", "utf-8")
    _, found, _ = recommend("--facts", table, "--where", "price=10..50", "in_stock!=no")
    assert sorted(names(found)) == ["plain", "咖啡 <b>"]
    table.write_text("item,price\nplain,9\nelsewhere,9\n")
    assert "1 of its items is not in the catalogue, the first is 'elsewhere'\n" in recommend("--facts", table)[2]
    table.write_text("item,price\nplain,1,2\n")
    status, _, err = recommend("--facts", table)
    assert (status, err) == (1, f"mkmsr: {table}, row 2: more fields than the file has columns\n")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--where", "colour"], 1, "'colour' is no condition; write for example category=shoes,boots"),
        (["--where", "color=red"], 1, "nothing is known under 'color', did you mean 'colour'?"),
        (["--at-most", "brand"], 2, "'brand' should read relation=number, for example brand=2"),
        (["--facts", "nowhere.csv"], 1, "nowhere.csv: no such file"),
    ],
)
def test_a_wrong_filter_is_a_clear_message(arguments: list[str], status: int, message: str, recommend: Any) -> None:
    found, _, err = recommend(*arguments)
    assert found == status
    assert message in " ".join(err.split())


def test_filters_that_leave_nothing_say_why_once(recommend: Any) -> None:
    status, found, err = recommend("--where", "colour=red,blue", "brand=elsewhere", "--only", "item-07", "nowhere")
    assert (status, names(found)) == (0, [])
    assert err.startswith(
        "--only: no such item: 'nowhere'\nno item passes all filters; of 36 items pass each one alone: "
    )
    assert "brand=elsewhere: 0 (it has brand-0, brand-1" in err
    assert "the allow-list: 1\n" in err


def test_unknown_operations_and_files_without_sessions_are_remarked_upon(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"events": [{"item": "item-03", "operation": "glance"}]}\n')
    assert run(["recommend", str(bundle), "--session", str(lines), "-k", "2"]) == 0
    assert "1 unknown operation counts as 'click'; known: cart, click, order" in capfd.readouterr().out
    lines.write_text("\n\n")
    assert run(["recommend", str(bundle), "--session", str(lines)]) == 0
    assert f"no session in {lines}\n" in capfd.readouterr().err


def test_explanations_come_in_numbers_and_in_words(
    recommend: Any, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, found, _ = recommend("-k", 3, "--explain")
    for each in found["items"]:
        assert each["explanation"]["item"] == each["item"]
        assert {"explore", "copy", "neighbours", "events", "attributes", "sessions"} <= set(each["explanation"])
    assert run(["recommend", str(bundle), "--session", str(tmp_path / "sessions.jsonl"), "-k", "3", "--explain"]) == 0
    out, err = capfd.readouterr()
    first = found["items"][0]
    assert first["explanation"]["sentence"] in " ".join((out + err).split())


def test_a_model_without_explanations_says_so_before_any_list(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config, model = fitted("recency", small_shop())
    save_bundle(tmp_path / "b", new_bundle(model, name="recency", config=config, dataset=small_shop()))
    (tmp_path / "one.jsonl").write_text('{"events": ["plain"]}')
    assert run(["recommend", str(tmp_path / "b"), "--session", str(tmp_path / "one.jsonl"), "--explain"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "model: 'recency' cannot be explained; compass can" in err


def test_what_is_only_shown_with_items_travels_with_them(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    named = {item: {"name": f"The {item}", "image": "data:image/png,x"} for item in ("plain", "item-07")}
    replace(small_shop(), display=named).save(tmp_path / "data")
    shop = PreparedDataset.load(tmp_path / "data")
    assert shop.display == named
    assert shop.fingerprint == small_shop().fingerprint
    config, model = fitted("pop", shop)
    bundle = save_bundle(tmp_path / "bundle", new_bundle(model, name="pop", config=config, dataset=shop, metrics={}))
    (tmp_path / "session.jsonl").write_text('{"events": [{"item": "plain"}]}\n')
    call = ["recommend", str(bundle), "--session", str(tmp_path / "session.jsonl"), "-k", "36"]
    assert run([*call, "--json"]) == 0
    listed = {each["item"]: each.get("display") for each in json.loads(capfd.readouterr().out)["items"]}
    assert listed["item-07"] == {"name": "The item-07", "image": "data:image/png,x"}
    assert listed["item-08"] is None
    assert run(call) == 0
    table = capfd.readouterr().out
    assert "name: The plain" in table
    assert "data:" not in table
