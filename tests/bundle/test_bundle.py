from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import safetensors.torch
import torch
from small_shop import fitted, small_shop

from mkmsr.bundle.format import write_header
from mkmsr.bundle.model_bundle import load_bundle, new_bundle, save_bundle
from mkmsr.data.batching import session_batches
from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import BundleError, MkmsrError
from mkmsr.models.registry import MODELS, model_entry

FILES = (
    "bundle.json",
    "weights.safetensors",
    "items.parquet",
    "operations.json",
    "attributes.parquet",
    "triples.parquet",
    "README.md",
)


@pytest.fixture(scope="module")
def shop() -> PreparedDataset:
    return small_shop()


def save(path: Path, shop: PreparedDataset, name: str = "mkm-sr", **settings: object) -> torch.nn.Module:
    config, model = fitted(name, shop, **({"dim": 8} if name in ("mkm-sr", "m-sr") else {}) | settings)
    metrics = {"test": {"metrics": {"hit@20": 0.5, "mrr@20": 0.25}}}
    save_bundle(path, new_bundle(model, name=name, config=config, dataset=shop, metrics=metrics))
    return model


@pytest.fixture
def bundle(tmp_path: Path, shop: PreparedDataset) -> Path:
    save(tmp_path / "bundle", shop)
    return tmp_path / "bundle"


def resign(bundle: Path, **changes: object) -> None:
    """What a forger can do: change files and header, and make every checksum right again."""
    header = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    header |= changes
    files = header.pop("files") if "files" in changes else None
    header.pop("sha256")
    write_header(bundle, header)
    if files is not None:
        content = json.loads((bundle / "bundle.json").read_text(encoding="utf-8")) | {"files": files}
        text = json.dumps({**content, "sha256": "0" * 64})
        digest = hashlib.sha256(text.encode()).hexdigest()
        (bundle / "bundle.json").write_text(text.replace("0" * 64, digest), encoding="utf-8")


@pytest.mark.parametrize("name", list(MODELS))
def test_a_loaded_model_scores_like_the_saved_one(name: str, tmp_path: Path, shop: PreparedDataset) -> None:
    model = save(tmp_path / "bundle", shop, name)
    loaded = load_bundle(tmp_path / "bundle")
    batch = next(session_batches(shop.evaluation_split("test").examples, 32))
    with torch.inference_mode():
        assert torch.equal(loaded.model.score(batch), model.score(batch))
    assert loaded.name == name
    assert not loaded.model.training


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux says what is mapped")
def test_processes_that_share_weights_map_one_file(tmp_path: Path, bundle: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    model, other = (load_bundle(bundle, share=share).model for _ in range(2))
    [file] = share.iterdir()
    mapped = Path("/proc/self/maps").read_text()
    assert mapped.count(str(file)) >= 2
    alone = load_bundle(bundle).model.state_dict()
    with torch.no_grad():
        next(model.parameters()).fill_(1.0)  # a copy of its own
    assert {name: torch.equal(each, alone[name]) for name, each in other.state_dict().items()} == dict.fromkeys(
        alone, True
    )


def test_a_bundle_keeps_vocabularies_knowledge_counts_and_facts(bundle: Path, shop: PreparedDataset) -> None:
    loaded = load_bundle(bundle)
    assert loaded.items == shop.items
    assert loaded.operations == shop.operations
    assert loaded.knowledge.relations == shop.knowledge.relations
    assert loaded.knowledge.attributes == shop.knowledge.attributes
    assert (loaded.knowledge.triples == shop.knowledge.triples).all()
    assert loaded.knowledge.describe_item(shop.items.index("コーヒー")) == {"colour": ["red"], "brand": ["brand-0"]}
    assert loaded.item_counts.sum() == loaded.operation_counts.sum() == shop.train.num_events
    assert loaded.max_session_events == shop.max_session_events
    assert loaded.metadata["data"]["fingerprint"] == shop.fingerprint
    assert loaded.metadata["metrics"]["test"]["metrics"]["hit@20"] == 0.5
    assert loaded.metadata["libraries"]["torch"].startswith(torch.__version__.split("+")[0])


def test_a_bundle_holds_the_documented_files_and_a_readable_card(bundle: Path) -> None:
    assert sorted(each.name for each in bundle.iterdir()) == sorted(FILES)
    card = (bundle / "README.md").read_text(encoding="utf-8")
    assert "# mkm-sr on small shop" in card
    assert "as a second task. Source: Meng, Yang, Xiao, SIGIR 2020." in card
    assert re.search(r"\| test +\| +50\.00 \| +25\.00 \|", card)
    assert "Recommender.load" in card


def test_a_log_without_knowledge_gives_a_bundle_without_knowledge_files(tmp_path: Path, shop: PreparedDataset) -> None:
    from dataclasses import replace

    from mkmsr.data.knowledge import KnowledgeGraph

    bare = replace(shop, knowledge=KnowledgeGraph.empty(len(shop.items)))
    save(tmp_path / "bundle", bare)
    assert not (tmp_path / "bundle" / "triples.parquet").exists()
    assert len(load_bundle(tmp_path / "bundle").knowledge) == 0


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_byte_in_any_file_is_found_and_named(name: str, bundle: Path) -> None:
    original = (bundle / name).read_bytes()
    for place in {0, 1, len(original) // 3, len(original) // 2, len(original) - 2, len(original) - 1}:
        altered = bytearray(original)
        altered[place] ^= 0x01
        (bundle / name).write_bytes(altered)
        with pytest.raises(BundleError, match=name) as caught:
            load_bundle(bundle)
        assert caught.value.path == bundle / name
    (bundle / name).write_bytes(original)
    load_bundle(bundle)


def test_an_altered_file_is_reported_with_both_checksums(bundle: Path) -> None:
    expected = json.loads((bundle / "bundle.json").read_text())["files"]["README.md"]["sha256"]
    text = (bundle / "README.md").read_text(encoding="utf-8")
    (bundle / "README.md").write_text(text.replace("Limits", "limits"), encoding="utf-8")
    with pytest.raises(BundleError, match=rf"README\.md.*expected sha256 {expected}, found [0-9a-f]{{64}}"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name: str, bundle: Path) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}"):
        load_bundle(bundle)


def test_a_truncated_file_is_named(bundle: Path) -> None:
    content = (bundle / "weights.safetensors").read_bytes()
    (bundle / "weights.safetensors").write_bytes(content[:-7])
    with pytest.raises(BundleError, match=rf"weights.safetensors.*expected {len(content)} bytes"):
        load_bundle(bundle)


def test_another_format_version_says_what_to_do(bundle: Path) -> None:
    resign(bundle, format_version=99)
    with pytest.raises(BundleError, match=r"use the release of mkmsr that wrote it.*expected 1, found 99"):
        load_bundle(bundle)


def test_an_unknown_model_is_named_with_the_nearest_known_one(bundle: Path) -> None:
    resign(bundle, model="mkm-rs")
    with pytest.raises(BundleError, match="no model 'mkm-rs', did you mean 'mkm-sr'"):
        load_bundle(bundle)


def test_an_unknown_setting_is_an_error(bundle: Path) -> None:
    resign(bundle, config={"dims": 8})
    with pytest.raises(BundleError, match=r"model\.dims: unknown key, did you mean 'dim'"):
        load_bundle(bundle)


def test_a_folder_without_a_bundle_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"there is no bundle\.json"):
        load_bundle(tmp_path)


def test_a_forged_size_is_refused_before_memory_is_taken(bundle: Path) -> None:
    sizes = json.loads((bundle / "bundle.json").read_text())["sizes"]
    resign(bundle, sizes={**sizes, "num_items": 10**12})
    with pytest.raises(BundleError, match="num_items differs"):
        load_bundle(bundle)


def test_forged_settings_are_refused_before_memory_is_taken(bundle: Path) -> None:
    config = json.loads((bundle / "bundle.json").read_text())["config"]
    resign(bundle, config={**config, "dim": 4096})
    with pytest.raises(BundleError, match=r"its settings ask for a tensor of \[4096, 4096\], more than its file holds"):
        load_bundle(bundle)
    resign(bundle, config={**config, "dim": 16})
    with pytest.raises(BundleError, match=r"has another shape \(expected \(37, 16\), found \(37, 8\)\)"):
        load_bundle(bundle)


@pytest.mark.parametrize("longest", [1, 0, -5])
def test_a_forged_length_of_sessions_is_refused(longest: int, bundle: Path) -> None:
    data = json.loads((bundle / "bundle.json").read_text())["data"]
    resign(bundle, data={**data, "max_session_events": longest})
    with pytest.raises(BundleError, match=f"'data.max_session_events' is wrong: .* equal to 2, found {longest}"):
        load_bundle(bundle)


@pytest.mark.parametrize("unlearnt", [7, {"colour": 7}, {"colour": {"ghost": ["red"]}}, {"colour": {"plain": "red"}}])
def test_forged_values_for_filters_are_refused(unlearnt: object, bundle: Path) -> None:
    resign(bundle, catalogue={"added": [], "retired": [], "unlearnt": unlearnt})
    with pytest.raises(BundleError, match=r"'catalogue\.unlearnt.* is wrong|an item that it lacks: 'ghost'"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "notes.txt"])
def test_a_bundle_cannot_make_us_read_other_files(name: str, bundle: Path) -> None:
    files = json.loads((bundle / "bundle.json").read_text())["files"]
    resign(bundle, files={**files, name: {"bytes": 1, "sha256": "1" * 64}})
    with pytest.raises(BundleError, match="lists a file that no bundle has"):
        load_bundle(bundle)


def test_forged_weights_that_are_not_numbers_are_refused(bundle: Path) -> None:
    tensors = safetensors.torch.load_file(bundle / "weights.safetensors")
    tensors["items.weight"][3, 2] = float("nan")
    (bundle / "weights.safetensors").write_bytes(safetensors.torch.save(tensors))
    resign(bundle)
    with pytest.raises(BundleError, match=r"items\.weight holds values that are not finite"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("model", "name", "forge", "message"),
    [
        (
            "compass",
            "vectors.by_item.rows",
            lambda rows: rows.index_fill(0, torch.tensor(3), -(2**40)),
            "do not rise from 0",
        ),
        ("compass", "vectors.by_attribute.rows", lambda rows: rows + 1, "do not rise from 0"),
        ("compass", "vectors.by_item.rows", lambda rows: rows[:-1].clone(), "its rows end at"),
        (
            "compass",
            "vectors.by_item.columns",
            lambda columns: columns + 10**6,
            "columns of attributes by item must be",
        ),
        ("compass", "vectors.by_item.values", lambda values: values.double(), "is of another type"),
        ("compass", "vectors.relation_of", lambda relations: relations - 1, "relations of attributes must be"),
        ("compass", "vectors.seen", lambda seen: seen[:-1].clone(), "buffers for other items and attributes"),
        ("compass", "similar.index.session_offsets", lambda offsets: offsets * 2**40, "its rows end at"),
        (
            "compass",
            "similar.index.item_offsets",
            lambda ends: torch.cat([ends[:1], ends]),
            "sessions of 38 items, not 37",
        ),
        ("compass", "similar.index.postings", lambda postings: postings + 1, "sessions by item must be"),
        ("stan", "index.ages", lambda ages: ages[:-1].clone(), "ages of"),
        ("compass", "vectors.seen", lambda seen: seen[:, None].clone(), "buffers for other items and attributes"),
        ("compass", "explore.popularity", lambda counts: counts[:-1].clone(), "popularity is of another shape"),
        ("compass", "explore.expected", lambda expected: expected[None].clone(), "expected is of another shape"),
        ("sr", "rules.rows", lambda offsets: offsets.flip(0), "do not rise from 0"),
        ("sr", "rules.columns", lambda items: items + 40, "columns of rules must be"),
    ],
)
def test_forged_buffers_that_read_elsewhere_are_refused(
    shop: PreparedDataset, tmp_path: Path, model: str, name: str, forge: Any, message: str
) -> None:
    bundle = tmp_path / "bundle"
    save(bundle, shop, model)
    weights = bundle / "weights.safetensors"
    tensors = safetensors.torch.load(weights.read_bytes())
    weights.write_bytes(safetensors.torch.save({**tensors, name: forge(tensors[name])}))
    resign(bundle)
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle)


def test_a_tensor_too_few_is_named(bundle: Path) -> None:
    tensors = safetensors.torch.load_file(bundle / "weights.safetensors")
    del tensors["items.weight"]
    (bundle / "weights.safetensors").write_bytes(safetensors.torch.save(tensors))
    resign(bundle)
    with pytest.raises(BundleError, match=r"other tensors than the model of this release \(lacks items\.weight\)"):
        load_bundle(bundle)


@pytest.mark.parametrize("model", ["v-sknn", "sr"])
def test_a_bundle_with_the_tensor_names_of_an_earlier_release_loads(
    shop: PreparedDataset, tmp_path: Path, model: str
) -> None:
    bundle = tmp_path / "bundle"
    save(bundle, shop, model)
    weights = bundle / "weights.safetensors"
    tensors = safetensors.torch.load(weights.read_bytes())
    old_names = sorted(
        ((new, old) for old, new in model_entry(model).renamed.items() if new), key=lambda each: -len(each[0])
    )
    older = {}
    for name, tensor in tensors.items():
        new, old = next((each for each in old_names if f".{each[0]}." in f".{name}."), ("", ""))
        older[name.replace(new, old) if new else name] = tensor
    assert older.keys() != tensors.keys()
    weights.write_bytes(safetensors.torch.save(older))
    resign(bundle)
    loaded = load_bundle(bundle).model.state_dict()
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_a_bundle_from_before_a_part_was_added_says_what_to_do(tmp_path: Path, shop: PreparedDataset) -> None:
    save(tmp_path / "bundle", shop, "compass")
    weights = tmp_path / "bundle" / "weights.safetensors"
    tensors = safetensors.torch.load(weights.read_bytes())
    older = {name: tensor for name, tensor in tensors.items() if name != "gates.sharpness"}
    weights.write_bytes(safetensors.torch.save(older))
    resign(tmp_path / "bundle")
    with pytest.raises(
        BundleError, match=r"lacks gates\.sharpness\): use the release of mkmsr that wrote it, or train"
    ):
        load_bundle(tmp_path / "bundle")


def test_a_bundle_with_settings_that_are_gone_says_what_to_do(tmp_path: Path, shop: PreparedDataset) -> None:
    save(tmp_path / "bundle", shop, "compass")
    config = json.loads((tmp_path / "bundle" / "bundle.json").read_text())["config"]
    resign(tmp_path / "bundle", config={**config, "explore": {"masks": 4}})
    with pytest.raises(BundleError, match=r"explore: unknown key.*; use the release of mkmsr that wrote it, or train"):
        load_bundle(tmp_path / "bundle")


def test_a_forged_file_that_unpacks_to_far_more_than_its_size_is_refused(bundle: Path) -> None:
    pl.DataFrame({"item": pl.repeat("x", 6_000_000, eager=True), "count": 1}).write_parquet(bundle / "items.parquet")
    resign(bundle)
    with pytest.raises(BundleError, match=r"items\.parquet: unpacks to far more than its .* bytes: to"):
        load_bundle(bundle)


def test_a_file_that_its_reader_stumbles_over_is_refused(bundle: Path) -> None:
    for name in ("items.parquet", "attributes.parquet", "triples.parquet"):
        original = (bundle / name).read_bytes()
        for place in (2, len(original) // 2, len(original) - 6, len(original) - 1):
            (bundle / name).write_bytes(original[:place])
            resign(bundle)
            with pytest.raises(BundleError, match=rf"{name}: not a Parquet file"):
                load_bundle(bundle)
        (bundle / name).write_bytes(original)


def test_loading_leaves_the_random_state_alone(bundle: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_bundle(bundle)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("late", [False, True])
def test_a_full_disk_leaves_the_old_bundle_intact(
    late: bool, bundle: Path, shop: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {each.name: each.read_bytes() for each in bundle.iterdir()}
    real = Path.write_text

    def full(self: Path, *arguments: object, **options: object) -> int:
        if self.name == "operations.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, *arguments, **options)  # type: ignore[arg-type]

    def full_after_all(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if late:
        monkeypatch.setattr(os, "fsync", full_after_all)
    else:
        monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(BundleError, match="cannot write the bundle: No space left on device"):
        save(bundle, shop, dim=4)
    assert {each.name: each.read_bytes() for each in bundle.iterdir()} == before
    assert [each.name for each in bundle.parent.iterdir()] == ["bundle"]


def test_saving_again_replaces_the_whole_bundle(bundle: Path, shop: PreparedDataset) -> None:
    save(bundle, shop, "pop")
    assert load_bundle(bundle).name == "pop"


def test_saving_over_something_else_is_refused(tmp_path: Path, shop: PreparedDataset) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match="not overwritten"):
        save(tmp_path, shop)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_bundle_can_be_moved(bundle: Path, tmp_path: Path) -> None:
    moved = tmp_path / "somewhere else"
    shutil.move(bundle, moved)
    assert load_bundle(moved).name == "mkm-sr"


def test_every_failure_is_one_of_ours(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("[1, 2")
    with pytest.raises(MkmsrError, match="not JSON any more"):
        load_bundle(tmp_path)
