"""Reader of KKBOX's log of songs played, as given out for the WSDM Cup 2018: train, songs and song_extra_info.

The rows have no times: they are in time order, and a listener's rows that lie far apart belong to different sessions.
The operation is the screen from which the song was started.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mkmsr.data.log import InteractionLog
from mkmsr.data.readers.intake import Intake, folder_of
from mkmsr.data.readers.knowledge import relation
from mkmsr.data.readers.malformed import empty
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.parsing import event_row
from mkmsr.data.readers.public import PublicDataset, PublicFile
from mkmsr.data.readers.table import find_file

__all__ = ["DATASET"]

KIND = "kkbox"
OWN = ("artist", "genre", "language", "release_year")
MORE = ("composer", "lyricist")

GAP_ROWS = 2000
"""Rows of the whole log between two rows of a listener that end a session. Source: the paper's public code."""

NO_SCREEN = "null"
"""The operation of a row without a screen, which the files write as nothing or as this word."""

LAST_YEAR, FIRST_YEAR = 17, 40
"""Two digits up to 17 are of this century, for the log ends in 2017; from 40 on they are of the last one. Those between
are no year: in the data they belong to registrants who number their codes in another way."""


def read_kkbox(source: Path, options: ReadOptions) -> InteractionLog:
    """The log in the folder of the unpacked files, each plain or .gz.

    Of the songs' files only those are needed that hold a wanted relation.

    Raises:
        DataError: A file or column is missing, or too many rows are malformed.
        ConfigError: An option or relation is none of this reader's.
    """
    intake = Intake(KIND, options, allowed=("relations",))
    relations = options.choose_relations(KIND, default=OWN, more=MORE)
    path = find_file(folder_of(source), "train.csv")
    events = intake.rows(
        intake.table(path, "msno", "song_id", "source_screen_name"),
        {
            "user_id": pl.col("msno"),
            "item_id": pl.col("song_id"),
            "operation": pl.col("source_screen_name").replace("", None).fill_null(NO_SCREEN),
            "row": event_row(),
        },
        [empty("msno"), empty("song_id")],
    )
    names = {"user_id": "msno", "item_id": "song_id", "operation": "source_screen_name"}
    return intake.log(events, _attributes(source, relations, intake), gap=GAP_ROWS, column_names=names)


def _attributes(source: Path, relations: tuple[str, ...], intake: Intake) -> list[pl.LazyFrame]:
    found: dict[str, pl.LazyFrame] = {}
    if set(relations) - {"release_year"}:
        songs = _songs(find_file(source, "songs.csv"), intake)
        several = "|"  # songs have several genres, artists and writers
        for name in relations:
            if name == "language":
                found[name] = relation(songs, name, pl.col(name))
            elif name != "release_year":
                found[name] = relation(songs, name, pl.col(name), separator=several)
    if "release_year" in relations:
        found["release_year"] = _years(find_file(source, "song_extra_info.csv"), intake)
    return [found[name] for name in relations]


def _songs(path: Path, intake: Intake) -> pl.LazyFrame:
    table = intake.table(path, "song_id", "genre_ids", "artist_name", "composer", "lyricist", "language")
    values = {
        "item_id": pl.col("song_id"),
        "genre": pl.col("genre_ids"),
        "artist": pl.col("artist_name"),
        "composer": pl.col("composer"),
        "lyricist": pl.col("lyricist"),
        "language": pl.col("language").str.replace(r"\.0$", ""),  # once written as 3, once as 3.0
    }
    return intake.rows(table, values, [empty("song_id")])


def _years(path: Path, intake: Intake) -> pl.LazyFrame:
    """Release years from the ISRC, country (2), registrant (3), year (2), number (5).

    Source: ISO 3901. The year has two digits; hyphens between the parts are allowed.
    """
    code = pl.col("isrc").str.replace_all("[- ]", "")
    digits = pl.when(code.str.len_chars() == 12).then(code.str.slice(5, 2).cast(pl.Int64, strict=False))
    year = pl.when(digits <= LAST_YEAR).then(2000 + digits).when(digits >= FIRST_YEAR).then(1900 + digits)
    table = intake.table(path, "song_id", "isrc")
    years = intake.rows(table, {"item_id": pl.col("song_id"), "year": year}, [empty("song_id")])
    intake.notes["songs_without_year"] = int(years.select(pl.col("year").is_null().sum()).collect().item())
    return relation(years, "release_year", pl.col("year").cast(pl.String))


DATASET = PublicDataset(
    name=KIND,
    read=read_kkbox,
    title="songs played in KKBOX's app, WSDM Cup 2018 (the paper's KKBOX)",
    owner="KKBOX, on Kaggle",
    page="https://www.kaggle.com/c/kkbox-music-recommendation-challenge/data",
    terms="the competition's rules, accepted with an account: for research, not for redistribution",
    files=(
        PublicFile("train.csv", "msno,song_id,source_system_tab,source_screen_name,source_type,target", rows=7_377_418),
        PublicFile("songs.csv", "song_id,song_length,genre_ids,artist_name,composer,lyricist,language"),
        PublicFile("song_extra_info.csv", "song_id,name,isrc"),
    ),
)
