"""JD's raw files, small and with every quirk: expected output written down by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from raw_files import events_of, triples_of, write

from mkmsr.cli.app import run
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import ReadOptions, read_log
from mkmsr.errors import ConfigError, DataError

ACTIONS = """user_id,sku_id,action_time,module_id,type
937922,357022,2018-02-04 08:28:15,8107857,1
937922,73916,2018-02-04 08:27:07,6628481,1
1369568,1108,2018-02-04 09:28:14,8107857,2
937922,357022,2018-02-04 09:28:15,8107857,5
937922,357022,2018-02-04 10:28:16,8107857,4

937922,99,2018-02-04 10:28:16,8107857,3
"""
PRODUCTS = """sku_id,brand,shop_id,cate,market_time
357022,6302,2399,79,2015-07-02 11:19:04.0
73916,10,2399,8,
1108,,7,8,2018-01-31 00:00:00
5,1,1,1,not a date
"""
SHOPS = """vender_id,shop_id,fans_num,vip_num,shop_reg_tm,cate,shop_score
3666,2399,17556,60398,2014-04-03 00:00:00.0,20.0,9.142081
3667,7,1,1,,,-1.0
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    files = {"jdata_action.csv": ACTIONS, "jdata_product.csv.gz": PRODUCTS, "jdata_shop.csv": SHOPS}
    return write(tmp_path, files)


def test_actions_are_events_with_named_operations_in_order_of_time(folder):
    assert events_of(read_log("jdata", folder), "user_id") == [
        ("937922", "73916", "click", 1517732827),
        ("937922", "357022", "click", 1517732895),
        ("1369568", "1108", "order", 1517736494),
        ("937922", "357022", "cart", 1517736495),
        ("937922", "357022", "comment", 1517740096),
        ("937922", "99", "follow", 1517740096),
    ]


def test_products_have_the_papers_four_relations(folder):
    assert triples_of(read_log("jdata", folder)) == [
        ("357022", "brand", "6302"),
        ("73916", "brand", "10"),
        ("5", "brand", "1"),
        ("357022", "shop", "2399"),
        ("73916", "shop", "2399"),
        ("1108", "shop", "7"),
        ("5", "shop", "1"),
        ("357022", "category", "79"),
        ("73916", "category", "8"),
        ("1108", "category", "8"),
        ("5", "category", "1"),
        ("357022", "launch_year", "2015"),
        ("1108", "launch_year", "2018"),
    ]


def test_the_main_category_of_the_shop_is_a_relation_on_request(folder):
    log = read_log("jdata", folder, ReadOptions(relations=("shop_category", "brand")))
    assert triples_of(log)[:2] == [("357022", "shop_category", "20.0"), ("73916", "shop_category", "20.0")]


def test_the_shops_are_not_needed_otherwise(folder):
    (folder / "jdata_shop.csv").unlink()
    assert len(triples_of(read_log("jdata", folder))) == 13


def test_a_pause_of_more_than_an_hour_ends_a_session(folder):
    dataset = prepare(read_log("jdata", folder), PrepareOptions(test_share=0, validation_share=0))
    # 08:27:07, 08:28:15 and 09:28:15 (exactly an hour later) are one; 10:28:16 is a second more.
    assert [len(dataset.train.session(each)[0]) for each in range(len(dataset.train))] == [3, 2]
    assert [dataset.items.id(int(item)) for item in dataset.train.session(1)[0]] == ["357022", "99"]


GOLDEN_ACTIONS = b"""\xef\xbb\xbfuser_id,sku_id,action_time,module_id,type
1,10,2018-02-01 10:00:00,7,1
1,11,2018-02-01 11:00:00,7,1
1,10,2018-02-01 12:00:01,7,1
1,11,2018-02-01 12:00:01,7,2
1,11,2018-02-01 12:00:01,7,2
2,11,2018-02-01 12:30:00,,5
2, 10,2018-02-01 12:20:00,,1
2,10,2018-02-01 12:20:00,,1

3,12,2018-02-01 13:00:00,7,1
3,10,2018-02-01 13:00:05,7,3
3,13,2018-02-01 13:00:06,7,9
3,caf\xe9,2018-02-01 13:00:07,7,1
3,12,2018-02-01 13:00:08,7,4,extra
,12,2018-02-01 13:00:08,7,4
3,12,yesterday,7,4
4,10,2018-02-02 09:00:00,7,1
4,12,2018-02-02 09:00:10,7,1
4,11,2018-02-02 09:00:20,7,4
5,12,2018-02-02 08:59:00,7,1
5,99,2018-02-02 09:30:00,7,1
5,12,2018-02-02 09:40:00,7,2
""".replace(b"\n", b"\r\n")
GOLDEN_PRODUCTS = b"""sku_id,brand,shop_id,cate,market_time
10,6302.0,2399,79,2015-07-02 11:19:04.0
11,"a, ""b"" c",,79,
12,,2399,8,2018-01-31 00:00:00
13,1,1,1,2018-01-31 00:00:00
"""
GOLDEN = {
    "train": [
        # 10:00:00 and exactly an hour later are one session; an hour and a second later begins the next.
        [("10", "click", "10:00:00"), ("11", "click", "11:00:00")],
        # Of one second, the order of the rows counts; of a double, one is left.
        [("10", "click", "12:00:01"), ("11", "order", "12:00:01")],
        # The time decides over the order of the rows; an id with a space in front is another id, and too rare.
        [("10", "click", "12:20:00"), ("11", "cart", "12:30:00")],
        [("12", "click", "13:00:00"), ("10", "follow", "13:00:05")],
    ],
    # The session that ends last is the test: it began before the one that validation holds, over the split in time.
    "validation": [[("10", "click", "09:00:00"), ("12", "click", "09:00:10"), ("11", "comment", "09:00:20")]],
    "test": [[("12", "click", "08:59:00"), ("12", "order", "09:40:00")]],
}
GOLDEN_TRIPLES = {
    "10": {"brand": ["6302.0"], "shop": ["2399"], "category": ["79"], "launch_year": ["2015"]},
    "11": {"brand": ['a, "b" c'], "category": ["79"]},
    "12": {"shop": ["2399"], "category": ["8"], "launch_year": ["2018"]},
}


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_every_quirk_at_once_is_prepared_to_golden_output_by_one_command(tmp_path, engine, capsys):
    (tmp_path / "jdata_action.csv").write_bytes(GOLDEN_ACTIONS)
    (tmp_path / "jdata_product.csv").write_bytes(GOLDEN_PRODUCTS)
    options = ["--drop-duplicates", "--min-item-events", "3", "--test-share", "0.15", "--validation-share", "0.2"]
    limit = ["--malformed-limit", "0.3", "--engine", engine, "--json"]
    assert run(["prepare", "jdata", str(tmp_path), *options, *limit, "--out", str(tmp_path / "out")]) == 0
    dataset = PreparedDataset.load(tmp_path / "out")
    found = {}
    for split in GOLDEN:
        table = getattr(dataset, split)
        found[split] = [
            [
                (
                    dataset.items.id(int(table.items[event])),
                    dataset.operations.id(int(table.operations[event])),
                    f"{datetime.fromtimestamp(int(table.times[event]), UTC):%H:%M:%S}",
                )
                for event in range(begin, end)
            ]
            for begin, end in pairwise(table.offsets)
        ]
    assert found == GOLDEN
    assert list(dataset.items.ids) == ["10", "11", "12"]
    known = {item: dataset.knowledge.describe_item(index) for index, item in enumerate(dataset.items.ids, start=1)}
    assert known == GOLDEN_TRIPLES
    notes = dataset.metadata["notes"]
    assert notes["malformed_rows"] == 5
    assert "row 13, column 'type': found '9', should be 1 to 5" in notes["malformed_examples"][0]
    assert json.loads(capsys.readouterr().out)["events"] == 13


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,2018-02-04 08:28:15,3,9", r"row 9, column 'type': found '9', should be 1 to 5"),
        ("1,2,noon,3,1", r"row 9, column 'action_time': cannot read 'noon' as a time; should be like 2018-02-04"),
        ("1,,2018-02-04 08:28:15,3,1", r"row 9, column 'sku_id': the value is empty"),
        ("1,2,2018-02-04 08:28:15,3,1,7", r"row 9: more fields than the file has columns"),
        ("1,2,2018-02-04 08:2", r"row 9, column 'action_time': cannot read '2018-02-04 08:2' as a time"),
    ],
)
def test_a_malformed_row_is_located(folder, line, message):
    write(folder, {"jdata_action.csv": ACTIONS + line + "\n"})
    with pytest.raises(DataError, match=r"jdata_action.csv, " + message):
        read_log("jdata", folder)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        read_log("jdata", tmp_path / "nowhere")


def test_a_file_where_a_folder_should_be(folder):
    with pytest.raises(DataError, match=r"should be a folder with the data set's files"):
        read_log("jdata", folder / "jdata_action.csv")


def test_options_of_the_generic_reader_are_refused(folder):
    with pytest.raises(ConfigError, match=r"columns: the reader 'jdata' has no use for this option"):
        read_log("jdata", folder, ReadOptions(columns={"item": "sku_id"}))
