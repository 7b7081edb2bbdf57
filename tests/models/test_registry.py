"""Every model is found by its name, and its file is read only when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mkmsr.errors import ConfigError
from mkmsr.models import baselines, mkm_sr
from mkmsr.models.neighbours import session_neighbours
from mkmsr.models.registry import MODELS, model_entry


def test_every_entry_of_a_file_with_several_is_registered() -> None:
    for module in (baselines, mkm_sr, session_neighbours):
        assert all(MODELS[name] is entry for name, entry in module.ENTRIES.items())


def test_an_unknown_name_is_compared_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no model 'zzz'; there are: .*; for a model of your own, MKMSR_MODELS"):
        model_entry("zzz")
    with pytest.raises(ConfigError, match="no model 'mkm-rs', did you mean 'mkm-sr'"):
        model_entry("mkm-rs")


def test_asking_for_one_model_reads_no_other() -> None:
    code = "import sys; from mkmsr.models.registry import MODELS; MODELS['pop']; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "mkmsr.models.baselines" in loaded
    assert not {"mkmsr.models.mkm_sr", "mkmsr.models.compass.model"} & set(loaded)


def test_tensors_of_bundles_of_earlier_releases_have_names_of_today() -> None:
    for model, earlier, now in (
        ("compass", "similar.index.by_item.postings", "similar.index.postings"),
        ("compass", "vectors.by_item.rows", "vectors.by_item.rows"),
        ("stan", "index.by_item.offsets", "index.item_offsets"),
        ("stan", "index.places", ""),
        ("sr", "rules.consequents", "rules.columns"),
    ):
        assert model_entry(model).present_name(earlier) == now
