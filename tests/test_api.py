"""The programming interface in memory: frames in, models that fit and recommend, models of one's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import polars as pl
import pytest

import mkmsr
from mkmsr import MKMSR, VSKNN, Compass, Dataset, Model, Popularity, Recency, compare
from mkmsr.errors import BundleError, ConfigError, DataError, MkmsrError, NotFittedError

EVENTS = [
    (
        f"visitor-{visit}",
        f"sku-{(visit + step) % 9}",
        "click" if step % 2 else "cart",
        1_700_000_000 + 10_000 * visit + step,
    )
    for visit in range(60)
    for step in range(4)
]
COLUMNS = ["uid", "sku", "type", "ts"]
NAMES = {"user": "uid", "item": "sku", "operation": "type", "time": "ts"}
PRODUCTS = [(f"sku-{number}", f"brand-{number % 3}", 9.5 + number) for number in range(9)]

OWN_MODEL = """
import torch
from mkmsr.config import StrictModel
from mkmsr.models.base import SessionModel, mask_padding
from mkmsr.models.entry import ModelEntry
from mkmsr.models.registry import register


class MarkovConfig(StrictModel):
    smoothing: float = 0.1


class Markov(SessionModel):
    def __init__(self, config, sizes):
        super().__init__(sizes)
        self.config = config
        self.register_buffer("counts", torch.zeros(sizes.num_items + 1, sizes.num_items + 1))

    def observe(self, training):
        items = torch.from_numpy(training.sessions.items).long()
        same = torch.from_numpy(training.sessions.session_of_event)
        counts = torch.zeros_like(self.counts)
        follows = same[1:] == same[:-1]
        counts.index_put_((items[:-1][follows], items[1:][follows]), torch.ones(int(follows.sum())), accumulate=True)
        self.counts = counts + self.config.smoothing

    def score(self, batch):
        return mask_padding(self.counts[batch.items[batch.last]])


register("markov", ModelEntry(config=MarkovConfig, model=Markov, summary="what followed the last item", source="mine"))
"""


@pytest.fixture(scope="module")
def shop() -> Dataset:
    events = pl.DataFrame(EVENTS, schema=COLUMNS, orient="row")
    products = pl.DataFrame(PRODUCTS, schema=["sku", "brand", "price"], orient="row")
    return Dataset.from_frame(events, items=products, name="shop", **NAMES)


@pytest.fixture(scope="module")
def neighbours(shop: Dataset) -> VSKNN:
    return VSKNN().fit(shop)


def test_a_frame_becomes_sessions_and_triples(shop: Dataset) -> None:
    assert sorted(shop.items.ids) == [f"sku-{number}" for number in range(9)]
    assert sorted(shop.operations.ids) == ["cart", "click"]
    assert len(shop.knowledge) == 18
    assert shop.train.num_events + shop.validation.num_events + shop.test.num_events == len(EVENTS)
    assert isinstance(shop, mkmsr.PreparedDataset)


def test_a_pandas_frame_gives_the_same_data_as_polars(shop: Dataset) -> None:
    pd = pytest.importorskip("pandas")
    events = pd.DataFrame(EVENTS, columns=COLUMNS)
    events["ts"] = pd.to_datetime(events["ts"], unit="s")
    products = pd.DataFrame(PRODUCTS, columns=["sku", "brand", "price"])
    assert Dataset.from_frame(events, items=products, **NAMES).fingerprint == shop.fingerprint


def test_whole_floats_of_a_pandas_column_with_gaps_stay_ids() -> None:
    pd = pytest.importorskip("pandas")
    rows = [(f"v{visit}", float(100 + (visit + step) % 5)) for visit in range(40) for step in range(3)]
    events = pd.DataFrame([*rows, ("v0", float("nan"))], columns=["user", "item"])
    data = Dataset.from_frame(events)
    assert sorted(data.items.ids) == ["100", "101", "102", "103", "104"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item": "skq"}, "the frame of events, column 'skq': no such column, did you mean 'sku'.*; the frame has uid"),
        ({"user": None}, "no column 'session' or 'user'; say which one it is with user=NAME, one of uid, sku"),
    ],
)
def test_a_wrong_column_is_named(change: dict[str, str | None], message: str) -> None:
    events = pl.DataFrame(EVENTS, schema=COLUMNS, orient="row")
    with pytest.raises(DataError, match=message):
        Dataset.from_frame(events, **{**NAMES, **change})


def test_a_frame_of_items_says_which_columns_are_ids_or_only_shown() -> None:
    events = pl.DataFrame(EVENTS, schema=COLUMNS, orient="row")
    products = pl.DataFrame(PRODUCTS, schema=["code", "brand", "price"], orient="row")
    with pytest.raises(DataError, match=r'has code, brand, price; attribute_columns=\{"item": NAME\} says which one'):
        Dataset.from_frame(events, items=products, **NAMES)
    columns = {"item": "code", "display": "price"}
    data = Dataset.from_frame(events, items=products, attribute_columns=columns, **NAMES)
    assert data.knowledge.relations.ids == ["brand"]
    assert data.display["sku-3"] == {"price": "12.5"}


def test_a_dataset_and_a_model_are_shown_in_a_line(shop: Dataset, neighbours: VSKNN) -> None:
    sessions = f"train {len(shop.train)}, validation {len(shop.validation)}, test {len(shop.test)}"
    expected = f"<Dataset 'shop': sessions {sessions}; 9 items, 2 operations; relations brand, price>"
    assert repr(shop) == expected
    assert repr(neighbours) == "<VSKNN 'v-sknn', fitted>"
    assert repr(Model("pop")) == "<Model 'pop', not fitted>"


def test_a_frame_in_place_of_prepared_data_is_refused(neighbours: VSKNN) -> None:
    events = pl.DataFrame(EVENTS, schema=COLUMNS, orient="row")
    for call in (Recency().fit, neighbours.evaluate):
        with pytest.raises(DataError, match=r"should be a Dataset, found DataFrame; Dataset\.from_frame"):
            call(events)  # type: ignore[arg-type]


def test_an_unknown_option_of_preparation_names_the_nearest() -> None:
    events = pl.DataFrame(EVENTS, schema=COLUMNS, orient="row")
    with pytest.raises(ConfigError, match=r"new_item: .*did you mean 'new_items'"):
        Dataset.from_frame(events, **NAMES, new_item="keep")


def test_something_that_is_no_frame_is_refused() -> None:
    with pytest.raises(DataError, match="should be a frame of pandas, polars or the like, found list"):
        Dataset.from_frame([("a", "b")], item="sku")  # type: ignore[arg-type]


def test_a_file_is_read_as_the_program_reads_it(tmp_path: Path, shop: Dataset) -> None:
    path = tmp_path / "events.csv"
    pl.DataFrame(EVENTS, schema=COLUMNS, orient="row").write_csv(path)
    data = Dataset.from_files(path, reading={"columns": NAMES})
    assert data.items == shop.items


def test_a_fitted_model_recommends_what_follows(shop: Dataset) -> None:
    compass = Compass(dim=16, epochs=12, seed=1).fit(shop)
    found = compass.recommend([["sku-3", "click"], ["sku-4", "cart"]], k=3)
    frame = found.to_frame()
    assert frame.columns == ["rank", "item", "score"]
    assert frame["item"][0] == "sku-5"
    assert [len(each.items) for each in compass.recommend_many([["sku-1"], ["sku-2"]], k=2)] == [2, 2]


def test_the_same_seed_gives_the_same_model(shop: Dataset) -> None:
    first, again = (MKMSR(dim=8, epochs=2, seed=4).fit(shop) for _ in range(2))
    assert first.recommend(["sku-1"]).items == again.recommend(["sku-1"]).items


def test_an_evaluation_is_a_frame_of_metrics_with_intervals(shop: Dataset, neighbours: VSKNN) -> None:
    found = neighbours.evaluate(shop, ks=(1, 3))
    frame = found.to_frame()
    assert frame["metric"].to_list() == ["hit@1", "mrr@1", "ndcg@1", "hit@3", "mrr@3", "ndcg@3"]
    assert (frame["low"] <= frame["value"]).all()
    assert found.metrics["hit@1"] == pytest.approx((found.ranks.rank == 1).mean())


def test_models_are_compared_in_pairs_on_the_same_examples(shop: Dataset, neighbours: VSKNN) -> None:
    frame = compare([neighbours, Popularity().fit(shop)], shop).to_frame()
    row = frame.filter(run="pop", metric="mrr@20").to_dicts()[0]
    best = frame.filter(run="v-sknn", metric="mrr@20").to_dicts()[0]
    assert row["difference"] == pytest.approx(row["value"] - best["value"])
    assert row["difference_high"] < 0
    assert best["difference"] is None


def test_a_saved_model_recommends_the_same(shop: Dataset, neighbours: VSKNN, tmp_path: Path) -> None:
    again = Model.load(neighbours.save(tmp_path / "bundle"))
    assert again.name == "v-sknn"
    assert again.recommend(["sku-7"]).items == neighbours.recommend(["sku-7"]).items
    with pytest.raises(BundleError):
        Model.load(tmp_path)


def test_an_unfitted_model_says_what_to_do() -> None:
    with pytest.raises(NotFittedError, match=r"Recency is not fitted yet; call fit\(data\) first"):
        Recency().recommend(["sku-1"])


def test_an_unknown_setting_or_model_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no such setting, did you mean 'epochs'"):
        Compass(epoch=3)
    with pytest.raises(ConfigError, match="no model 'compas', did you mean 'compass'"):
        Model("compas")


def test_every_class_is_a_registered_model() -> None:
    classes = [getattr(mkmsr, name) for name in mkmsr.__all__]
    models = [each for each in classes if isinstance(each, type) and issubclass(each, Model) and each is not Model]
    assert len(models) == 21
    for each in models:
        assert each().name == each.registered


def test_fitting_never_reads_the_test(shop: Dataset) -> None:
    from dataclasses import replace

    other = replace(shop, test=shop.test.rows(0, 0))
    assert VSKNN().fit(other).recommend(["sku-1"]).items == VSKNN().fit(shop).recommend(["sku-1"]).items


@pytest.mark.slow
def test_a_model_of_ones_own_goes_through_the_command_line(tmp_path: Path, shop: Dataset) -> None:
    (tmp_path / "my_models.py").write_text(OWN_MODEL, encoding="utf-8")
    shop.save(tmp_path / "data")

    def run(*words: str) -> str:
        path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH", ""))))
        environment = {**os.environ, "MKMSR_MODELS": "my_models", "PYTHONPATH": path}
        command = [sys.executable, "-m", "mkmsr", *words, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "markov" in [each["name"] for each in json.loads(run("models"))]
    run("train", "data", "--model", "markov", "--out", "run")
    (tmp_path / "session.json").write_text('{"events": [{"item": "sku-3"}]}', encoding="utf-8")
    found = json.loads(run("recommend", "run/bundle", "--session", "session.json", "-k", "1"))
    assert found["items"][0]["item"] == "sku-4"


def test_a_module_of_models_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    environment = {**os.environ, "MKMSR_MODELS": "no_such_module"}
    done = subprocess.run(
        [sys.executable, "-m", "mkmsr", "models"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 1
    assert "MKMSR_MODELS names 'no_such_module'" in done.stderr
    assert "PYTHONPATH should name its folder" in done.stderr


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_pandas_are_read_in_every_resolution(shop: Dataset, unit: str) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(EVENTS, columns=COLUMNS)
    frame["ts"] = pandas.to_datetime(frame["ts"], unit="s").astype(f"datetime64[{unit}]")
    assert Dataset.from_frame(frame, **NAMES).test.times.tolist() == shop.test.times.tolist()


def test_ids_of_several_types_in_one_column_are_written_alike() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(EVENTS, columns=COLUMNS)
    numbers = [int(sku[-1]) for sku in frame["sku"]]
    frame["sku"] = [float(number) if row % 2 else str(number) for row, number in enumerate(numbers)]
    assert set(Dataset.from_frame(frame, **NAMES).items.ids) == {str(number) for number in range(9)}
    frame["sku"] = [UUID(int=number) for number in numbers]
    assert str(UUID(int=0)) in Dataset.from_frame(frame, **NAMES).items.ids


def test_a_column_of_values_and_lists_holds_values() -> None:
    pandas = pytest.importorskip("pandas")
    products = pandas.DataFrame({"sku": ["sku-1", "sku-2", "sku-3"], "tags": ["a", ["a", "b"], None]})
    data = Dataset.from_frame(pandas.DataFrame(EVENTS, columns=COLUMNS), **NAMES, items=products)
    assert set(data.knowledge.attributes.ids) == {"tags=a", "tags=b"}


def test_names_of_columns_need_not_be_text_but_must_be_distinct() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(EVENTS)
    assert len(Dataset.from_frame(frame, user=0, item=1, operation=2, time=3).items) == 9  # type: ignore[arg-type]
    frame.columns = ["user", "item", "item", "time"]
    with pytest.raises(DataError, match="the frame of events, column 'item': this name stands twice"):
        Dataset.from_frame(frame)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda data: Popularity().fit(data).evaluate(data, "tests"), "there is no split 'tests' to evaluate on"),
        (lambda data: Popularity().fit(data).evaluate(data, ks=[1.5]), "must be positive whole numbers"),
        (lambda data: Popularity().fit(data).evaluate(data, ks=5), "must be positive whole numbers"),
        (lambda data: compare(Popularity(), data), "models: should be a list of fitted models"),
        (lambda data: Popularity(seed="a"), "seed: should be a whole number, found 'a'"),
        (lambda data: Popularity(device="gpu"), "no device 'gpu'; for example cpu, cuda, cuda:1"),
        (lambda data: Model(3), "no model '3'"),
        (lambda data: Dataset.from_files("log.csv", reading=5), "reading: should be a mapping"),
        (lambda data: Dataset.from_frame(pl.DataFrame({"item": ["a"]}), multi=3), "multi"),
    ],
)
def test_a_wrong_argument_is_one_clear_error(shop: Dataset, call: Any, message: str) -> None:
    with pytest.raises(MkmsrError, match=message):
        call(shop)
