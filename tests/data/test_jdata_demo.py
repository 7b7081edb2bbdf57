"""The paper's Demo sample: every published fact, and the authors' own test examples."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from mkmsr.data.dataset import PreparedDataset, statistics
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import ReadOptions, read_log
from mkmsr.data.readers.jdata import OPERATIONS
from mkmsr.errors import ConfigError, DataError

FACTS = {
    "drop": {"sessions": 5_633, "events": 29_445, "items": 12_195, "test_sessions": 581, "test_examples": 1_648},
    "keep": {"sessions": 5_696, "events": 30_360, "items": 12_971, "test_sessions": 644, "test_examples": 2_447},
}
FOLDERS = {"drop": "no_new_item", "keep": "with_new_item"}


@pytest.fixture(scope="module", params=["drop", "keep"])
def variant(request, shared_data) -> tuple[str, PreparedDataset]:
    log = read_log("jdata-demo", shared_data / "jdata_demo")
    return request.param, prepare(log, PrepareOptions(new_items=request.param))


def examples_of(dataset: PreparedDataset) -> list[tuple[tuple[int, ...], tuple[int, ...], int]]:
    """Test examples in the authors' terms: external item numbers and operation types."""
    types = {name: int(number) for number, name in OPERATIONS.items()}
    item = [int(each) for each in dataset.items.ids]
    operation = [types[each] for each in dataset.operations.ids]
    table = dataset.examples(dataset.test)
    rows = []
    for begin, end, target in zip(table.begin, table.end, table.targets, strict=True):
        items = tuple(item[i - 1] for i in dataset.test.items[begin:end])
        operations = tuple(operation[o - 1] for o in dataset.test.operations[begin:end])
        rows.append((items, operations, item[target - 1]))
    return rows


def rows_of(path: Path) -> list[list[str]]:
    """The rows below the header of a table separated by tabs."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return [line.split("\t") for line in text.splitlines()[1:]]


def test_counts_are_those_of_the_paper(variant):
    kind, dataset = variant
    facts, counts = FACTS[kind], statistics(dataset)
    assert {key: counts[key] for key in ("sessions", "events", "items")} == {
        k: facts[k] for k in ("sessions", "events", "items")
    }
    assert (counts["test"]["sessions"], counts["test"]["examples"]) == (facts["test_sessions"], facts["test_examples"])
    assert counts["train_and_validation"] == {"sessions": 5_052, "events": 27_183, "examples": 20_993}
    assert (counts["relations"], counts["triples"], counts["operations"]) == (4, 4 * facts["items"], 4)


def test_shares_of_new_items_are_those_of_the_sample(variant):
    kind, dataset = variant
    test = statistics(dataset)["test"]
    expected = (0.0, 0.0) if kind == "drop" else (915 / 3_177, 746 / 2_447)
    assert (test["new_item_event_share"], test["new_item_target_share"]) == pytest.approx(expected)


def test_examples_equal_the_authors_own(variant, shared_data):
    kind, dataset = variant
    path = shared_data / "jdata_demo" / FOLDERS[kind] / "authors_test_examples.jsonl.gz"
    with gzip.open(path, "rt") as lines:
        theirs = [json.loads(line) for line in lines]
    wanted = Counter((tuple(each["items"]), tuple(each["operations"]), each["target"]) for each in theirs)
    assert Counter(examples_of(dataset)) == wanted


def test_knowledge_equals_the_authors_own(variant, shared_data):
    kind, dataset = variant
    folder = shared_data / "jdata_demo" / FOLDERS[kind]
    entity = {number: name for name, number, _ in rows_of(folder / "entity2id.gz")}
    relation = {number: name for name, number in rows_of(folder / "relation2id")}
    theirs = {(entity[h], relation[r], entity[t]) for h, t, r in rows_of(folder / "kg2id.gz")}
    ours = {
        (dataset.items.id(item), name, value)
        for item in range(1, len(dataset.items) + 1)
        for name, values in dataset.knowledge.describe_item(item).items()
        for value in values
    }
    assert ours == theirs
    assert list(dataset.knowledge.relations.ids) == ["item-brand", "item-shop", "item-cate", "item-years"]


def test_the_test_events_without_new_items_equal_the_published_file(variant, shared_data):
    kind, dataset = variant
    name = "test.csv.gz" if kind == "drop" else "test_new_item.csv.gz"
    with gzip.open(shared_data / "jdata_demo" / name, "rt") as lines:
        rows = [line.split(",") for line in list(lines)[1:]]
    theirs = Counter((row[2], OPERATIONS[row[3]], int(float(row[5]))) for row in rows)
    table = dataset.test
    ours = Counter(
        (dataset.items.id(int(item)), dataset.operations.id(int(operation)), int(time))
        for item, operation, time in zip(table.items, table.operations, table.times, strict=True)
    )
    assert ours == theirs


def test_validation_is_the_newest_tenth_of_training_by_session_end(variant):
    _, dataset = variant
    ends = [table.times[table.offsets[1:] - 1] for table in (dataset.train, dataset.validation)]
    assert ends[0].max() <= ends[1].min()
    assert 0.1 <= dataset.validation.num_events / 27_183 < 0.105


def authors_layout(shared: Path, folder: Path) -> Path:
    """The folder as in the authors' repository: no gzip, `relation2id` only for the variant without new items."""
    source = shared / "jdata_demo"
    for file in source.rglob("*"):
        if (
            file.is_file()
            and "authors_test" not in file.name
            and not (file.name == "relation2id" and file.parent.name == "with_new_item")
        ):
            target = folder / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".gz":
                target.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
            else:
                shutil.copy(file, target)
    return folder


def test_the_layout_of_the_authors_repository_gives_the_same_dataset(variant, shared_data, tmp_path):
    kind, dataset = variant
    log = read_log("jdata-demo", authors_layout(shared_data, tmp_path))
    assert prepare(log, PrepareOptions(new_items=kind)).fingerprint == dataset.fingerprint


class TestHandWritten:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        header = "action_time,user_id,sku_id,type,sessionId,index\n"
        (tmp_path / "train.csv").write_text(header + "x,1,10,1,7,1519862406.0\nx,1,11,5,7,1519862411.0\n")
        (tmp_path / "test_new_item.csv").write_text(header + "x,2,10,2,8,1519962406.0\nx,2,12,3,8,1519962411.0\n")
        (tmp_path / "entity2id").write_text(
            "entity\tid\ttype\n0\t0\t0\n10\t1\titem\n11\t2\titem\n12\t3\titem\n900\t4\tbrand\n"
        )
        (tmp_path / "relation2id").write_text("relation\tid\nitem-brand\t1\n")
        (tmp_path / "kg2id").write_text("head\ttail\trelation\n1\t4\t1\n3\t4\t1\n")
        return tmp_path

    def test_knowledge_may_lie_beside_the_events(self, folder):
        dataset = prepare(read_log("jdata-demo", folder), PrepareOptions(new_items="keep", validation_share=0))
        assert list(dataset.items.ids) == ["10", "11", "12"]
        assert list(dataset.operations.ids) == ["click", "cart", "order", "follow"]
        assert dataset.knowledge.describe_item(3) == {"item-brand": ["900"]}

    def test_a_missing_file_is_named_with_its_alternatives(self, folder):
        (folder / "kg2id").unlink()
        with pytest.raises(DataError, match=r"lacks with_new_item/kg2id or kg2id \(also with .gz\)"):
            read_log("jdata-demo", folder)

    def test_an_unknown_operation_type_is_located(self, folder):
        path = folder / "train.csv"
        path.write_text(path.read_text().replace(",5,", ",9,"))
        with pytest.raises(DataError, match=r"train.csv, row 3, column 'type': found '9', should be 1 to 5"):
            read_log("jdata-demo", folder)

    def test_a_bad_time_is_located(self, folder):
        path = folder / "train.csv"
        path.write_text(path.read_text().replace("1519862411.0", "noon"))
        with pytest.raises(DataError, match=r"train.csv, row 3, column 'index': found 'noon', should be unix seconds"):
            read_log("jdata-demo", folder)

    def test_a_triple_of_an_unnamed_entity_is_located(self, folder):
        with (folder / "kg2id").open("a") as file:
            file.write("99\t4\t1\n")
        with pytest.raises(DataError, match=r"kg2id, row 4, column 'head': number '99' has no name"):
            read_log("jdata-demo", folder)

    def test_options_for_other_readers_are_refused(self, folder):
        with pytest.raises(ConfigError, match=r"columns: the reader 'jdata-demo' has no use for this option"):
            read_log("jdata-demo", folder, ReadOptions(columns={"item": "sku_id"}))
