"""Which settings a model gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mkmsr.errors import ConfigError
from mkmsr.paper.runs import RunOptions, experiment_settings


def test_settings_of_the_data_come_before_those_of_the_model_and_these_before_defaults(tmp_path: Path) -> None:
    def dim(data: str, model: str, settings: Path | None) -> Any:
        return experiment_settings(tmp_path / data, model, settings).model["dim"]

    (tmp_path / "shop").mkdir()
    (tmp_path / "narm.toml").write_text('[model]\nname = "narm"\ndim = 8\n', encoding="utf-8")
    (tmp_path / "shop" / "narm.toml").write_text('[model]\nname = "narm"\ndim = 4\n', encoding="utf-8")
    assert dim("shop", "narm", tmp_path) == 4
    assert dim("elsewhere", "narm", tmp_path) == 8
    assert dim("shop", "stamp", tmp_path) == dim("shop", "narm", None) == 100


def test_epochs_asked_for_come_before_those_of_a_settings_file(tmp_path: Path) -> None:
    text = '[model]\nname = "narm"\n[training]\nepochs = 7\nbatch_size = 64\n'
    (tmp_path / "narm.toml").write_text(text, encoding="utf-8")
    assert RunOptions(settings=tmp_path).experiment(tmp_path, "narm").training.epochs == 7
    asked = RunOptions(settings=tmp_path, epochs=1).experiment(tmp_path, "narm", patience=3).training
    assert (asked.epochs, asked.patience, asked.batch_size) == (1, 3, 64)


def test_a_settings_file_of_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "narm.toml").write_text('[model]\nname = "stamp"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="is for 'stamp', but its name says 'narm'"):
        experiment_settings(tmp_path, "narm", tmp_path)


def test_literal_settings_come_from_a_file_and_never_from_defaults(tmp_path: Path) -> None:
    (tmp_path / "talk").mkdir()
    (tmp_path / "talk" / "m-sr.toml").write_text('[model]\nname = "m-sr"\nscorer = "mlp"\n', encoding="utf-8")
    config = experiment_settings(tmp_path, "talk/m-sr", tmp_path)
    assert (config.name, config.model["scorer"]) == ("m-sr", "mlp")
    for folder in (tmp_path, None):
        with pytest.raises(ConfigError, match=r"'authors/m-sr' needs its settings file authors/m-sr\.toml"):
            experiment_settings(tmp_path, "authors/m-sr", folder)
