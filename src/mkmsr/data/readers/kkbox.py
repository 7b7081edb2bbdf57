"""KKBOX's log of songs played, as given out for the WSDM Cup 2018: train, songs and song_extra_info.

The rows have no times: they are in time order, and a listener's rows that lie far apart belong to different sessions.
The operation is the screen from which the song was started.
"""

from __future__ import annotations

import polars as pl

from mkmsr.data.readers.public import Intake, PublicDataset, PublicFile, Value, needed, relation, text

NO_SCREEN = "null"
"""The operation of a row without a screen, which the files write as nothing or as this word."""

LAST_YEAR, FIRST_YEAR = 17, 40
"""Two digits up to 17 are of this century, for the log ends in 2017; from 40 on they are of the last one. Those between
are no year: in the data they belong to registrants who number their codes in another way."""


def _events(intake: Intake) -> pl.LazyFrame:
    screen = pl.col("source_screen_name").replace("", None).fill_null(NO_SCREEN)
    values = {"user_id": needed("msno"), "item_id": needed("song_id"), "operation": Value(screen)}
    return intake.events("train.csv", values)


def _attributes(intake: Intake, events: pl.LazyFrame) -> list[pl.LazyFrame]:
    """Only those of the songs' files are read that hold a wanted relation."""
    found: dict[str, pl.LazyFrame] = {}
    if of_songs := [name for name in intake.relations if name != "release_year"]:
        values = {
            "item_id": needed("song_id"),
            "genre": text("genre_ids"),
            "artist": text("artist_name"),
            "composer": text("composer"),
            "lyricist": text("lyricist"),
            "language": Value(pl.col("language").str.replace(r"\.0$", "")),  # once written as 3, once as 3.0
        }
        songs = intake.rows("songs.csv", values)
        # Songs have several genres, artists and writers, but one language.
        found = {name: relation(songs, name, separator=None if name == "language" else "|") for name in of_songs}
    if "release_year" in intake.relations:
        found["release_year"] = _years(intake)
    return [found[name] for name in intake.relations]


def _years(intake: Intake) -> pl.LazyFrame:
    """Release years from the ISRC, country (2), registrant (3), year (2), number (5).

    Source: ISO 3901. The year has two digits; hyphens between the parts are allowed.
    """
    code = pl.col("isrc").str.replace_all("[- ]", "")
    digits = pl.when(code.str.len_chars() == 12).then(code.str.slice(5, 2).cast(pl.Int64, strict=False))
    year = pl.when(digits <= LAST_YEAR).then(2000 + digits).when(digits >= FIRST_YEAR).then(1900 + digits)
    values = {"item_id": needed("song_id"), "release_year": Value(year.cast(pl.String))}
    years = intake.rows("song_extra_info.csv", values)
    missing = years.select(pl.col("release_year").is_null().sum())
    intake.notes["songs_without_year"] = int(missing.collect().item())
    return relation(years, "release_year")


DATASET = PublicDataset(
    name="kkbox",
    title="songs played in KKBOX's app, WSDM Cup 2018 (the paper's KKBOX)",
    owner="KKBOX, on Kaggle",
    page="https://www.kaggle.com/c/kkbox-music-recommendation-challenge/data",
    terms="the competition's rules, accepted with an account: for research, not for redistribution",
    files=(
        PublicFile("train.csv", "msno,song_id,source_system_tab,source_screen_name,source_type,target", rows=7_377_418),
        PublicFile("songs.csv", "song_id,song_length,genre_ids,artist_name,composer,lyricist,language"),
        PublicFile("song_extra_info.csv", "song_id,name,isrc"),
    ),
    events=_events,
    attributes=_attributes,
    relations=("artist", "genre", "language", "release_year"),
    more_relations=("composer", "lyricist"),
    gap=2000,  # rows of the whole log between two of a listener; the paper's public code
)
