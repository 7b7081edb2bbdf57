"""The generic reader: what it accepts, and how it says what it cannot read."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import polars as pl
import pytest

from mkmsr.data.log import InteractionLog
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import READERS, ReadOptions, read_log
from mkmsr.errors import ConfigError, DataError

CSV = "user,item,operation,time\nu1,a,click,1519862406\nu1,b,order,1519862407\nu2,a,click,1519862408\n"


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def events_of(log: InteractionLog) -> pl.DataFrame:
    return log.events.collect()


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.tsv", "log.tsv.gz", "log.txt"])
def test_text_files_of_every_kind_give_the_same_events(tmp_path, name):
    content = CSV if "csv" in name else CSV.replace(",", "\t")
    events = events_of(read_log("events", written(tmp_path, name, content)))
    assert events["item_id"].to_list() == ["a", "b", "a"]
    assert events["time"].to_list() == [1519862406, 1519862407, 1519862408]
    assert events["row"].to_list() == [0, 1, 2]


def test_parquet_with_numeric_ids_and_dates_is_read(tmp_path):
    table = pl.read_csv(CSV.encode()).with_columns(
        item=pl.Series([228436, 17, 228436]),
        time=pl.from_epoch("time"),
        operation=pl.col("operation").cast(pl.Categorical),
    )
    table.write_parquet(tmp_path / "log.parquet")
    events = events_of(read_log("events", tmp_path / "log.parquet"))
    assert events["item_id"].to_list() == ["228436", "17", "228436"]
    assert events["operation"].to_list() == ["click", "order", "click"]
    assert events["time"][0] == 1519862406


def test_columns_are_mapped_by_field(tmp_path):
    path = written(tmp_path, "log.csv", CSV.replace("item", "sku").replace("operation", "type").replace("time", "ts"))
    log = read_log("events", path, ReadOptions(columns={"item": "sku", "operation": "type", "time": "ts"}))
    assert events_of(log)["operation"].to_list() == ["click", "order", "click"]
    assert log.column_names["item_id"] == "sku"


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.txt"])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_fields_may_stand_between_any_separator(tmp_path, name, in_pieces):
    path = written(tmp_path, name, CSV.replace(",", ";"))
    attributes = written(tmp_path, "attributes.csv", "item;brand\na;x, y\n")
    options = ReadOptions(separator=";", attributes=attributes, scratch=tmp_path if in_pieces else None)
    log = read_log("events", path, options)
    assert events_of(log)["item_id"].to_list() == ["a", "b", "a"]
    assert log.attributes is not None
    assert log.attributes.collect()["value"].to_list() == ["x, y"]


def test_columns_that_are_not_used_and_what_holds_without_them_are_noted(tmp_path):
    log = read_log("events", written(tmp_path, "log.csv", "user,item,type,ts\nu,a,click,1\nu,b,click,2\n"))
    assert log.notes["unused_columns"] == ["type", "ts"]
    assert log.notes["assumed"] == [
        "operation: every event has the one operation 'event'",
        "time: the order of the rows counts, and --gap counts rows",
    ]
    assert not {"unused_columns", "assumed"} & read_log("events", written(tmp_path, "whole.csv", CSV)).notes.keys()


def test_a_field_mapped_to_nothing_is_left_out(tmp_path):
    path = written(tmp_path, "log.csv", CSV.replace("user,", "user,").replace("operation", "session"))
    assert "session_id" in read_log("events", path).columns
    assert "session_id" not in read_log("events", path, ReadOptions(columns={"session": ""})).columns


def test_a_log_without_operations_gets_one(tmp_path):
    path = written(tmp_path, "log.csv", "session,item\ns,a\ns,b\n")
    log = read_log("events", path)
    assert events_of(log)["operation"].unique().to_list() == ["event"]
    assert not log.has_time


def test_in_a_log_without_times_the_order_of_the_file_counts(tmp_path):
    rows = "".join(f"s{s},i{s}-{n}\n" for n in range(4) for s in range(20))
    dataset = prepare(
        read_log("events", written(tmp_path, "log.csv", "session,item\n" + rows)), PrepareOptions(new_items="keep")
    )
    first = [dataset.items.id(int(item)) for item in dataset.train.session(0)[0]]
    assert first == ["i0-0", "i0-1", "i0-2", "i0-3"]


def test_fractions_of_a_second_order_events_within_it(tmp_path):
    path = written(tmp_path, "log.csv", "session,item,time\ns,late,1519862406.9\ns,early,1519862406.1\n")
    dataset = prepare(read_log("events", path), PrepareOptions(test_share=0, validation_share=0))
    assert [dataset.items.id(int(item)) for item in dataset.train.session(0)[0]] == ["early", "late"]


def test_what_was_decided_about_times_is_noted(tmp_path):
    log = read_log("events", written(tmp_path, "log.csv", "session,item,time\ns,a,1519862406000\n"))
    assert log.notes["time_unit"] == "milliseconds"


def test_item_ids_with_spaces_quotes_commas_and_cjk_are_kept_exactly(tmp_path):
    ids = [" two  words ", 'say "hi"', "a,b", "我們 原諒我", "5' disk", "null"]
    table = pl.DataFrame({"session": ["s"] * 6, "item": ids})
    table.write_csv(tmp_path / "log.csv")
    assert events_of(read_log("events", tmp_path / "log.csv"))["item_id"].to_list() == ids
    dataset = prepare(read_log("events", tmp_path / "log.csv"), PrepareOptions(test_share=0, validation_share=0))
    assert sorted(dataset.items.ids) == sorted(ids)


def test_a_byte_order_mark_windows_line_ends_and_blank_lines_do_no_harm(tmp_path):
    content = b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode() + b"\r\n"
    assert len(events_of(read_log("events", written(tmp_path, "log.csv", content)))) == 3


def test_a_session_of_300_events_is_kept_whole_and_examples_use_its_last_29(tmp_path):
    rows = "".join(f"long,i{n},{1519862406 + n}\n" for n in range(300))
    log = read_log("events", written(tmp_path, "log.csv", "session,item,time\n" + rows))
    dataset = prepare(log, PrepareOptions(test_share=0, validation_share=0))
    assert dataset.train.lengths.tolist() == [300]
    assert dataset.examples(dataset.train).lengths.max() == 28


def test_a_log_split_by_its_owner_keeps_its_split(tmp_path):
    content = "session,item,split\na,x,train\na,y,train\nb,x,test\nb,y,test\n"
    dataset = prepare(read_log("events", written(tmp_path, "log.csv", content)), PrepareOptions(validation_share=0))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (1, 0, 1)


def test_sessions_shared_by_users_are_counted_and_logged(tmp_path, caplog):
    content = "user,session,item\nu1,1,a\nu1,1,b\nu2,1,c\nu2,2,a\n"
    with caplog.at_level(logging.WARNING):
        log = read_log("events", written(tmp_path, "log.csv", content))
    assert log.notes["sessions_of_several_users"] == 1
    assert "1 sessions hold events of several users" in caplog.text


class TestAttributes:
    def knowledge(self, folder: Path, attributes: str, multi: str | None = None):
        log = written(folder, "log.csv", "session,item\ns,a\ns,b\n")
        table = written(folder, "attributes.csv", attributes)
        options = ReadOptions(attributes=table, multi=multi)
        return prepare(read_log("events", log, options), PrepareOptions(test_share=0, validation_share=0))

    def test_long_and_wide_tables_give_the_same_knowledge(self, tmp_path):
        long = self.knowledge(tmp_path, "item,relation,value\na,brand,x\nb,brand,y\na,shop,1\nb,shop,1\n").knowledge
        wide = self.knowledge(tmp_path, "item,brand,shop\na,x,1\nb,y,1\n").knowledge
        assert (long.triples == wide.triples).all()
        assert list(wide.attributes.ids) == ["brand=x", "brand=y", "shop=1"]
        assert wide.describe_item(1) == {"brand": ["x"], "shop": ["1"]}

    def test_cells_of_several_values_are_split_on_request(self, tmp_path):
        content = "item,genre\na,465|458\nb,465| 21 |\n"
        assert list(self.knowledge(tmp_path, content).knowledge.attributes.ids) == ["genre=465|458", "genre=465| 21 |"]
        several = self.knowledge(tmp_path, content, multi="|")
        assert several.knowledge.describe_item(2) == {"genre": ["465", "21"]}

    def test_lists_of_parquet_are_several_values(self, tmp_path):
        log = written(tmp_path, "log.csv", "session,item\ns,a\ns,b\n")
        pl.DataFrame({"item": ["a", "b"], "genre": [["x", "y"], ["y"]]}).write_parquet(tmp_path / "a.parquet")
        options = ReadOptions(attributes=tmp_path / "a.parquet")
        dataset = prepare(read_log("events", log, options), PrepareOptions(test_share=0, validation_share=0))
        assert dataset.knowledge.describe_item(1) == {"genre": ["x", "y"]}

    def test_unknown_items_and_empty_values_are_counted_not_refused(self, tmp_path):
        dataset = self.knowledge(tmp_path, "item,brand,shop\na,x,\nb,,\nghost,x,1\nphantom,y,2\n")
        assert dataset.metadata["preparation"]["attributes"] == {
            "rows": 8,
            "empty_values": 3,
            "unknown_items": 2,
            "items_without_attributes": 1,
        }
        assert len(dataset.knowledge) == 1

    def test_the_item_column_of_the_events_may_name_that_of_the_attributes(self, tmp_path):
        log = written(tmp_path, "log.csv", "session,sku\ns,a\ns,b\n")
        table = written(tmp_path, "attributes.csv", "sku,brand\na,x\n")
        read = read_log("events", log, ReadOptions(columns={"item": "sku"}, attributes=table))
        assert read.attributes is not None
        assert read.attributes.collect()["item_id"].to_list() == ["a"]

    def test_a_relation_with_an_equals_sign_is_refused(self, tmp_path):
        with pytest.raises(DataError, match=r"column 'a=b': a relation's name must not hold '='"):
            self.knowledge(tmp_path, "item,a=b\na,x\n")

    def test_a_table_with_nothing_beside_the_item_is_refused(self, tmp_path):
        with pytest.raises(DataError, match=r"attributes.csv: has no column beside the item"):
            self.knowledge(tmp_path, "item\na\n")

    def test_an_empty_item_is_located(self, tmp_path):
        with pytest.raises(DataError, match=r"attributes.csv, row 3, column 'item': the value is empty"):
            self.knowledge(tmp_path, "item,brand\na,x\n,y\n")


class TestBadInput:
    def refused(self, folder: Path, name: str, content: str | bytes, **options: object) -> str:
        path = written(folder, name, content)
        with pytest.raises(DataError) as caught:
            read_log("events", path, ReadOptions.model_validate(options))
        assert str(path) in str(caught.value)
        return str(caught.value)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(DataError, match=r"nowhere.csv: no such file"):
            read_log("events", tmp_path / "nowhere.csv")

    def test_a_missing_item_column_says_how_to_name_it(self, tmp_path):
        message = self.refused(tmp_path, "log.csv", CSV.replace("item", "sku"))
        assert (
            "no column 'item'; say which one it is with --columns item=NAME, one of user, sku, operation, time"
            in message
        )

    def test_a_file_with_other_separators_says_what_they_should_be(self, tmp_path):
        message = self.refused(tmp_path, "log.csv", CSV.replace(",", ";"))
        assert "row 1: the header is a single field, 'user;item;operation;time'; fields stand between comm" in message
        assert message.endswith("others take --separator ';'")

    def test_an_attribute_table_that_calls_its_items_otherwise(self, tmp_path):
        log = written(tmp_path, "log.csv", CSV.replace("item", "article"))
        attributes = written(tmp_path, "attributes.csv", "sku,brand\na,x\n")
        options = ReadOptions(columns={"item": "article"}, attributes=attributes)
        expected = (
            r"attributes\.csv: no column of items, which should be called 'item', or 'article' as in the events; the "
            r"file has sku, brand; --attribute-columns item=NAME says which one it is$"
        )
        with pytest.raises(DataError, match=expected):
            read_log("events", log, options)

    def test_a_missing_mapped_column_suggests_the_nearest(self, tmp_path):
        message = self.refused(tmp_path, "log.csv", CSV, columns={"operation": "operatoin"})
        assert "column 'operatoin': no such column, did you mean 'operation'?; the file has user, item" in message

    def test_neither_session_nor_user(self, tmp_path):
        assert "no column 'session' or 'user'" in self.refused(tmp_path, "log.csv", "item,time\na,1\n")

    def test_an_unparsable_time(self, tmp_path):
        message = self.refused(tmp_path, "log.csv", CSV.replace("1519862407", "soon"))
        assert "row 3, column 'time': cannot read 'soon' as a time; should be unix seconds" in message

    def test_too_many_unreadable_rows_name_the_flag_that_says_how_many_may_be_left_out(self, tmp_path):
        message = self.refused(tmp_path, "log.csv", CSV.replace("15198", "soon"))
        assert "at most 0.01 of them may be left out (--malformed-limit)" in message

    @pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.tsv"])
    def test_an_empty_file(self, tmp_path, name):
        assert "the file is empty" in self.refused(tmp_path, name, "")

    def test_a_header_without_rows(self, tmp_path):
        assert "the file has a header but no rows" in self.refused(tmp_path, "log.csv", "user,item\n")

    def test_a_truncated_gzip_file(self, tmp_path):
        path = tmp_path / "log.csv.gz"
        path.write_bytes(gzip.compress(CSV.encode() * 100)[:-20])
        with pytest.raises(DataError, match=r"log.csv.gz: the gzip file is truncated: it ends before its end mark"):
            read_log("events", path)

    def test_a_damaged_gzip_file(self, tmp_path):
        content = bytearray(gzip.compress(bytes(range(256)) * 50))
        content[len(content) // 2] ^= 0xFF
        path = tmp_path / "log.csv.gz"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"the gzip file is damaged"):
            read_log("events", path)

    def test_a_file_named_gz_that_is_not(self, tmp_path):
        path = tmp_path / "log.csv.gz"
        path.write_text(CSV)
        with pytest.raises(DataError, match=r"named .gz but not a gzip file"):
            read_log("events", path)

    def test_a_duplicate_header(self, tmp_path):
        message = self.refused(tmp_path, "log.csv", CSV.replace("time", "item"))
        assert "row 1, column 'item': this name stands twice in the header" in message

    def test_bytes_that_are_not_utf_8(self, tmp_path):
        message = self.refused(tmp_path, "log.csv", CSV.encode() + "u3,caf\u00e9,click,1\n".encode("latin-1"))
        assert "row 5: not UTF-8 text; convert the file to UTF-8" in message

    def test_a_header_that_is_not_utf_8(self, tmp_path):
        assert "row 1: not UTF-8 text" in self.refused(tmp_path, "log.csv", b"user,item\xe9\nu,a\n")

    def test_an_empty_user_id(self, tmp_path):
        message = self.refused(tmp_path, "log.csv", "user,item\nu,a\n,b\n,c\n")
        assert "row 3, column 'user': the value is empty (2 such rows)" in message

    def test_items_that_are_all_empty(self, tmp_path):
        assert "column 'item': no row names an item" in self.refused(tmp_path, "log.csv", "user,item\nu,\nu,\n")

    @pytest.mark.parametrize(("rows", "row"), [("u,a\nu,b,c\n", 3), ("u,a,1,2,3,4\nu,b\n", 2)])
    def test_more_fields_than_the_header_names(self, tmp_path, rows, row):
        message = self.refused(tmp_path, "log.csv", f"user,item\n{rows}")
        assert f"row {row}: more fields than the file has columns" in message

    def test_an_open_quote(self, tmp_path):
        assert "row 2: a quotation mark is open or stray" in self.refused(tmp_path, "log.csv", 'user,item\n"u,a\nu,b\n')

    def test_a_parquet_file_that_is_not(self, tmp_path):
        assert "not a readable Parquet file" in self.refused(tmp_path, "log.parquet", "PAR1 and nothing else")

    def test_an_unknown_file_type(self, tmp_path):
        assert "unknown file type '.xlsx'; known: .csv, .tsv, .txt" in self.refused(tmp_path, "log.xlsx", CSV)

    def test_a_column_of_lists(self, tmp_path):
        pl.DataFrame({"session": ["s"], "item": [["a", "b"]]}).write_parquet(tmp_path / "log.parquet")
        with pytest.raises(DataError, match=r"column 'item': has type List\(String\), should be one value a row"):
            read_log("events", tmp_path / "log.parquet")

    def test_an_unknown_field_in_the_mapping(self, tmp_path):
        with pytest.raises(ConfigError, match=r"columns.operatoin: unknown field, did you mean 'operation'\?"):
            read_log("events", written(tmp_path, "log.csv", CSV), ReadOptions(columns={"operatoin": "operation"}))

    def test_an_unknown_kind_of_log(self, tmp_path):
        with pytest.raises(ConfigError, match=r"unknown kind of log 'jdata_demo', did you mean 'jdata-demo'\?"):
            read_log("jdata_demo", tmp_path)

    @pytest.mark.parametrize("option", [{"relations": ("brand",)}])
    def test_an_option_for_public_data_sets(self, tmp_path, option):
        with pytest.raises(ConfigError, match=rf"{next(iter(option))}: the reader 'events' has no use for this option"):
            read_log("events", written(tmp_path, "log.csv", CSV), ReadOptions.model_validate(option))

    def test_a_database_of_another_kind(self):
        with pytest.raises(
            ConfigError, match=r"^mysql://.*db/shop\?table=e: no database .* begin with postgresql://"
        ) as caught:
            read_log("events", "mysql://me:secret@db/shop?table=e")
        assert "secret" not in str(caught.value)

    def test_a_splitter_without_an_attribute_table(self, tmp_path):
        with pytest.raises(ConfigError, match=r"multi: is about an attribute table, but none is given"):
            read_log("events", written(tmp_path, "log.csv", CSV), ReadOptions(multi="|"))


def test_the_retailrocket_slice_is_prepared_from_its_files(shared_data):
    folder = shared_data / "retailrocket_slice"
    options = ReadOptions(columns={"operation": "op", "time": "ts"}, attributes=folder / "item_attributes.tsv.gz")
    dataset = prepare(read_log("events", folder / "events.tsv.gz", options), PrepareOptions(new_items="keep"))
    assert dataset.metadata["preparation"]["events"]["read"] == 46_350
    assert sum(len(table) for table in (dataset.train, dataset.validation, dataset.test)) == 14_641
    assert list(dataset.operations.ids) == ["view", "addtocart", "transaction"]


def test_every_reader_has_a_summary():
    assert all(reader.summary for reader in READERS.values())


def test_a_cell_of_blanks_is_empty(tmp_path):
    log = read_log("events", written(tmp_path, "log.csv", CSV.replace(",b,", ",  ,")))
    assert events_of(log)["item_id"].to_list() == ["a", "a"]
    assert log.notes["events_without_item"] == 1


def test_the_header_of_a_file_that_follows_another_is_no_event(tmp_path):
    text = "\ufeffuser, item\n" + "".join(f"u{row},a\n" for row in range(3))
    log = read_log("events", written(tmp_path, "log.csv", text + text))
    assert log.notes["repeated_headers"] == 1
    assert events_of(log)["item_id"].unique().to_list() == ["a"]


def test_a_backslash_is_a_separator(tmp_path):
    log = read_log("events", written(tmp_path, "log.csv", CSV.replace(",", "\\")), ReadOptions(separator="\\"))
    assert events_of(log)["item_id"].to_list() == ["a", "b", "a"]


def test_half_a_character_in_json_makes_its_line_malformed(tmp_path):
    good = '{"user": "u", "item": "a"}\n'
    log = read_log(
        "events",
        written(tmp_path, "log.jsonl", good + '{"user": "u", "item": "\\ud800"}\n'),
        ReadOptions(malformed_limit=1),
    )
    assert log.notes["malformed_examples"] == ["log.jsonl, row 2: not a JSON object"]


def test_ids_that_a_spreadsheet_has_shortened_are_no_missing_values(tmp_path, caplog):
    read_log("events", written(tmp_path, "log.csv", CSV.replace("u1", "1.2E+12")))
    assert "user_id holds '1.2E+12' (2); a spreadsheet has shortened them; export them as text" in caplog.text


def test_a_few_cells_of_lists_are_refused_where_their_items_stand_alone_in_others(tmp_path):
    text = CSV + 'u2,"[""a"", ""b""]",click,1519862409\n'
    with pytest.raises(DataError, match=r"row 5, column 'item': .* holds several items; --item-separator '\[\]'"):
        read_log("events", written(tmp_path, "log.csv", text))
