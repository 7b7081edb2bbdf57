"""KKBOX: the head of the real files, and small files with every quirk."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from raw_files import events_of, triples_of, write

from mkmsr.data.log import InteractionLog
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import ReadOptions, read_log
from mkmsr.errors import ConfigError, DataError

TRAIN = """msno,song_id,source_system_tab,source_screen_name,source_type,target
u+/1=,s1=,explore,Explore,online-playlist,1
u2,s2,my library,,local-playlist,1
u2,s1=,null,null,,0
u+/1=,s3,my library,Local playlist more,local-playlist,1
"""
SONGS = """song_id,song_length,genre_ids,artist_name,composer,lyricist,language
s1=,247640,465|458,張信哲 (Jeff Chang),董貞,何啟弘,3.0
s2,197328,,A| B,"Aliaune ""Akon"" Thiam| C. Kelly",,-1.0
s3,1,444,"Quoted, comma",,,31
s9,1,21,Nobody played this,,,52
"""
EXTRA = """song_id,name,isrc
s1=,我們,TWUM71200043
s2,"two
lines, one cell",US-UM7-91-00043
s3,Let Me,
s9,odd,FR6V81954277
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    return write(tmp_path, {"train.csv": TRAIN, "songs.csv": SONGS, "song_extra_info.csv.gz": EXTRA})


def test_a_screen_is_the_operation_and_no_screen_is_one_of_its_own(folder):
    assert events_of(read_log("kkbox", folder), "user_id") == [
        ("u+/1=", "s1=", "Explore", None),
        ("u2", "s2", "null", None),
        ("u2", "s1=", "null", None),
        ("u+/1=", "s3", "Local playlist more", None),
    ]


def test_songs_have_artists_genres_a_language_and_a_year(folder):
    log = read_log("kkbox", folder)
    assert triples_of(log) == [
        ("s1=", "artist", "張信哲 (Jeff Chang)"),
        ("s2", "artist", "A"),
        ("s2", "artist", "B"),
        ("s3", "artist", "Quoted, comma"),
        ("s9", "artist", "Nobody played this"),
        ("s1=", "genre", "465"),
        ("s1=", "genre", "458"),
        ("s3", "genre", "444"),
        ("s9", "genre", "21"),
        ("s1=", "language", "3"),
        ("s2", "language", "-1"),
        ("s3", "language", "31"),
        ("s9", "language", "52"),
        ("s1=", "release_year", "2012"),
        ("s2", "release_year", "1991"),
    ]
    assert log.notes["songs_without_year"] == 2


def test_a_mark_that_takes_rows_along_is_told_and_can_be_read_as_a_character(folder, caplog):
    (folder / "song_extra_info.csv.gz").unlink()
    rows = "".join(f"s{n},name,TWUM71200043\n" for n in range(2, 10))
    write(folder, {"song_extra_info.csv": f'song_id,name,isrc\ns1=,"Love mode,\n{rows}s3,"" odd",TWUM71200043\n'})
    years = ReadOptions(relations=("release_year",))
    assert len(triples_of(read_log("kkbox", folder, years))) == 1
    assert "row 2: a field begins here that spans 10 lines" in caplog.text
    assert len(triples_of(read_log("kkbox", folder, years.model_copy(update={"quote": False})))) == 9


@pytest.mark.parametrize(
    ("isrc", "year"),
    [
        ("TWUM71200043", "2012"),
        ("QMZSY1700015", "2017"),
        ("TWA539987303", "1999"),
        ("GBAYE4000001", "1940"),
        ("HKH580000044", "2000"),
        ("PLL431926329", None),  # 19: later than the log; this registrant does not write years
        ("TWUM7120004", None),
        ("TWUM7XX00043", None),
    ],
)
def test_the_year_of_an_isrc_has_a_century_that_fits_the_log(folder, isrc, year):
    (folder / "song_extra_info.csv.gz").unlink()
    write(folder, {"song_extra_info.csv": f"song_id,name,isrc\ns1=,x,{isrc}\ns2,y,TWUM71300043\n"})
    years = {item: value for item, name, value in triples_of(read_log("kkbox", folder)) if name == "release_year"}
    assert years.get("s1=") == year


def test_sessions_end_where_a_listeners_rows_lie_2000_apart(tmp_path):
    rows = ["a,s1,,X,,1", "a,s2,,X,,1", *(f"b{n},s{n},,X,,1" for n in range(2000)), "a,s3,,X,,1", "a,s4,,X,,1"]
    header = TRAIN.partition("\n")[0]
    folder = write(tmp_path, {"train.csv": "\n".join([header, *rows, ""])})
    log = read_log("kkbox", folder, ReadOptions(relations=()))
    dataset = prepare(log, PrepareOptions(test_share=0, validation_share=0))
    assert [len(dataset.train.session(each)[0]) for each in range(len(dataset.train))] == [2, 2]
    assert dataset.metadata["options"]["gap_seconds"] == 2000
    joined = prepare(log, PrepareOptions(test_share=0, validation_share=0, gap_seconds=2001))
    assert [len(joined.train.session(each)[0]) for each in range(len(joined.train))] == [4]


def test_files_of_relations_that_nobody_asked_for_are_not_needed(folder):
    (folder / "song_extra_info.csv.gz").unlink()
    log = read_log("kkbox", folder, ReadOptions(relations=("composer",)))
    assert triples_of(log)[1:3] == [("s2", "composer", 'Aliaune "Akon" Thiam'), ("s2", "composer", "C. Kelly")]
    with pytest.raises(DataError, match=r"lacks song_extra_info.csv \(also with .gz\)"):
        read_log("kkbox", folder)


def test_an_unknown_relation_is_refused_with_the_known_ones(folder):
    with pytest.raises(ConfigError, match=r"relations: .*no relation 'artits', did you mean 'artist'\?; it has artist"):
        read_log("kkbox", folder, ReadOptions(relations=("artits",)))


def test_a_missing_column_is_named(folder):
    write(folder, {"train.csv": TRAIN.replace("song_id", "song")})
    with pytest.raises(DataError, match=r"train.csv, column 'song_id': no such column, did you mean 'song'\?"):
        read_log("kkbox", folder)


@pytest.fixture(scope="module")
def head(shared_data) -> InteractionLog:
    if not (shared_data / "kkbox_head").is_dir():
        pytest.skip("the head of KKBOX is not beside the checkout")
    return read_log("kkbox", shared_data / "kkbox_head")


class TestRealHead:
    def test_it_has_the_counts_of_its_readme(self, head):
        events = head.events.collect()
        assert (events.height, events["user_id"].n_unique(), events["item_id"].n_unique()) == (19_999, 2_463, 9_813)
        attributes = head.attributes.collect()
        languages = attributes.filter(pl.col("relation") == "language")
        assert languages.height == 39_999
        played = set(events["item_id"]) & set(languages["item_id"])
        assert round(len(played) / 9_813, 2) == 0.14

    def test_rows_without_a_screen_are_an_operation(self, head):
        counts = dict(head.events.collect()["operation"].value_counts().iter_rows())
        assert counts["null"] == 576
        assert counts["Local playlist more"] == 13_828
        assert len(counts) == 18

    def test_years_are_those_of_songs_of_that_time(self, head):
        years = head.attributes.collect().filter(pl.col("relation") == "release_year")["value"].cast(pl.Int64)
        assert years.min() >= 1940
        assert years.max() == 2017
        assert (years >= 2000).mean() > 0.7

    def test_it_is_prepared_with_the_gap_of_its_kind(self, head):
        dataset = prepare(head)
        assert dataset.metadata["preparation"]["events"]["read"] == 19_999
        assert set(dataset.knowledge.relations.ids) == {"artist", "genre", "language", "release_year"}
