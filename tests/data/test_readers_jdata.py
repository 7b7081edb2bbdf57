"""JD's raw files, small and with every quirk: expected output written down by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from raw_files import events_of, triples_of, write

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
