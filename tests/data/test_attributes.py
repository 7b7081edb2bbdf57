"""Attribute tables: what their columns are, cells of several values, values in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from raw_files import Triple, triples_of, write

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers import ReadOptions, read_log
from mkmsr.errors import ConfigError, DataError

EVENTS = "session,item,time\n" + "".join(f"s{n // 2},{'ab'[n % 2]},{1700000000 + 1000 * n}\n" for n in range(100))
BEFORE, AFTER = 1700050000, 1700099000
"""Before and after the newest tenth of the events began."""


def log_of(folder: Path, table: str, name: str = "items.csv", **options: Any) -> InteractionLog:
    write(folder, {"log.csv": EVENTS, name: table})
    return read_log("events", folder / "log.csv", ReadOptions(attributes=folder / name, **options))


def triples(folder: Path, table: str, **options: Any) -> list[Triple]:
    return triples_of(log_of(folder, table, **options))


def test_a_mapping_chooses_items_relations_and_what_is_only_shown(tmp_path):
    table = "sku;brand;category;name;image\na;acme;hats;Hat;x.png\nb;zeta;bags;Bag;y.png\n"
    columns = {"item": "sku", "use": "brand+category", "display": "name+image"}
    log = log_of(tmp_path, table, attribute_columns=columns, attribute_separator=";")
    assert triples_of(log) == [
        ("a", "brand", "acme"),
        ("b", "brand", "zeta"),
        ("a", "category", "hats"),
        ("b", "category", "bags"),
    ]
    assert log.display is not None
    assert log.display.select("item_id", "relation", "value").collect().rows() == [
        ("a", "name", "Hat"),
        ("b", "name", "Bag"),
        ("a", "image", "x.png"),
        ("b", "image", "y.png"),
    ]


def test_a_column_may_be_shown_under_another_name_and_learnt_from_as_well(tmp_path):
    table = "item,title,cost,pic:url\na,Hat,5,x.png\nb,Bag,7,y.png\n"
    columns = {"use": "cost", "display": "name:title+price:cost+pic:url"}
    log = log_of(tmp_path, table, attribute_columns=columns)
    assert triples_of(log) == [("a", "cost", "5"), ("b", "cost", "7")]
    assert log.display is not None
    shown = log.display.filter(pl.col("item_id") == "a").select("relation", "value").collect().rows()
    assert set(shown) == {("name", "Hat"), ("price", "5"), ("pic:url", "x.png")}
    for display, message in (("name:", "'name:' should read name:COLUMN"), ("title+title:cost", "shown as 'title'")):
        with pytest.raises(ConfigError, match=message):
            log_of(tmp_path, table, attribute_columns={"display": display})


def test_the_columns_of_a_long_table_may_have_other_names(tmp_path):
    columns = {"item": "sku", "relation": "key", "value": "val", "use": "brand"}
    table = "sku,key,val,who\na,brand,acme,me\na,shop,1,me\n"
    log = log_of(tmp_path, table, attribute_columns=columns)
    assert triples_of(log) == [("a", "brand", "acme")]
    assert log.notes["unused_attribute_columns"] == ["who"]


def test_a_column_that_is_not_there_is_named_with_its_file(tmp_path):
    with pytest.raises(DataError, match=r"items.csv, column 'brnad': no such column, did you mean 'brand'"):
        log_of(tmp_path, "item,brand\na,x\n", attribute_columns={"use": "brnad"})
    with pytest.raises(ConfigError, match=r"attribute_columns.show: unknown field"):
        log_of(tmp_path, "item,brand\na,x\n", attribute_columns={"show": "brand"})


def test_a_name_that_stands_twice_is_refused_and_columns_without_a_name_are_left_out(tmp_path):
    with pytest.raises(DataError, match=r"items.csv, row 1, column 'brand': this name stands twice"):
        log_of(tmp_path, "item,brand,brand\na,x,y\n")
    assert triples(tmp_path, "item,,brand,\na,1,x,2\n") == [("a", "brand", "x")]


def test_a_relation_with_an_equals_sign_names_its_own_file(tmp_path):
    with pytest.raises(DataError, match=r"items.csv, column 'price=EUR': a relation's name must not hold '='"):
        log_of(tmp_path, "item,price=EUR\na,1\n")
    with pytest.raises(
        DataError, match=r"items.csv, row 2, column 'relation': found 'p=E'; a relation's name must not"
    ):
        log_of(tmp_path, "item,relation,value\na,p=E,1\n")


def test_each_relation_may_have_a_separator_of_its_own(tmp_path):
    table = "item,category,title,tags\na,men|shoes,Shirt | Summer,x;y\nb,women,Hat,\n"
    found = triples(tmp_path, table, multi={"category": "|", "tags": ";"})
    assert ("a", "category", "men") in found
    assert ("a", "category", "shoes") in found
    assert ("a", "title", "Shirt | Summer") in found
    assert [value for _, name, value in found if name == "tags"] == ["x", "y", None]
    with pytest.raises(ConfigError, match=r"items.csv, multi: no relation 'categroy', did you mean 'category'"):
        triples(tmp_path, table, multi={"categroy": "|"})


@pytest.mark.parametrize("cell", ['"[""men"", ""shoes""]"', "\"['men', 'shoes']\"", "['men' 'shoes']", '"{men,shoes}"'])
def test_cells_that_look_like_lists_get_a_hint_that_takes_them_apart(tmp_path, cell, caplog):
    table = f"item,category\na,{cell}\nb,women\n"
    log = log_of(tmp_path, table)
    assert log.notes["attribute_values"] == [
        "1 values of 'category' look like lists; --multi 'category=[]' takes them apart"
    ]
    assert triples(tmp_path, table, multi={"category": "[]"}) == [
        ("a", "category", "men"),
        ("a", "category", "shoes"),
        ("b", "category", "women"),
    ]


def test_levels_of_a_path_are_values_of_their_own_on_request(tmp_path):
    table = "item,category\na,men > shoes > boots\nb,women\n"
    found = triples(tmp_path, table, levels={"category": ">"})
    assert [value for _, _, value in found] == ["men", "men > shoes", "men > shoes > boots", "women"]


class TestTypesOfParquet:
    def read(self, folder: Path, values: pl.Series) -> InteractionLog:
        pl.DataFrame({"item": ["a", "b"], "x": values, "brand": ["1", "2"]}).write_parquet(folder / "items.parquet")
        write(folder, {"log.csv": EVENTS})
        return read_log("events", folder / "log.csv", ReadOptions(attributes=folder / "items.parquet"))

    def test_lists_and_arrays_of_words_and_whole_numbers_are_several_values(self, tmp_path):
        for values in (pl.Series([[1, 2], [3, 4]]), pl.Series([[1.0, 2.0], [3.0, 4.0]], dtype=pl.Array(pl.Float64, 2))):
            found = [value for _, name, value in triples_of(self.read(tmp_path, values)) if name == "x"]
            assert found == ["1", "2", "3", "4"]

    def test_vectors_are_left_out_and_noted(self, tmp_path):
        log = self.read(tmp_path, pl.Series([[0.25, 0.5], [0.1, 0.2]], dtype=pl.Array(pl.Float32, 2)))
        assert {name for _, name, _ in triples_of(log)} == {"brand"}
        assert log.notes["attribute_values"] == ["'x' holds vectors of fractions and is left out"]

    def test_bytes_that_are_no_text_are_refused_by_name(self, tmp_path):
        with pytest.raises(DataError, match=r"items.parquet, column 'x': holds bytes that are no text"):
            self.read(tmp_path, pl.Series([b"\xff", b"\x00\xfe"]))


class TestValuesInTime:
    LONG = "item,relation,value,timestamp\n" + "".join(
        f"{row}\n"
        for row in (
            f"a,price,10,{BEFORE}",
            f"a,price,20,{AFTER}",
            f"a,tag,x,{BEFORE}",
            f"a,tag,y,{BEFORE}",
            f"b,price,7,{AFTER}",
        )
    )

    def test_a_long_table_gives_the_values_before_the_test_and_says_so(self, tmp_path):
        log = log_of(tmp_path, self.LONG)
        assert triples_of(log) == [("a", "price", "10"), ("a", "tag", "x"), ("a", "tag", "y"), ("b", "price", "7")]
        assert log.notes["attributes_at"] == "2023-11-15T22:56:40Z"

    def test_another_moment_may_be_asked_for_and_the_time_be_left_out(self, tmp_path):
        assert ("a", "price", "20") in triples(tmp_path, self.LONG, attributes_at="2030-01-01")
        log = log_of(tmp_path, self.LONG, attribute_columns={"time": ""})
        assert len(triples_of(log)) == 5
        assert log.notes["unused_attribute_columns"] == ["timestamp"]

    def test_a_wide_table_of_several_rows_an_item_says_since_when_they_hold(self, tmp_path):
        table = "item,price,valid_from,valid_to\na,10,2023-11-15,2023-11-16\na,20,2023-11-16,2023-11-17\n"
        log = log_of(tmp_path, table)
        assert triples_of(log) == [("a", "price", "10")]
        assert log.notes["unused_attribute_columns"] == ["valid_to"]

    def test_the_form_of_the_times_of_events_need_not_be_that_of_the_values(self, tmp_path):
        table = "item,relation,value,updated_at\na,price,10,15/11/2023\na,price,20,2023-11-17\n"
        with pytest.raises(DataError, match=r"items.csv, row 2, column 'updated_at'.*time= does without"):
            log_of(tmp_path, table)
        write(tmp_path, {"days.csv": "session,item,time\ns,a,15/11/2023\n", "items.csv": self.LONG})
        options = ReadOptions(attributes=tmp_path / "items.csv", time_format="%d/%m/%Y")
        assert ("a", "price", "10") in triples_of(read_log("events", tmp_path / "days.csv", options))

    def test_a_date_of_a_table_with_one_row_an_item_is_a_relation(self, tmp_path):
        assert triples(tmp_path, "item,date\na,2023\nb,2024\n") == [("a", "date", "2023"), ("b", "date", "2024")]


@pytest.mark.parametrize(
    ("cell", "values"),
    [
        (r'["a \"q\"", "caf\u00e9"]', ['a "q"', "café"]),
        ("array(['a', 'b'], dtype=object)", ["a", "b"]),
        ("[None, 'x', nan]", ["x"]),
        (r"['kid\'s', 'b']", ["kid's", "b"]),
    ],
)
def test_lists_as_programs_print_them_are_taken_apart(tmp_path, cell, values):
    table = pl.DataFrame({"item": ["a"], "tags": [cell]}).write_csv()
    assert [value for *_, value in triples(tmp_path, table, multi={"tags": "[]"})] == values


def test_levels_without_a_name_are_left_out(tmp_path):
    found = triples(tmp_path, "item,path\na,/men//shoes/\n", levels={"path": "/"})
    assert [value for *_, value in found] == ["men", "men / shoes"]


def test_cells_that_join_values_of_other_cells_get_a_hint(tmp_path, caplog):
    log_of(tmp_path, "item,tags\na,x;y\nb,x\nc,y\n")
    assert "1 values of 'tags' look like lists; --multi 'tags=;'" in caplog.text
    caplog.clear()
    log_of(tmp_path, 'item,title\na,"Shirt, red"\nb,Hat\n')
    assert "look like lists" not in caplog.text


def test_words_for_missing_values_are_named_with_their_counts(tmp_path, caplog):
    log_of(tmp_path, "item,brand\na,null\nb,NaN\nc,null\n")
    assert "the values hold 'null' (2), 'NaN' (1); --missing WORDS" in caplog.text


def test_a_relation_that_a_long_table_lacks_is_named(tmp_path):
    table = "item,relation,value\na,brand,acme\n"
    with pytest.raises(DataError, match=r"column 'relation': no relation 'brnad', did you mean 'brand'"):
        log_of(tmp_path, table, attribute_columns={"use": "brnad"})
    log = log_of(tmp_path, table, attribute_columns={"use": "brand", "display": "maker:brand"})
    assert triples_of(log) == [("a", "brand", "acme")]
    assert log.display is not None
    assert log.display.select("relation", "value").collect().rows() == [("maker", "acme")]
