"""The public data sets that have a reader: who offers them, under which terms, and how their files should look.

Nothing here is part of this project. Sizes and row counts are those of copies in circulation; where a file has neither,
only its name and columns can be checked.
"""

from __future__ import annotations

from dataclasses import dataclass

from mkmsr.errors import ConfigError, nearest

__all__ = ["PUBLIC_DATASETS", "PublicDataset", "PublicFile", "public_dataset"]


@dataclass(frozen=True)
class PublicFile:
    """A file of a public data set.

    Args:
        name: Its name below the data set's folder; a copy with .gz will do.
        columns: Names that its first line should hold; of a file without a header, its fields in order.
        separator: Between fields; empty for JSON lines, whose columns are the keys of a line.
        header: Whether the first line holds the names.
        needed: Whether the reader cannot do without.
        bytes: Size of the unpacked file, where known.
        rows: Rows without the header, where known.
        sha256: Of the unpacked content, where known.
    """

    name: str
    columns: tuple[str, ...]
    separator: str = ","
    header: bool = True
    needed: bool = True
    bytes: int | None = None
    rows: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class PublicDataset:
    """A public data set.

    Args:
        name: The kind of its reader.
        title: What it is.
        owner: Who offers it.
        page: Where.
        terms: Under which terms, as far as known; the owner's page decides.
        files: What the reader reads.
        address: The address below which each file can be had directly, or None where the owner asks for an account.
    """

    name: str
    title: str
    owner: str
    page: str
    terms: str
    files: tuple[PublicFile, ...]
    address: str | None = None


def _columns(text: str, separator: str = ",") -> tuple[str, ...]:
    return tuple(text.split(separator))


_REES46 = _columns("event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session")

_ALL = (
    PublicDataset(
        "jdata-demo",
        "the paper's Demo sample of JDATA, cut into sessions (29,445 events)",
        "the authors of MKM-SR",
        "https://github.com/ciecus/MKM-SR",
        "none stated in the repository: for research, not for redistribution",
        (
            PublicFile(
                "train.csv",
                _columns("action_time,user_id,sku_id,type,sessionId,index"),
                bytes=1_491_596,
                sha256="5219c3e3f9f05a7e680ea3fbe29c42e33580ed361de828054f7ed7ec145e3413",
            ),
            PublicFile(
                "test_new_item.csv",
                _columns("action_time,user_id,sku_id,type,sessionId,index"),
                bytes=175_981,
                sha256="a929df93c7b13ff52304819a37f05db7ecf3982ac19a7bf48d484cf3b68e90c3",
            ),
            PublicFile(
                "with_new_item/entity2id",
                _columns("entity,id,type"),
                "\t",
                bytes=295_262,
                sha256="303ea8c6779912aa3a8c3c148603cb12e9042841cbb9a0e7857e8c45291891eb",
            ),
            PublicFile(
                "with_new_item/kg2id",
                _columns("head,tail,relation"),
                "\t",
                bytes=681_971,
                sha256="581c3b8b763531b1b6ce3b3f6b1244f843dc71bc4176c40598e287acdf622c5c",
            ),
            PublicFile(
                "with_new_item/relation2id",
                _columns("relation,id"),
                "\t",
                bytes=62,
                sha256="4b82f8e199a132d0d01d6a61dd41dcf69d67863257f0162ea5b7c1f381888e77",
            ),
        ),
        "https://raw.githubusercontent.com/ciecus/MKM-SR/84f7fae1f811dc068c3f9eb7a2857fce2e5ad3a0/data/demo/",
    ),
    PublicDataset(
        "jdata",
        "micro-behaviours in JD's shop, February to April 2018 (the paper's JDATA)",
        "JD",
        "https://jdata.jd.com/html/detail.html?id=8",
        "the competition's terms, accepted with an account: for research, not for redistribution",
        (
            PublicFile("jdata_action.csv", _columns("user_id,sku_id,action_time,module_id,type"), rows=37_214_269),
            PublicFile("jdata_product.csv", _columns("sku_id,brand,shop_id,cate,market_time")),
            PublicFile(
                "jdata_shop.csv",
                _columns("vender_id,shop_id,fans_num,vip_num,shop_reg_tm,cate,shop_score"),
                needed=False,
            ),
        ),
    ),
    PublicDataset(
        "kkbox",
        "songs played in KKBOX's app, WSDM Cup 2018 (the paper's KKBOX)",
        "KKBOX, on Kaggle",
        "https://www.kaggle.com/c/kkbox-music-recommendation-challenge/data",
        "the competition's rules, accepted with an account: for research, not for redistribution",
        (
            PublicFile(
                "train.csv",
                _columns("msno,song_id,source_system_tab,source_screen_name,source_type,target"),
                rows=7_377_418,
            ),
            PublicFile("songs.csv", _columns("song_id,song_length,genre_ids,artist_name,composer,lyricist,language")),
            PublicFile("song_extra_info.csv", _columns("song_id,name,isrc")),
        ),
    ),
    PublicDataset(
        "retailrocket",
        "views, carts and transactions of a shop, May to September 2015",
        "RetailRocket, on Kaggle",
        "https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset",
        "CC BY-NC-SA 4.0",
        (
            PublicFile(
                "events.csv",
                _columns("timestamp,visitorid,event,itemid,transactionid"),
                bytes=94_237_913,
                rows=2_756_101,
            ),
            PublicFile("item_properties_part1.csv", _columns("timestamp,itemid,property,value"), bytes=484_315_749),
            PublicFile("item_properties_part2.csv", _columns("timestamp,itemid,property,value"), bytes=408_929_907),
            PublicFile("category_tree.csv", _columns("categoryid,parentid"), bytes=14_454, rows=1_669),
        ),
    ),
    PublicDataset(
        "trivago",
        "hotel searches, RecSys Challenge 2019",
        "trivago",
        "https://recsys.trivago.cloud/challenge/dataset/",
        "the challenge's terms, accepted with an account",
        (
            PublicFile(
                "train.csv",
                _columns(
                    "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,current_filters,"
                    "impressions,prices"
                ),
                rows=15_932_992,
            ),
            PublicFile("item_metadata.csv", _columns("item_id,properties"), rows=927_142),
        ),
    ),
    PublicDataset(
        "rees46",
        "a multi-category store, October and November 2019; other months and the cosmetics shop have the same form",
        "REES46 Open CDP, on Kaggle and on its own pages",
        "https://www.kaggle.com/datasets/mkechinov/ecommerce-behavior-data-from-multi-category-store",
        "free to use with a link to that page and to https://rees46.com",
        (
            PublicFile("2019-Oct.csv", _REES46, needed=False, bytes=5_668_612_855, rows=42_448_764),
            PublicFile("2019-Nov.csv", _REES46, needed=False, bytes=9_006_762_395, rows=67_501_979),
        ),
    ),
    PublicDataset(
        "yoochoose",
        "clicks and buys in a shop, April to September 2014, RecSys Challenge 2015",
        "YooChoose",
        "https://2015.recsyschallenge.com/challenge.html",
        "CC BY-NC-ND 4.0, as the files' own readme says",
        (
            PublicFile(
                "yoochoose-clicks.dat", _columns("session,timestamp,item,category"), header=False, rows=33_003_944
            ),
            PublicFile(
                "yoochoose-buys.dat",
                _columns("session,timestamp,item,price,quantity"),
                header=False,
                rows=1_150_753,
            ),
        ),
    ),
    PublicDataset(
        "diginetica",
        "item views and purchases of a shop, January to June 2016, CIKM Cup 2016",
        "Diginetica, on CodaLab",
        "https://competitions.codalab.org/competitions/11161",
        "the competition's terms, accepted with an account",
        (
            PublicFile("train-item-views.csv", _columns("sessionId;itemId;timeframe;eventdate", ";"), ";"),
            PublicFile("train-purchases.csv", _columns("sessionId;timeframe;eventdate;itemId", ";"), ";", needed=False),
            PublicFile("products.csv", _columns("itemId;pricelog2;product.name.tokens", ";"), ";"),
            PublicFile("product-categories.csv", _columns("itemId;categoryId", ";"), ";"),
        ),
    ),
    PublicDataset(
        "otto",
        "clicks, carts and orders in OTTO's shop, August 2022 (216,716,096 events)",
        "OTTO, on GitHub and Kaggle",
        "https://github.com/otto-de/recsys-dataset",
        "CC BY 4.0",
        (
            PublicFile(
                "otto-recsys-train.jsonl",
                ("session", "events"),
                "",
                header=False,
                bytes=11_307_535_945,
                rows=12_899_779,
            ),
        ),
    ),
)

PUBLIC_DATASETS = {dataset.name: dataset for dataset in _ALL}
"""Every public data set with a reader, by the reader's kind."""


def public_dataset(name: str) -> PublicDataset:
    """The data set of this name.

    Raises:
        ConfigError: There is none.
    """
    if name not in PUBLIC_DATASETS:
        known = ", ".join(PUBLIC_DATASETS)
        raise ConfigError(f"no public data set {name!r}{nearest(name, PUBLIC_DATASETS)}; known: {known}")
    return PUBLIC_DATASETS[name]
