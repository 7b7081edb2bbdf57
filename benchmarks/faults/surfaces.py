"""Where input comes in: for each surface some whole inputs, how they are changed, and how the program reads them.

An input is a folder in memory: the bytes of each file by its name.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import sqlite3
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import torch
from mutations import changed_bytes, changed_json, changed_parquet, changed_text, encoded

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from small_shop import fitted, small_shop

from mkmsr.bundle.model_bundle import ModelBundle, new_bundle, save_bundle
from mkmsr.config import apply_overrides, read_toml, validate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.log import InteractionLog
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import ReadOptions, read_log
from mkmsr.data.readers.sql import masked
from mkmsr.recommend import Filters, Recommender, parse_condition
from mkmsr.reports.comparison import compare_runs
from mkmsr.reports.run_folder import read_run_folder
from mkmsr.runs.config import ExperimentConfig
from mkmsr.runs.experiment import run_experiment
from mkmsr.runtime.events import EpochRecord
from mkmsr.runtime.files import signed_json
from mkmsr.training.checkpoint import CheckpointFolder, Progress

Input = dict[str, bytes]

INPUTS = {
    **dict.fromkeys(["SQL", "bundle", "prepared data", "events CSV", "quoted CSV", "JSON lines", "Parquet"], 20_000),
    **dict.fromkeys(["attributes", "presplit", "checkpoint", "run folder"], 20_000),
    **dict.fromkeys(["TOML", "sessions", "filters", "service"], 80_000),
}
"""Surfaces, and how many changed inputs each gets."""

EVENTS = pl.DataFrame(
    [
        (f"s{n // 4}", f"item-{n % 5:02d}", "click" if n % 2 else "cart", 1_700_000_000 + 60 * n, "u1")
        for n in range(24)
    ],
    ["session", "item", "operation", "time", "user"],
    orient="row",
)
WIDE = "item,colour,brand,price,tags\n" + "".join(f"item-0{n},{('red', '')[n % 2]},b,{n * 2.5},a|b\n" for n in range(5))
LONG = "item,relation,value,time\n" + "".join(f"item-0{n % 5},brand,b{n % 3},{1_700_000_000 + n}\n" for n in range(9))
EXAMPLES = b"session_id:token\titem_id_list:token_seq\titem_id:token\n1\t3 1\t2\n2\t3\t1\n"
VISITS = b"session_id:token\titem_id:token\ttimestamp:float\na\t5\t2.0\na\t6\t1.0\nb\t5\t3.5\nb\t5\t4\n"
ADDRESSES = [
    "sqlite:///shop.db?table=events",
    "sqlite:///shop.db?table=events&order=time,item",
    "sqlite:///shop.db?query=SELECT%20item,%20session,%20time%20FROM%20events%20WHERE%20time%3E0%20ORDER%20BY%20time",
    "postgresql://me:s3cret@127.0.0.1:1/shop?table=public.events&order=id&sslmode=disable",
]
SAFE = ("sqlite:///shop.db", "postgresql://me:s3cret@127.0.0.1:1/")
"""How addresses begin that are opened; what else a changed one might open or call stays closed."""
TOML = [
    b'[model]\nname = "narm"\ndim = 8\ndropout = 0.1\n\n[training]\nepochs = 3\nbatch_size = 64\n'
    b'[training.optimiser]\nlearning_rate = 0.01\nschedule = "cosine"\n',
    b'[model]\nname = "compass"\ndim = 16\n[training]\nselect = "hit@20"\nthreads = 1\n',
    b'model.name = "mkm-sr"\nmodel.scorer = "cosine"\ntraining = {epochs = 2, patience = 1}\n',
]
SESSIONS: list[Any] = [
    {"events": [{"item": "plain", "operation": "click"}, ["item-03", "cart"], "two words"], "exclude": ["item-04"]},
    {"events": ["コーヒー"], "earlier": [{"item": "item-09", "operation": "order"}]},
    ["plain", ["item-01", None]],
]
FILTERS: list[Any] = [
    {"where": ["colour=red,grün", "brand!=brand-1", "price=1..30"], "at_most": {"brand": 2}, "k": 5},
    {"exclude": ["plain"], "exclude_operations": ["order"], "only": ["item-01", "item-02"], "operation": None},
    {"facts": {"price": {"plain": 12.5, "item-01": "3"}, "stock": {"item-02": ["yes", "no"]}}, "where": ["price=..9"]},
]
FIT = {"seed": 1, "training": {"epochs": 3, "batch_size": 64}, "shapes": {"weight": [2, 3]}}
"""What a checkpoint's fit depends on."""


@dataclass(frozen=True)
class Surface:
    """A place where input comes in.

    Args:
        seeds: Makes whole inputs.
        change: Returns a changed input.
        read: Reads an input whose files lie in a folder: raises an `MkmsrError` or nothing.
    """

    seeds: Callable[[], list[Input]]
    read: Callable[[Path, Input], object]
    change: Callable[[Input, Random], Input]


def surface_of(name: str, home: Path) -> Surface:
    """Return the surface of this name; `home` is a folder for what it needs."""
    if name == "service":
        from live_service import Service, requests

        return Surface(requests, Service(save_bundle(home / "served", small_bundle())).read, change_file)
    if name in ("sessions", "filters"):
        listed = Listed()
        read = listed.read_session if name == "sessions" else listed.read_filters
        return Surface(lambda: _documents(name, SESSIONS if name == "sessions" else FILTERS), read, change_file)
    made: dict[str, tuple[Callable[[], list[Input]], Callable[[Path, Input], object]]] = {
        "TOML": (lambda: [{"settings.toml": each} for each in TOML], read_settings),
        "bundle": (lambda: bundles(home / "bundles"), lambda at, _: Recommender.load(at).recommend(["plain"])),
        "prepared data": (lambda: prepared(home / "data"), lambda at, _: PreparedDataset.load(at)),
        "presplit": (presplit, lambda at, given: read_rows(read_log("presplit", at), given)),
        "events CSV": (lambda: [_table(EVENTS.write_csv, "events.csv", quote=False)], read_events),
        "quoted CSV": (lambda: [_table(_quoted, "events.csv", columns={"user": ""})], read_events),
        "JSON lines": (lambda: [_table(_nested, "events.jsonl", columns={"user": "about.user"})], read_events),
        "Parquet": (
            lambda: [_table(EVENTS.with_columns(pl.from_epoch("time")).write_parquet, "events.parquet")],
            read_events,
        ),
        "SQL": (lambda: databases(home), read_events),
        "attributes": (attribute_tables, read_events),
        "checkpoint": (lambda: checkpoints(home / "checkpoint"), lambda at, _: CheckpointFolder(at, FIT).load()),
        "run folder": (lambda: runs(home / "run"), lambda at, _: compare_runs([read_run_folder(at).run], samples=20)),
    }
    described = {"bundle": "bundle.json", "prepared data": "dataset.json"}.get(name)
    return Surface(
        *made[name], change_file if described is None else lambda given, chance: signed(given, chance, described)
    )


def change_file(given: Input, chance: Random) -> Input:
    """Change one file after its kind, sometimes two; rarely one goes."""
    changed = dict(given)
    for _ in range(chance.choice([1, 1, 1, 2])):
        name = chance.choice([each for each in given if each != "options.json" or chance.random() < 0.3] or list(given))
        content, suffix = changed.get(name, b""), Path(name).suffix
        if suffix == ".json":
            changed[name] = changed_json(content, chance)
        elif suffix == ".parquet":
            changed[name] = changed_parquet(content, chance)
        elif suffix == ".jsonl":
            lines = content.split(b"\n")
            at = chance.randrange(len(lines))
            lines[at] = changed_json(lines[at], chance)
            changed[name] = b"\n".join(lines)
        elif suffix in (".csv", ".toml", ".inter", ".address") and chance.random() < 0.7:
            separators = {".toml": "\n=. ", ".inter": "\t\n ", ".address": "&=?/ %"}.get(suffix, ",\n")
            changed[name] = encoded(changed_text(content.decode("utf-8", "replace"), chance, separators), chance)
        else:
            changed[name] = changed_bytes(content, chance)
        if chance.random() < 0.02 and len(changed) > 1:
            changed.pop(name, None)
    return changed


def signed(given: Input, chance: Random, description: str) -> Input:
    """Change a folder that has checksums, and mostly put them right, so that more than they can find a change."""
    changed = change_file(given, chance)
    try:
        entries = json.loads(changed[description])
        for name, entry in entries["files"].items():
            content = changed[name]
            digest = hashlib.sha256(content).hexdigest()
            entries["files"][name] = {"bytes": len(content), "sha256": digest} if isinstance(entry, dict) else digest
        entries.pop("sha256", None)
        if chance.random() < 0.9:
            changed[description] = signed_json(entries).encode("utf-8", "surrogatepass")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # The description itself is damaged.
    return changed


def small_bundle(name: str = "pop", **settings: object) -> ModelBundle:
    """Return a model with fresh weights."""
    data = small_shop(sessions=30)
    config, model = fitted(name, data, **settings)
    return new_bundle(model, name=name, config=config, dataset=data, metrics={})


def bundles(home: Path) -> list[Input]:
    """Bundles of a table of counts, of sessions, of a network."""
    made = [small_bundle("pop"), small_bundle("v-sknn"), small_bundle("narm", dim=4)]
    return [_contents(save_bundle(home / each.name, each)) for each in made]


def prepared(home: Path) -> list[Input]:
    """A small prepared shop, with and without new items."""
    for name in ("drop", "keep"):
        small_shop(sessions=30, new_items=name).save(home / name)
    return [_contents(home / name) for name in ("drop", "keep")]


def databases(home: Path) -> list[Input]:
    """A database, and addresses of its table and of another."""
    connection = sqlite3.connect(home / "shop.db")
    connection.execute("CREATE TABLE events (session TEXT, item, operation, time INTEGER, user)")
    connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", EVENTS.rows())
    connection.commit()
    connection.close()
    database = (home / "shop.db").read_bytes()
    return [_options() | {"shop.db": database, "events.address": each.encode()} for each in ADDRESSES]


def attribute_tables() -> list[Input]:
    """Events with what is known about their items, wide and long."""
    events = EVENTS.write_csv().encode()
    wide = _options(multi={"tags": "|"}, attribute_columns={"display": "price"})
    return [
        wide | {"events.csv": events, "products.csv": WIDE.encode()},
        _options() | {"events.csv": events, "products.csv": LONG.encode()},
    ]


def presplit() -> list[Input]:
    """Examples as SR-GNN's preparation and RecBole write them."""
    lists = pickle.dumps(([[3, 1], [3], [1]], [2, 1, 2]))
    return [
        {"train.txt": lists, "test.txt": lists},
        {"d.train.inter": EXAMPLES, "d.test.inter": EXAMPLES},
        {"d.train.inter": VISITS, "d.valid.inter": VISITS, "d.test.inter": VISITS},
    ]


def checkpoints(home: Path) -> list[Input]:
    """What a fit leaves after an epoch."""
    record = EpochRecord(1, "sessions", 0.5, None, {"hit@20": 0.25}, 1.5, 100.0, 0.01)
    progress, weights = Progress(2, 3, 0.5, 1, record.validation, (record,)), {"model.weight": torch.ones(2, 3)}
    CheckpointFolder(home, FIT).save(progress, weights, best=weights)
    return [_contents(home)]


def runs(home: Path) -> list[Input]:
    """A whole run of a network, and one of a model without weights."""
    for name, model in (("network", {"name": "narm", "dim": 4}), ("counts", {"name": "pop"})):
        config = validate(ExperimentConfig, {"model": model, "training": {"epochs": 2}})
        run_experiment(small_shop(sessions=30), config, home / name, report=False)
    return [_contents(home / name) for name in ("network", "counts")]


def read_events(at: Path, given: Input) -> None:
    """Read an event table."""
    options = parsed(given, "options.json")
    options = {key: value for key, value in (options if isinstance(options, dict) else {}).items() if key != "scratch"}
    if "products.csv" in given:
        options["attributes"] = str(at / "products.csv")
    source = str(next((at / name for name in given if name.startswith("events.")), at / "events.csv"))
    if source.endswith(".address"):
        source = given["events.address"].decode("utf-8", "replace")
        if not source.startswith(SAFE):
            masked(source)
            return
        source = source.replace("///shop.db", f"///{at}/shop.db")
    read_rows(read_log("events", source, validate(ReadOptions, options)), given)


def read_rows(log: InteractionLog, given: Input) -> None:
    """Read all rows of a log, and prepare one in sixteen."""
    log.events.collect()
    if log.attributes is not None:
        log.attributes.collect()
    if zlib.crc32(b"".join(given.values())) % 16 == 0:
        prepare(log, PrepareOptions(gap_seconds=600, new_items="keep"))


def read_settings(at: Path, given: Input) -> None:
    """Read a settings file, overrides made of its lines, and the settings that they make."""
    settings = read_toml(at / "settings.toml")
    lines = given["settings.toml"].decode("utf-8", "replace").split("\n")[1:4]
    validate(ExperimentConfig, settings)
    validate(ExperimentConfig, apply_overrides(settings, [each for each in lines if "=" in each]))


class Listed:
    """A recommender that is given sessions and filters."""

    def __init__(self) -> None:
        self._recommender = Recommender(small_bundle())

    def read_session(self, _at: Path, given: Input) -> None:
        """Ask for one session and for several."""
        session = parsed(given, "sessions.json")
        self._recommender.recommend(session, 5)
        self._recommender.recommend_many([session], 3, exclude_session=True)

    def read_filters(self, _at: Path, given: Input) -> None:
        """Ask with filters, conditions written as on the command line, and facts."""
        asked = parsed(given, "filters.json")
        if not isinstance(asked, dict):
            return
        where, facts = asked.get("where", ()), asked.get("facts")
        if isinstance(where, list) and all(isinstance(each, str) for each in where):
            asked["where"] = [parse_condition(each) for each in where]
        names = ("exclude", "exclude_operations", "only", "where", "at_most")
        filters = Filters(**{name: asked[name] for name in names if name in asked})
        if facts is not None:
            self._recommender.set_facts(facts)
        k, operation = asked.get("k", 5), asked.get("operation")
        if not self._recommender.recommend(["plain"], k, filters=filters, operation=operation).items:
            self._recommender.why_nothing(filters)


def _options(**options: Any) -> Input:
    """Options of a reader, as a file that is changed too; by default half of the rows may be malformed."""
    return {"options.json": json.dumps({"malformed_limit": 0.5, **options}).encode()}


def _table(write: Callable[[Any], Any], name: str, **options: Any) -> Input:
    file = io.BytesIO()
    write(file)
    return _options(**options) | {name: file.getvalue()}


def _quoted(file: Any) -> None:
    EVENTS.write_csv(file, quote_style="always")


def _nested(file: Any) -> None:
    EVENTS.with_columns(about=pl.struct("user", "time")).write_ndjson(file)


def _documents(name: str, values: list[Any]) -> list[Input]:
    return [{f"{name}.json": json.dumps(each).encode()} for each in values]


def parsed(given: Input, name: str) -> Any:
    """Return the JSON in a file of an input; None where there is none."""
    try:
        return json.loads(given[name])
    except (ValueError, RecursionError, KeyError):
        return None


def _contents(folder: Path) -> Input:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
