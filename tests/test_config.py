"""Strict settings: what a wrong key, a wrong value and a wrong override say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

import pytest
from pydantic import Field, ValidationError, model_validator

from mkmsr.config import (
    StrictModel,
    apply_overrides,
    differences,
    dotted,
    laid_over,
    nested,
    read_toml,
    table_of,
    to_toml,
    validate,
)
from mkmsr.errors import ConfigError, MkmsrError


class Inner(StrictModel):
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    clip_norm: float | None = None


class Outer(StrictModel):
    dim: Annotated[int, Field(ge=1, le=4096)] = 100
    scorer: str = "dot"
    optimiser: Inner = Inner()


def message(values: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(Outer, values, prefix="model")
    return str(caught.value)


def test_an_unknown_key_is_named_with_the_nearest_right_one() -> None:
    assert message({"scorrer": "dot"}) == "model.scorrer: unknown key, did you mean 'scorer'?"


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    text = message({"optimiser": {"clip_norm": value}})
    assert text == f"model.optimiser.clip_norm: Input should be a finite number, found {value}"


def test_what_a_rule_of_ours_says_stands_alone() -> None:
    class Even(StrictModel):
        number: int = 2

        @model_validator(mode="after")
        def _is_even(self) -> Self:
            if self.number % 2:
                raise ValueError("number must be even")
            return self

    with pytest.raises(ConfigError, match=r"^model: number must be even, found \{'number': 3\}$"):
        validate(Even, {"number": 3}, prefix="model")


def test_an_unknown_nested_key_is_compared_with_the_keys_of_its_own_table() -> None:
    text = message({"optimiser": {"learning_rat": 1.0}})
    assert text == "model.optimiser.learning_rat: unknown key, did you mean 'learning_rate'?"


def test_a_key_that_belongs_further_down_is_told_its_table() -> None:
    assert message({"clip_norm": 1.0}) == "model.clip_norm: unknown key, did you mean 'model.optimiser.clip_norm'?"


def test_an_unknown_key_that_resembles_none_lists_them_all() -> None:
    assert message({"zzz": 1}) == "model.zzz: unknown key; known keys: dim, optimiser, scorer"


@pytest.mark.parametrize(("dim", "reason"), [(0, "greater than or equal to 1"), (5000, "less than or equal to 4096")])
def test_a_value_out_of_bounds_says_the_bound_and_the_value(dim: int, reason: str) -> None:
    text = message({"dim": dim})
    assert text.startswith("model.dim: ")
    assert reason in text
    assert text.endswith(f"found {dim}")


def test_a_value_of_the_wrong_type_is_named() -> None:
    assert "model.dim" in message({"dim": "many"})
    assert "'many'" in message({"dim": "many"})


def test_a_wrong_value_keeps_its_place_for_programs() -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Outer, {"optimiser": {"learning_rate": -1}}, path="run.toml")
    assert caught.value.key == "optimiser.learning_rate"
    assert caught.value.path == "run.toml"
    assert isinstance(caught.value, MkmsrError)


def test_settings_cannot_change_after_they_are_read() -> None:
    settings = validate(Outer, {})
    with pytest.raises(ValidationError):
        settings.dim = 3


def test_defaults_are_checked_too() -> None:
    class Wrong(StrictModel):
        dim: Annotated[int, Field(ge=1)] = 0

    with pytest.raises(ConfigError, match="dim"):
        validate(Wrong, {})


def test_overrides_are_read_as_toml_and_else_as_text() -> None:
    overrides = ["model.dim=64", "model.scorer=cosine", "training.rate = 1e-3", "training.on=true", "k=[5, 10]"]
    assert apply_overrides({"model": {"dim": 1, "steps": 2}}, overrides) == {
        "model": {"dim": 64, "steps": 2, "scorer": "cosine"},
        "training": {"rate": 0.001, "on": True},
        "k": [5, 10],
    }


def test_an_override_may_hold_an_equals_sign_and_spaces() -> None:
    assert apply_overrides({}, ["name=a = b"]) == {"name": "a = b"}
    assert apply_overrides({}, ["select=mrr@20"]) == {"select": "mrr@20"}


def test_overrides_leave_the_given_settings_alone() -> None:
    settings = {"model": {"dim": 1}}
    apply_overrides(settings, ["model.dim=2"])
    assert settings == {"model": {"dim": 1}}


@pytest.mark.parametrize("override", ["model.dim", "=3", "  =3"])
def test_an_override_that_is_no_assignment_shows_one_that_is(override: str) -> None:
    with pytest.raises(ConfigError, match=r"should read key=value, for example model\.dim=64"):
        apply_overrides({}, [override])


def test_an_override_through_a_value_says_which_is_no_table() -> None:
    with pytest.raises(ConfigError, match="'dim' is a value, not a table") as caught:
        apply_overrides({"model": {"dim": 1}}, ["model.dim.x=2"])
    assert caught.value.key == "model.dim.x"


def test_settings_survive_a_round_trip_through_toml(tmp_path: Path) -> None:
    settings = Outer(dim=7, scorer='with "quotes" and 漢字', optimiser=Inner(learning_rate=1e-7))
    path = tmp_path / "run.toml"
    path.write_text(to_toml(settings), encoding="utf-8")
    assert validate(Outer, read_toml(path)) == settings
    assert "clip_norm" not in read_toml(path)["optimiser"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: no such file"):
        read_toml(tmp_path / "absent.toml")


@pytest.mark.parametrize("content", [b"dim = = 3", b"\xff\xfe\x00"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.toml: not a TOML file"):
        read_toml(path)


def test_dotted_keys_and_nested_tables_are_the_same_settings() -> None:
    tables = {"model": {"dim": 8, "loss": {"kind": "bpr"}}, "seed": 1}
    flat = {"model.dim": 8, "model.loss.kind": "bpr", "seed": 1}
    assert dotted(tables) == flat
    assert nested(flat) == tables
    with pytest.raises(ConfigError, match="'dim' is a value, not a table"):
        nested({"model.dim": 8, "model.dim.inner": 9})


def test_one_table_laid_over_another_wins_value_by_value_and_changes_neither() -> None:
    below, above = {"model": {"dim": 8, "scale": 2}}, {"model": {"dim": 9}, "seed": 1}
    found = laid_over(below, above)
    assert found == {"model": {"dim": 9, "scale": 2}, "seed": 1}
    found["model"]["dim"] = 10
    assert (below, above) == ({"model": {"dim": 8, "scale": 2}}, {"model": {"dim": 9}, "seed": 1})
    assert laid_over({"model": {"dim": 8}}, {"model": 3}) == {"model": 3}


def test_differences_name_the_dotted_key_and_both_values() -> None:
    assert differences({"model": {"dim": 8}, "seed": 1}, {"model": {"dim": 9}, "seed": 1, "more": 2}) == [
        "model.dim is 8 there, 9 now",
        "more is None there, 2 now",
    ]


@pytest.mark.parametrize(
    "content",
    [
        f"[{'.'.join(['a'] * 500)}]",
        f"{'.'.join(['a'] * 100_000)} = 1",
        f"{'k' * 1_000_000} = 1",
        f"x = {'[' * 300}{']' * 300}",
        f"x = {'[' * 5000}{']' * 5000}",
        f"x = {'{a = ' * 2000}1{'}' * 2000}",
        f"x = {'9' * 5000}",
    ],
    ids=["tables", "dots", "key", "lists", "deeper lists", "inline tables", "digits"],
)
def test_a_file_of_another_size_or_depth_than_settings_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "odd.toml").write_text(content)
    with pytest.raises(ConfigError, match=r"odd\.toml: (nested deeper|too large|not a TOML file)") as caught:
        read_toml(tmp_path / "odd.toml")
    assert len(str(caught.value)) < len(str(tmp_path)) + 250


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000, "0x" + "f" * 9999])
@pytest.mark.parametrize("key", ["dim", "a." * 600 + "a"])
def test_an_override_of_another_size_or_depth_is_one_line(key: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Outer, apply_overrides({}, [f"{key}={value}"]))
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("value", ["mkm-sr", 5, ["mkm-sr"], [{"name": "mkm-sr"}]])
def test_a_value_in_place_of_a_table_is_named(value: Any) -> None:
    assert table_of({"training": {"epochs": 3}}, "model") == {}
    with pytest.raises(ConfigError, match=r"model: should be a table, \[model\]; found "):
        table_of({"model": value}, "model")
