from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from small_shop import fitted, small_shop

from mkmsr.bundle.alignment import Continuation, carry_over
from mkmsr.bundle.model_bundle import ModelBundle, load_bundle, new_bundle, save_bundle
from mkmsr.cli.app import run
from mkmsr.data.batching import SessionBatch
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.log import InteractionLog
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.shop import SimulateOptions
from mkmsr.data.simulate import SimulatedLog, simulate
from mkmsr.errors import ConfigError
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.evaluation.ranks import RankTable
from mkmsr.evaluation.significance import paired_differences
from mkmsr.models.base import SessionModel, TrainingData
from mkmsr.runs.config import ExperimentConfig, new_model
from mkmsr.runs.experiment import run_experiment

NETWORKS = ("compass", "mkm-sr", "m-gru-sr", "embsr", "rib")


def bundle_of(name: str, dataset: PreparedDataset, folder: Path, **settings: object) -> ModelBundle:
    config, model = fitted(name, dataset, **{"dim": 8, **settings})
    return load_bundle(
        save_bundle(folder / name, new_bundle(model, name=name, config=config, dataset=dataset, metrics={}))
    )


def continued(dataset: PreparedDataset, earlier: ModelBundle) -> tuple[SessionModel, Continuation]:
    settings = ExperimentConfig.model_validate({"model": {"name": earlier.name, **earlier.config.model_dump()}})
    model = new_model(dataset, settings, 1)
    taken = carry_over(model, settings.settings(), dataset, earlier)
    model.observe(TrainingData(dataset.train, dataset.examples(dataset.train), dataset.knowledge))
    return model.eval(), taken


def scores(model: SessionModel, dataset: PreparedDataset, events: list[tuple[str, str]]) -> dict[str, float]:
    items = [dataset.items.index(item) for item, _ in events]
    operations = [dataset.operations.index(operation) for _, operation in events]
    with torch.no_grad():
        row = model.score(SessionBatch.from_sequences([(items, operations)]))[0, 1:]
    return dict(zip(dataset.items.ids, row.tolist(), strict=True))


def reordered(dataset: PreparedDataset) -> PreparedDataset:
    """The same log in the vocabularies of another preparation: half the sessions first, so that ids come otherwise."""
    sessions = small_shop_log()
    half = sessions["session_id"].unique().sort()[60]
    turned = sessions.with_columns(
        time=(pl.col("time") + pl.when(pl.col("session_id") < half).then(0).otherwise(-(10**7)))
    )
    return prepared(turned, dataset)


@cache
def small_shop_log() -> pl.DataFrame:
    shop = small_shop()
    table = shop.train.concatenate(shop.validation).concatenate(shop.test)
    return pl.DataFrame(
        {
            "session_id": [f"s{row:04d}" for row in table.session_of_event.tolist()],
            "item_id": [shop.items.id(item) for item in table.items.tolist()],
            "operation": [shop.operations.id(operation) for operation in table.operations.tolist()],
            "time": table.times,
        }
    )


def prepared(events: pl.DataFrame, shop: PreparedDataset) -> PreparedDataset:
    attributes = [
        (item, relation, value)
        for number, item in enumerate(reversed(shop.items.ids), start=1)
        for relation, values in shop.knowledge.describe_item(len(shop.items) + 1 - number).items()
        for value in values
    ]
    known = pl.DataFrame(attributes, schema=["item_id", "relation", "value"], orient="row")
    row = pl.int_range(pl.len(), dtype=pl.Int64).alias("row")
    log = InteractionLog(events.sort("time").with_columns(row).lazy(), known.with_columns(row).lazy(), name="later")
    return prepare(log, PrepareOptions(new_items="keep"))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_continued_model_scores_as_the_old_one_before_it_trains(name: str, tmp_path: Path) -> None:
    if name == "rib":
        pytest.importorskip("gensim")
    shop = small_shop()
    earlier = bundle_of(name, shop, tmp_path)
    other = reordered(shop)
    assert list(other.items.ids) != list(shop.items.ids)
    assert set(other.items.ids) == set(shop.items.ids)
    model, taken = continued(other, earlier)
    assert taken.items == (36, 36)
    assert taken.fresh_parameters == ()
    if name == "compass":  # Neighbours and popularity are those of the new log: the same network beside them.
        for each in (model, earlier.model):
            each.similar.index.build(shop.train.select(shop.train.items < 0))
            each.explore.popularity.zero_()
            each.vectors.seen.fill_(1)
    events = [("plain", "click"), ("item-07", "cart"), ("plain", "order")]
    assert scores(model, other, events) == pytest.approx(scores(earlier.model, shop, events), abs=1e-4)


def test_new_ids_start_fresh_and_old_ones_keep_their_rows(tmp_path: Path) -> None:
    shop = small_shop()
    earlier = bundle_of("compass", shop, tmp_path)
    events = small_shop_log().with_columns(
        item_id=pl.col("item_id").replace({"plain": "brand new", "item-07": "newer"}),
        operation=pl.col("operation").replace({"order": "wish"}),
    )
    later = prepared(events, shop)
    model, taken = continued(later, earlier)
    assert taken.items == (34, 36)
    assert taken.operations == (2, 3)
    old, new = dict(earlier.model.named_parameters()), dict(model.named_parameters())
    for table, now, before in (
        ("vectors.ids.weight", later.items, shop.items),
        ("vectors.attributes.weight", later.knowledge.attributes, shop.knowledge.attributes),
        ("encoder.operations.weight", later.operations, shop.operations),
    ):
        for name in now.ids:
            row = new[table][now.index(name)]
            assert (name in before) == (name in before and torch.equal(row, old[table][before.index(name)]))
            assert row.abs().sum() > 0
        assert new[table][0].abs().sum() == 0
    pairs = new["copying.pair.weight"].view(4, 4)
    assert pairs[later.operations.index("wish")].abs().sum() == 0


def test_an_item_that_the_new_training_lacks_keeps_its_vector(tmp_path: Path) -> None:
    shop = small_shop()
    earlier = bundle_of("compass", shop, tmp_path)
    index = shop.items.index("plain")
    later = replace(shop, train=shop.train.select(shop.train.items != index))
    model, _ = continued(later, earlier)
    assert model.vectors.seen[index] == 1
    assert model.explore.popularity[index] == 0


def test_another_model_or_other_settings_are_refused(tmp_path: Path) -> None:
    shop = small_shop()
    earlier = bundle_of("compass", shop, tmp_path)
    wider = ExperimentConfig.model_validate({"model": {"name": "compass", "dim": 16}})
    with pytest.raises(ConfigError, match=r"has shape .* go on with the settings of the bundle"):
        carry_over(new_model(shop, wider, 0), wider.settings(), shop, earlier)
    other = ExperimentConfig.model_validate({"model": {"name": "m-sr", "dim": 8}})
    with pytest.raises(ConfigError, match="the bundle holds 'compass', and training goes on with the same model"):
        carry_over(new_model(shop, other, 0), other.settings(), shop, earlier)


def test_a_bundle_that_knows_nothing_of_the_log_is_refused(tmp_path: Path) -> None:
    earlier = bundle_of("m-sr", small_shop(), tmp_path)
    row = pl.int_range(pl.len(), dtype=pl.Int64).alias("row")
    events = small_shop_log().with_columns(row, item_id=pl.format("elsewhere-{}", "item_id"))
    stranger = prepare(InteractionLog(events.lazy(), name="elsewhere"))
    with pytest.raises(ConfigError, match=r"the bundle knows none of the \d+ items .* of the same shop"):
        continued(stranger, earlier)


def test_what_was_taken_over_is_said_in_words() -> None:
    taken = Continuation((1_900, 2_000), (3, 3), (40, 41), ("gates.bias",))
    assert str(taken) == (
        "going on from the bundle, which knows 1,900 of 2,000 items, 3 of 3 operations, 40 of 41 attributes; fresh "
        "weights for gates.bias"
    )


def test_train_goes_on_from_a_bundle_with_its_settings(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shop = small_shop()
    bundle_of("compass", shop, tmp_path)
    shop.save(tmp_path / "data")
    call = ["train", str(tmp_path / "data"), "--from", str(tmp_path / "compass"), "--out", str(tmp_path / "run")]
    assert run([*call, "--epochs", "1", "--set", "model.id_dropout=0.1"]) == 0
    later = load_bundle(tmp_path / "run" / "bundle")
    assert later.config.dim == 8
    assert later.config.id_dropout == 0.1
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
    assert metrics["continued_from"]["fingerprint"] == shop.fingerprint
    capfd.readouterr()
    assert run([*call, "--model", "mkm-sr"]) == 2
    assert "the bundle holds compass" in " ".join(capfd.readouterr().err.split())


def test_retired_items_stay_retired_where_the_new_log_has_them(tmp_path: Path) -> None:
    shop = small_shop()
    earlier = replace(bundle_of("compass", shop, tmp_path), retired=frozenset({"plain", "long gone"}))
    settings: dict[str, Any] = {"model": {"name": "compass", "dim": 8}, "training": {"epochs": 1}}
    config = ExperimentConfig.model_validate(settings)
    run_experiment(shop, config, tmp_path / "run", report=False, start_from=earlier)
    assert load_bundle(tmp_path / "run" / "bundle").retired == {"plain"}


def window(log: SimulatedLog, begin: float, end: float) -> PreparedDataset:
    """The sessions of a share of the time that the log covers."""
    times = log.events["time"]
    low, high = (float(times.min()) + share * float(times.max() - times.min()) for share in (begin, end))
    return prepare(replace(log, events=log.events.filter(pl.col("time").is_between(low, high))).to_log())


@pytest.mark.slow
def test_going_on_week_by_week_is_not_worse_than_training_from_scratch(tmp_path: Path) -> None:
    log = simulate(SimulateOptions(sessions=1_600, items=200, seed=4))
    settings: dict[str, Any] = {"model": {"name": "compass", "dim": 16}, "training": {"epochs": 2}}
    config = ExperimentConfig.model_validate(settings)
    weeks = [window(log, begin, begin + 0.6) for begin in (0.0, 0.2, 0.4)]
    scratch = run_experiment(weeks[-1], config, tmp_path / "scratch", report=False)
    earlier = None
    for number, week in enumerate(weeks):
        run_experiment(week, config, tmp_path / str(number), report=False, start_from=earlier)
        earlier = load_bundle(tmp_path / str(number) / "bundle")
    assert earlier is not None
    tables = [RankTable.load(folder / "ranks.parquet") for folder in (tmp_path / "2", scratch.folder)]
    for metric in ("hit@20", "mrr@20"):
        difference = paired_differences(*tables)[metric]
        assert difference.high > 0  # Not worse beyond the interval.
    assert evaluate(earlier.model, weeks[-1].evaluation_split("test")).metrics()["mrr@20"] > 0.1
