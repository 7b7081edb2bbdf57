"""Figure 4: maps of item vectors from Word2Vec, from TransH alone and from MKM-SR, with numbers beside them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from mkmsr.data.dataset import PreparedDataset
from mkmsr.errors import ConfigError, TrainingError
from mkmsr.evaluation.item_space import closeness, neighbour_purity
from mkmsr.paper.embedding_map import SPACES, ItemMaps, ItemSpace, figure_4
from mkmsr.paper.figure4_items import choose_items, default_attribute, later_pairs, pairs_of_sessions, sample_pairs
from mkmsr.paper.settings import Reproduction, check_distinct, data_title, experiment_settings
from mkmsr.runs.experiment import ExperimentConfig, new_model, validator
from mkmsr.runs.grid import settings_key
from mkmsr.runs.jobs import Job, run_jobs
from mkmsr.runtime.events import Listener, PhaseStarted, ignore
from mkmsr.runtime.files import atomic_write
from mkmsr.training import fit, fitting_data
from mkmsr.training.checkpoint import remove_checkpoint

__all__ = ["reproduce_figure_4"]

VECTORS_FILE = "vectors.safetensors"
TRANSH_EPOCHS = 50
"""Passes of TransH alone over the triples, with false triples and a margin; without them all vectors could coincide."""


def reproduce_figure_4(
    datasets: Sequence[Path],
    out: Path,
    *,
    command: str,
    attribute: str | None = None,
    min_events: int = 3,
    settings: Path | None = None,
    epochs: int | None = None,
    seed: int = 0,
    workers: int = 2,
    device: str = "cpu",
    listener: Listener = ignore,
) -> Reproduction:
    """Learn the three kinds of vectors as far as they are not there yet, draw, and measure.

    Args:
        datasets: Folders of prepared data, with distinct names.
        out: Vectors go to `out/runs`.
        command: What writes the figure, to be stated in it.
        attribute: The relation that colours the maps; by default `default_attribute`.
        min_events: Items need so many training events.
        settings: Folder of settings files, see `experiment_settings`.
        epochs: Most epochs of MKM-SR and of TransH, instead of those of the settings.
        seed: Of vectors and maps.
        workers: Runs beside each other, in processes of one thread each.
        device: Where models compute.
        listener: Told about runs, see `run_jobs`.

    Raises:
        ConfigError: A setting or a name is wrong, or gensim or scikit-learn is not installed.
        DataError: There is no such attribute, or too few items have it.
        TrainingError: A run failed.
    """
    _check_installed()
    check_distinct(datasets)
    jobs: dict[Path, list[Job]] = {}
    for data in datasets:
        dataset = PreparedDataset.load(data)
        shown = choose_items(dataset, attribute or default_attribute(dataset), min_events)
        jobs[data] = []
        for kind in SPACES:
            config = _config(data, kind, settings, epochs)
            key = settings_key(config, dataset.fingerprint, seed, shown.items[shown.shown].tolist())
            folder = out / "runs" / data.resolve().name / f"{kind}-{key}"
            arguments = (data, kind, config, folder, seed, device, shown.items[shown.shown])
            jobs[data].append(
                Job(f"{data.resolve().name} {SPACES[kind]}", folder, _learn, arguments, marker=VECTORS_FILE)
            )
    outcomes = run_jobs([job for each in jobs.values() for job in each], workers=workers, listener=listener)
    failed = next((outcome for outcome in outcomes if outcome.status == "failed"), None)
    if failed is not None:
        raise TrainingError(f"{failed.job.name}: {failed.reason}")
    maps = [_maps(data, found, attribute, min_events) for data, found in jobs.items()]
    return Reproduction(figure_4(maps, command=command), {each.title: _document(each) for each in maps})


def _config(data: Path, kind: str, settings: Path | None, epochs: int | None) -> ExperimentConfig:
    """RIB's Word2Vec, TransH as MKM-SR's second task without the first, or MKM-SR."""
    if kind == "word2vec":
        return experiment_settings(data, "rib", settings)
    given = {"epochs": epochs} if epochs is not None else {}
    config = experiment_settings(data, "mkm-sr", settings, given)
    if kind == "mkm-sr":
        return config
    training = config.training
    alone = training.model_copy(
        update={
            "strategy": "pretrain",
            "pretrain_epochs": epochs or TRANSH_EPOCHS,
            "loss": training.loss.model_copy(update={"knowledge": "margin", "knowledge_weight": 1.0}),
        }
    )
    return config.model_copy(update={"training": alone})


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
    training = fitting_data(dataset)
    model = new_model(dataset, config, seed)
    listener(PhaseStarted("fit"))
    if kind == "word2vec":
        model.observe(training)
    else:
        alone = kind == "transh"
        fit(
            model,
            training,
            config.training,
            validate=None if alone else validator(dataset, config.training.select),
            seed=seed,
            device=device,
            folder=folder,
            resume=True,
            listener=listener,
            stop_after=config.training.pretrain_epochs if alone else None,
        )
    vectors = model.get_parameter("items.weight").detach().cpu().numpy().astype(np.float32)
    listener(PhaseStarted("t-SNE"))
    perplexity = min(30.0, (len(shown) - 1) / 3)
    places = TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=seed).fit_transform(vectors[shown])
    atomic_write(folder / VECTORS_FILE, save({"vectors": vectors, "map": places.astype(np.float32)}))
    remove_checkpoint(folder)


def _maps(data: Path, jobs: Sequence[Job], attribute: str | None, min_events: int) -> ItemMaps:
    dataset = PreparedDataset.load(data)
    attribute = attribute or default_attribute(dataset)
    chosen = choose_items(dataset, attribute, min_events)
    trained, later = pairs_of_sessions(dataset.train, chosen.items), later_pairs(dataset, chosen.items)
    apart = trained[~(chosen.has[trained[:, 0]] & chosen.has[trained[:, 1]]).any(axis=1)]
    trained, later, apart = (sample_pairs(pairs) for pairs in (trained, later, apart))
    spaces = []
    for kind, job in zip(SPACES, jobs, strict=True):
        tensors = load_file(job.folder / VECTORS_FILE)
        vectors = tensors["vectors"][chosen.items]
        spaces.append(
            ItemSpace(
                kind,
                neighbour_purity(vectors, chosen.has),
                closeness(vectors, trained),
                closeness(vectors, apart),
                closeness(vectors, later),
                tensors["map"],
            )
        )
    return ItemMaps(
        data_title(data, dataset), attribute, chosen.has, chosen.colours, chosen.names, tuple(spaces), min_events
    )


def _check_installed() -> None:
    """Both extras, before anything is trained."""
    missing = [name for name in ("gensim", "sklearn") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"Figure 4 needs {' and '.join(missing)}; install what it needs with: pip install 'mkmsr[word2vec,tsne]'"
        )


def _document(maps: ItemMaps) -> dict[str, Any]:
    """The numbers as plain data."""
    names = ("purity", "close", "close_apart", "close_later")
    return {
        "attribute": maps.attribute,
        "items": len(maps.has),
        "spaces": {space.kind: {name: _mean(getattr(space, name)) for name in names} for space in maps.spaces},
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmean(values))
