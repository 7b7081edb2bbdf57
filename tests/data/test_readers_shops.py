"""RetailRocket, REES46, YooChoose and Diginetica: small files in their exact schema, expected output by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from raw_files import events_of, triples_of, write

from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import ReadOptions, read_log
from mkmsr.errors import ConfigError, DataError


class TestRetailRocket:
    EVENTS = """timestamp,visitorid,event,itemid,transactionid
1433221332117,257597,view,355908,
1433221332116,257597,view,248676,
1433224214164,992329,addtocart,248676,
1433224214999,992329,transaction,248676,12345
"""
    PART1 = """timestamp,itemid,property,value
1431226800000,355908,categoryid,1338
1433300000000,355908,categoryid,1114
1431226800000,248676,888,1116713 960601 n277.200
1431831600000,248676,available,0
"""
    PART2 = """timestamp,itemid,property,value
1433000000000,248676,categoryid,9
1432000000000,248676,categoryid,1338
1433224215000,777,categoryid,231
1433224300000,777,categoryid,9
1433400000000,248676,available,1
"""
    TREE = "categoryid,parentid\n1338,1278\n9,\n231,1278\n1278,\n"

    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        files = {"events.csv": self.EVENTS, "item_properties_part1.csv": self.PART1}
        return write(tmp_path, {**files, "item_properties_part2.csv": self.PART2, "category_tree.csv": self.TREE})

    def test_milliseconds_are_the_order_of_events(self, folder):
        assert events_of(read_log("retailrocket", folder), "user_id") == [
            ("257597", "248676", "view", 1433221332),
            ("257597", "355908", "view", 1433221332),
            ("992329", "248676", "addtocart", 1433224214),
            ("992329", "248676", "transaction", 1433224214),
        ]

    def test_properties_are_those_known_before_the_test(self, folder):
        log = read_log("retailrocket", folder)
        assert log.notes["attributes_at"] == "2015-06-02T05:50:14Z"  # of the newest event here: nine tenths have passed
        assert triples_of(log) == [
            ("248676", "category", "9"),  # the latest until then, in whatever order they stand
            ("355908", "category", "1338"),  # not yet 1114
            ("777", "category", "231"),  # first known later: its first value
            ("355908", "parent_category", "1278"),
            ("777", "parent_category", "1278"),
        ]

    def test_properties_can_be_those_of_another_time(self, folder):
        later = datetime(2015, 6, 4, tzinfo=UTC)
        log = read_log("retailrocket", folder, ReadOptions(attributes_at=later, relations=("category",)))
        assert triples_of(log) == [
            ("248676", "category", "9"),
            ("355908", "category", "1114"),
            ("777", "category", "9"),
        ]

    def test_other_properties_are_called_by_their_number(self, folder):
        log = read_log("retailrocket", folder, ReadOptions(relations=("888", "available")))
        assert triples_of(log) == [
            ("248676", "888", "1116713 960601 n277.200"),
            ("248676", "available", "0"),
        ]

    def test_sessions_end_after_half_an_hour(self, folder):
        assert read_log("retailrocket", folder, ReadOptions(relations=())).gap == 1800

    def test_an_unknown_event_is_located(self, folder):
        write(folder, {"events.csv": self.EVENTS.replace("addtocart", "add")})
        message = r"events.csv, row 4, column 'event': found 'add', should be one of view, addtocart, transaction"
        with pytest.raises(DataError, match=message):
            read_log("retailrocket", folder)

    def test_malformed_properties_are_a_share_of_the_whole_file(self, folder):
        rows = "".join(f"1431226800000,{item},790,n1.000\n" for item in range(400))
        write(folder, {"item_properties_part1.csv": self.PART1 + "soon,355908,categoryid,7\n" + rows})
        log = read_log("retailrocket", folder)
        assert log.notes["malformed_examples"] == [
            "item_properties_part1.csv, row 6, column 'timestamp': found 'soon', should be unix milliseconds"
        ]


class TestREES46:
    OCTOBER = """event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session
2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde
2019-10-01 00:00:00 UTC,view,3900821,2053013552326770905,appliances.environment.water_heater,aqua,33.20,554748717,9333
2019-10-01 00:00:00 UTC,cart,3900821,2053013552326770905,appliances.environment.water_heater,aqua,33.20,554748717,9333
2019-10-01 00:00:01 UTC,remove_from_cart,3900821,2053013552326770905,appliances,aqua,0.00,554748717,9333
"""
    NOVEMBER = """event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session
2019-11-01 00:00:00 UTC,purchase,44600062,7,,l'oréal,-47.62,541312140,8888
"""

    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        return write(tmp_path, {"2019-Oct.csv": self.OCTOBER, "2019-Nov.csv.gz": self.NOVEMBER, "notes.txt": "x"})

    def test_the_months_of_a_folder_are_one_log(self, folder):
        assert events_of(read_log("rees46", folder)) == [
            ("72d76fde", "44600062", "view", 1569888000),
            ("9333", "3900821", "view", 1569888000),
            ("9333", "3900821", "cart", 1569888000),
            ("9333", "3900821", "remove_from_cart", 1569888001),
            ("8888", "44600062", "purchase", 1572566400),
        ]

    def test_knowledge_is_taken_from_the_events_at_one_moment(self, folder):
        in_october = ReadOptions(attributes_at=datetime(2019, 10, 1))
        assert triples_of(read_log("rees46", folder, in_october)) == [
            ("3900821", "brand", "aqua"),
            ("44600062", "brand", "shiseido"),
            ("3900821", "category", "2053013552326770905"),
            ("44600062", "category", "2103807459595387724"),
            ("3900821", "category_code", "appliances"),
            ("3900821", "category_code", "appliances.environment"),
            ("3900821", "category_code", "appliances.environment.water_heater"),
        ]
        before_the_test = triples_of(read_log("rees46", folder))
        assert before_the_test[1] == ("44600062", "brand", "shiseido")
        assert before_the_test[4:] == [("3900821", "category_code", "appliances")]
        at_the_end = read_log("rees46", folder, ReadOptions(attributes_at=datetime(2019, 12, 1)))
        assert triples_of(at_the_end)[1] == ("44600062", "brand", "l'oréal")

    def test_prices_are_buckets_on_request(self, folder):
        log = read_log("rees46", folder, ReadOptions(relations=("price",)))
        assert triples_of(log) == [("3900821", "price", "32-64"), ("44600062", "price", "32-64")]

    def test_one_file_is_a_log_too(self, folder):
        assert len(events_of(read_log("rees46", folder / "2019-Nov.csv.gz"))) == 1

    def test_rows_without_a_session_are_malformed(self, folder):
        content = self.OCTOBER.replace(",9333\n", ",\n", 1)
        with pytest.raises(DataError, match=r"2019-Oct.csv, row 3, column 'user_session': the value is empty"):
            read_log("rees46", write(folder, {"2019-Oct.csv": content}))
        log = read_log("rees46", folder, ReadOptions(malformed_limit=0.5))
        assert len(events_of(log)) == 4

    def test_a_folder_without_tables(self, tmp_path):
        with pytest.raises(DataError, match=r"holds no .csv file"):
            read_log("rees46", tmp_path)


class TestYooChoose:
    CLICKS = """1,2014-04-07T10:51:09.277Z,214536502,0
1,2014-04-07T10:54:09.868Z,214536500,S
2,2014-04-07T13:56:37.614Z,214662742,7
2,2014-04-07T13:57:19.373Z,214662742,12
2,2014-04-07T13:57:19.374Z,214536502,2089046250
"""
    BUYS = """1,2014-04-07T10:54:09.700Z,214536502,12462,1
2,2014-04-07T13:58:00.000Z,214662742,0,0
"""

    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        return write(tmp_path, {"yoochoose-clicks.dat": self.CLICKS, "yoochoose-buys.dat": self.BUYS})

    def test_clicks_and_buys_are_interleaved_by_milliseconds(self, folder):
        assert events_of(read_log("yoochoose", folder)) == [
            ("1", "214536502", "click", 1396867869),
            ("1", "214536502", "buy", 1396868049),
            ("1", "214536500", "click", 1396868049),
            ("2", "214662742", "click", 1396878997),
            ("2", "214662742", "click", 1396879039),
            ("2", "214536502", "click", 1396879039),
            ("2", "214662742", "buy", 1396879080),
        ]

    def test_categories_and_brands_are_told_apart(self, folder):
        assert triples_of(read_log("yoochoose", folder)) == [
            ("214662742", "category", "12"),
            ("214536502", "brand", "2089046250"),
        ]

    def test_a_price_of_nothing_says_nothing(self, folder):
        log = read_log("yoochoose", folder, ReadOptions(relations=("price",)))
        assert triples_of(log) == [("214536502", "price", "8192-16384")]

    def test_rows_count_from_the_first_line(self, folder):
        write(folder, {"yoochoose-buys.dat": "1,2014-04-07T10:54:09Z,,5,1\n" + self.BUYS})
        with pytest.raises(DataError, match=r"yoochoose-buys.dat, row 1, column 'item': the value is empty"):
            read_log("yoochoose", folder)

    def test_an_empty_file(self, folder):
        with pytest.raises(DataError, match=r"yoochoose-buys.dat: the file is empty"):
            read_log("yoochoose", write(folder, {"yoochoose-buys.dat": ""}))


class TestDiginetica:
    VIEWS = """sessionId;userId;itemId;timeframe;eventdate
1;NA;81766;526309;2016-05-09
1;NA;31331;1031018;2016-05-09
1;NA;32118;243569;2016-05-09
2;17;9654;75848;2016-05-10
"""
    PURCHASES = """sessionId;userId;timeframe;eventdate;ordernumber;itemId
2;17;75900;2016-05-10;5;9654
"""
    PRODUCTS = "itemId;pricelog2;product.name.tokens\n81766;10;4875,776,56689\n9654;;\n"
    CATEGORIES = "itemId;categoryId\n81766;1096\n9654;199\n"

    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        files = {"train-item-views.csv": self.VIEWS, "train-purchases.csv": self.PURCHASES}
        return write(tmp_path, {**files, "products.csv": self.PRODUCTS, "product-categories.csv": self.CATEGORIES})

    def test_milliseconds_since_the_sessions_begin_are_the_order(self, folder):
        assert events_of(read_log("diginetica", folder)) == [
            ("1", "32118", "view", 1462752243),
            ("1", "81766", "view", 1462752526),
            ("1", "31331", "view", 1462753031),
            ("2", "9654", "view", 1462838475),
            ("2", "9654", "purchase", 1462838475),
        ]

    def test_products_have_a_category_and_a_price(self, folder):
        assert triples_of(read_log("diginetica", folder)) == [
            ("81766", "category", "1096"),
            ("9654", "category", "199"),
            ("81766", "price", "2^10"),
        ]

    def test_the_words_of_the_name_are_a_relation_on_request(self, folder):
        log = read_log("diginetica", folder, ReadOptions(relations=("name_token",)))
        assert triples_of(log) == [("81766", "name_token", token) for token in ("4875", "776", "56689")]

    def test_the_spelling_of_other_copies_is_read(self, folder):
        content = self.VIEWS.replace("sessionId;userId;itemId", "session_id;user_id;item_id")
        before = events_of(read_log("diginetica", folder))
        assert events_of(read_log("diginetica", write(folder, {"train-item-views.csv": content}))) == before

    def test_without_purchases_the_views_are_the_log(self, folder):
        (folder / "train-purchases.csv").unlink()
        log = read_log("diginetica", folder)
        assert len(events_of(log)) == 4
        assert log.notes["missing_files"] == ["train-purchases.csv"]

    def test_it_is_prepared_by_its_own_sessions(self, folder):
        dataset = prepare(read_log("diginetica", folder), PrepareOptions(test_share=0, validation_share=0))
        assert len(dataset.train) == 2

    def test_a_relation_of_another_data_set_is_refused(self, folder):
        with pytest.raises(ConfigError, match=r"has no relation 'brand'; it has category, price, name_token"):
            read_log("diginetica", folder, ReadOptions(relations=("brand",)))
