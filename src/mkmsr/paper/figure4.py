"""Figure 4: maps of item vectors from Word2Vec, from TransH alone and from MKM-SR, with numbers that check them."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import ConfigError
from mkmsr.paper.item_space import (
    ChosenItems,
    ItemDifference,
    chance_purity,
    choose_items,
    closeness,
    item_difference,
    later_pairs,
    neighbour_purity,
    pairs_of_sessions,
    sample_pairs,
)
from mkmsr.paper.runs import Reproduction, RunOptions, check_distinct, data_title, experiment_settings, finish_jobs
from mkmsr.reports.figures import canvas, panel_title, render
from mkmsr.reports.tables import TextTable
from mkmsr.reports.write_up import Drawing, Section, WriteUp, draw_if_possible, file_name
from mkmsr.runs.config import ExperimentConfig, new_model
from mkmsr.runs.experiment import fit_new_model
from mkmsr.runs.grid import Job, settings_key
from mkmsr.runtime.events import Listener, PhaseStarted
from mkmsr.runtime.files import atomic_write
from mkmsr.training.checkpoint import remove_checkpoint
from mkmsr.training.trainer import fitting_data

VECTORS_FILE = "vectors.safetensors"

TRANSH_EPOCHS = 50
"""Passes of TransH alone over the triples, with false triples and a margin; without them all vectors could coincide."""

SPACES: Mapping[str, str] = {"word2vec": "Word2Vec", "transh": "TransH alone", "mkm-sr": "MKM-SR"}
"""Where item vectors come from, and what the figure calls it."""

COLOURS = ("#0b6e99", "#c75b12", "#2a8a57", "#a3478f", "#b8860b", "#4a5fc1", "#8c564b", "#5f7f1f")
"""Of the most frequent values of the attribute; readable on white and on black."""

_Numbers: TypeAlias = NDArray[np.float64]


def reproduce_figure_4(
    datasets: Sequence[Path],
    out: Path,
    options: RunOptions,
    attribute: str | None = None,
    min_events: int = 3,
    seed: int = 0,
) -> Reproduction:
    """Learn the three kinds of vectors as far as they are not there yet, draw, and measure.

    Vectors go to `out/runs`; epochs hold for MKM-SR and TransH. The attribute is the relation that colours the maps, by
    default the one with the fewest values; items need `min_events` training events.
    """
    _check_installed()
    check_distinct(datasets)
    loaded = {data: PreparedDataset.load(data) for data in datasets}
    items = {data: choose_items(dataset, attribute, min_events) for data, dataset in loaded.items()}
    jobs: dict[Path, list[Job]] = {data: [] for data in datasets}
    for data, chosen in items.items():
        shown = chosen.items[chosen.shown]
        for kind, name in SPACES.items():
            config = _config(data, kind, options)
            key = settings_key(config, loaded[data].fingerprint, seed, shown.tolist())
            folder = out / "runs" / data.resolve().name / f"{kind}-{key}"
            arguments = (data, kind, config, folder, seed, options.device, shown)
            jobs[data].append(Job(f"{data.resolve().name} {name}", folder, _learn, arguments, marker=VECTORS_FILE))
    finish_jobs((job for each in jobs.values() for job in each), options)
    maps = [
        _Maps(data_title(data, loaded[data]), min_events, items[data], _spaces(loaded[data], items[data], jobs[data]))
        for data in datasets
    ]
    return Reproduction(_write_up(maps), {each.title: each.to_json() for each in maps})


@dataclass(frozen=True)
class _Space:
    """Item vectors of one kind. Values are one an item, shape [m]; NaN where there is none.

    `purity` is the share of nearest neighbours with the same value. Closeness is to items that share a training session
    (`close`), those of them with another value (`close_apart`), or a later session alone (`close_later`). `map` has the
    places of the shown items, [shown, 2].
    """

    purity: _Numbers
    close: _Numbers
    close_apart: _Numbers
    close_later: _Numbers
    map: NDArray[np.float32]


@dataclass(frozen=True)
class _Maps:
    """The vectors of one dataset's items, by kind."""

    title: str
    min_events: int
    chosen: ChosenItems
    spaces: Mapping[str, _Space]

    def to_json(self) -> dict[str, Any]:
        names = ("purity", "close", "close_apart", "close_later")
        means = {kind: {name: _mean(getattr(space, name)) for name in names} for kind, space in self.spaces.items()}
        spaces = {
            kind: {name: None if math.isnan(value) else value for name, value in each.items()}
            for kind, each in means.items()
        }
        return {"attribute": self.chosen.attribute, "items": len(self.chosen.items), "spaces": spaces}


def _check_installed() -> None:
    """Both extras, before anything is trained."""
    missing = [name for name in ("gensim", "sklearn") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"Figure 4 needs {' and '.join(missing)}; install what it needs with: pip install 'mkmsr[word2vec,tsne]'"
        )


def _config(data: Path, kind: str, options: RunOptions) -> ExperimentConfig:
    """RIB's Word2Vec, TransH as MKM-SR's second task without the first, or MKM-SR."""
    if kind == "word2vec":
        return experiment_settings(data, "rib", options.settings)
    config = options.experiment(data, "mkm-sr")
    if kind == "mkm-sr":
        return config
    loss = config.training.loss.model_copy(update={"knowledge": "margin", "knowledge_weight": 1.0})
    alone = {"strategy": "pretrain", "pretrain_epochs": options.epochs or TRANSH_EPOCHS, "loss": loss}
    return config.model_copy(update={"training": config.training.model_copy(update=alone)})


def _learn(
    listener: Listener,
    data: Path,
    kind: str,
    config: ExperimentConfig,
    folder: Path,
    seed: int,
    device: str,
    shown: NDArray[np.int64],
) -> None:
    """One kind of vectors and their map, in a process of its own."""
    from sklearn.manifold import TSNE

    dataset = PreparedDataset.load(data)
    listener(PhaseStarted("fit"))
    if kind == "word2vec":
        model = new_model(dataset, config, seed)
        model.observe(fitting_data(dataset))
    else:
        how: dict[str, Any] = {"seed": seed, "device": device, "folder": folder, "resume": True, "listener": listener}
        stop_after = config.training.pretrain_epochs if kind == "transh" else None
        model, _ = fit_new_model(dataset, config, stop_after=stop_after, **how)
    vectors = model.get_parameter("items.weight").detach().cpu().numpy().astype(np.float32)
    listener(PhaseStarted("t-SNE"))
    perplexity = min(30.0, (len(shown) - 1) / 3)
    places = TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=seed).fit_transform(vectors[shown])
    atomic_write(folder / VECTORS_FILE, save({"vectors": vectors, "map": places.astype(np.float32)}))
    remove_checkpoint(folder)


def _spaces(dataset: PreparedDataset, chosen: ChosenItems, jobs: Sequence[Job]) -> dict[str, _Space]:
    trained, later = pairs_of_sessions(dataset.train, chosen.items), later_pairs(dataset, chosen.items)
    apart = trained[~(chosen.has[trained[:, 0]] & chosen.has[trained[:, 1]]).any(axis=1)]
    pairs = [sample_pairs(each) for each in (trained, apart, later)]
    spaces = {}
    for kind, job in zip(SPACES, jobs, strict=True):
        tensors = load_file(job.folder / VECTORS_FILE)
        vectors = tensors["vectors"][chosen.items]
        together, other_value, after = (closeness(vectors, each) for each in pairs)
        spaces[kind] = _Space(neighbour_purity(vectors, chosen.has), together, other_value, after, tensors["map"])
    return spaces


def _write_up(data: Sequence[_Maps]) -> WriteUp:
    return WriteUp(
        name="figure4",
        title="Figure 4: where items lie",
        lead=(
            "Item vectors from Word2Vec on the item sequences of training sessions, from TransH on the triples alone, "
            "and from MKM-SR, as t-SNE maps coloured by an attribute. A map can be read in many ways; the numbers "
            "beside it are computed in the full space."
        ),
        sections=tuple(Section(each.title, _sentences(each), _drawings(each), (_table(each),)) for each in data),
    )


def _drawings(maps: _Maps) -> tuple[Drawing, ...]:
    shown, attribute = len(maps.chosen.shown), maps.chosen.attribute
    purities = (
        f"{SPACES[kind]} with a neighbour purity of {100 * np.nanmean(space.purity):.0f} per cent"
        for kind, space in maps.spaces.items()
    )
    return draw_if_possible(
        f"figure4-{file_name(maps.title)}",
        partial(_draw, maps),
        f"Maps of {shown:,} items of {maps.title}, coloured by {attribute}: {', '.join(purities)}",
        f"t-SNE of {shown:,} items that have one of the {len(maps.chosen.names)} most frequent values of {attribute}; "
        "below each map, the share of the ten nearest neighbours with the same value, and the closeness of items that "
        "share a session (0.5 is chance).",
    )


def _draw(maps: _Maps) -> bytes:
    chosen, count = maps.chosen, len(maps.spaces)
    with canvas(width=3.1 * count, height=3.7, panels=count, shared=False) as (figure, panels):
        for axes, (kind, space) in zip(panels, maps.spaces.items(), strict=True):
            order = np.random.default_rng(0).permutation(len(chosen.shown))  # no value lies on top of the others
            places = space.map[order]
            colours = np.array(COLOURS)[chosen.colours[order]]
            axes.scatter(places[:, 0], places[:, 1], c=colours, s=5, linewidths=0, rasterized=True)
            panel_title(axes, SPACES[kind])
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[["left", "bottom"]].set_visible(False)
            axes.set_xlabel(f"purity {_percent(space.purity)} %, closeness {_mean(space.close):.3f}")
        handles = [
            panels[0].plot([], [], "o", color=colour, markersize=5, label=name[:24])[0]
            for name, colour in zip(chosen.names, COLOURS, strict=False)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        return render(figure, "figure4")


def _table(maps: _Maps) -> TextTable:
    chosen = maps.chosen
    rows = []
    for kind, space in maps.spaces.items():
        close = (space.close, space.close_apart, space.close_later)
        rows.append((SPACES[kind], _percent(space.purity), *(f"{_mean(each):.3f}" for each in close)))
    rows.append(("chance", f"{100 * chance_purity(chosen.has):.1f}", "0.500", "0.500", "0.500"))
    header = ("vectors", "purity, %", "closeness", "closeness, other value", "closeness, later sessions")
    first = next(iter(maps.spaces.values()))
    together, later = (int((~np.isnan(each)).sum()) for each in (first.close, first.close_later))
    notes = (
        f"{len(chosen.items):,} items with at least {maps.min_events} training events and a value of "
        f"{chosen.attribute} ({chosen.has.shape[1]:,} values). Purity: share of an item's ten nearest neighbours "
        "(cosine) that have its value.",
        "Closeness: for two items of one training session, the share of random items that are farther away; mean over "
        f"{together:,} items. Other value: over pairs with different values of the attribute. Later sessions: pairs "
        f"of validation and test sessions that no training session has, over {later:,} items.",
    )
    return TextTable(f"{maps.title}: item vectors by {chosen.attribute}", header, tuple(rows), notes)


def _sentences(maps: _Maps) -> tuple[str, ...]:
    """The paper's three statements, each confirmed, refuted or undecided, with numbers."""
    word2vec, transh, mkm_sr = (maps.spaces[kind] for kind in SPACES)
    mixes = item_difference(transh.purity, word2vec.purity)
    apart = item_difference(word2vec.close_apart, transh.close_apart)
    finds = item_difference(mkm_sr.purity, word2vec.purity)
    keeps = item_difference(mkm_sr.close_apart, transh.close_apart)
    value = maps.chosen.attribute
    return (
        f"{_verdict(mixes)}: (a) Word2Vec cannot tell values of {value} apart as TransH can. TransH's purity is "
        f"{_points(mixes)} percentage points above Word2Vec's.",
        f"{_verdict(apart)}: (b) TransH alone puts items that occur together but differ in {value} farther apart than "
        f"Word2Vec does. Word2Vec's closeness of such pairs is {_plain(apart)} above TransH's.",
        f"{_verdict(finds, keeps)}: (c) MKM-SR tells values of {value} apart and yet keeps items that occur together "
        f"close. Its purity is {_points(finds)} percentage points above Word2Vec's, its closeness of pairs with "
        f"different values {_plain(keeps)} above TransH's.",
    )


def _verdict(*found: ItemDifference) -> str:
    """Confirmed if all differences are above zero beyond chance, refuted if one is below."""
    if any(each.high < 0 for each in found):
        return "Refuted"
    return "Confirmed" if all(each.low > 0 for each in found) else "Undecided"


def _points(found: ItemDifference) -> str:
    return f"{100 * found.difference:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _plain(found: ItemDifference) -> str:
    return f"{found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _mean(values: _Numbers) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan


def _percent(values: _Numbers) -> str:
    return f"{100 * _mean(values):.1f}"
