"""In memory, as a notebook or a shop's program uses it: data from frames, models that fit, recommend and are compared.

    data = Dataset.from_frame(events, item="sku", operation="type", time="ts", user="uid", items=products)
    compass = Compass().fit(data)
    compass.recommend([("sku-1", "click"), ("sku-1", "cart")], k=10).to_frame()
    compare([compass, VSKNN().fit(data)], data).to_frame()

Nothing is written to disk before `save`. The commands of the program do the same with folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mkmsr.bundle.alignment import aligned_split
from mkmsr.bundle.model_bundle import load_bundle, new_bundle
from mkmsr.config import validate
from mkmsr.data.dataset import PreparedDataset, SplitName
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import read_log
from mkmsr.data.readers.options import ReadOptions
from mkmsr.data.readers.tabular import read_frames
from mkmsr.errors import ConfigError, DataError, EvaluationError, NotFittedError, nearest
from mkmsr.evaluation.document import evaluation_document
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.evaluation.metrics import DEFAULT_KS
from mkmsr.evaluation.ranks import RankTable
from mkmsr.models.registry import model_entry
from mkmsr.recommend import Recommendations, Recommender
from mkmsr.reports.comparison import Comparison, compare_runs
from mkmsr.reports.run_folder import EvaluatedRun
from mkmsr.runs.config import ExperimentConfig
from mkmsr.runs.experiment import fit_new_model
from mkmsr.runtime.compute import compute_device, torch_threads
from mkmsr.runtime.events import Listener, ignore
from mkmsr.training.config import TrainingConfig

if TYPE_CHECKING:
    import polars as pl
    from narwhals.typing import IntoDataFrame

__all__ = ["Dataset", "Evaluation", "Model", "compare"]


@dataclass(frozen=True, repr=False)
class Dataset(PreparedDataset):
    """Prepared data: sessions in three splits, vocabularies, item knowledge."""

    @classmethod
    def from_frame(
        cls,
        events: IntoDataFrame,
        *,
        item: str | None = None,
        operation: str | None = None,
        time: str | None = None,
        user: str | None = None,
        session: str | None = None,
        split: str | None = None,
        items: IntoDataFrame | None = None,
        attribute_columns: Mapping[str, str] | None = None,
        multi: str | None = None,
        name: str = "frame",
        **options: Any,
    ) -> Self:
        """Return the prepared data of a frame of events, one row an event, of pandas, polars or another eager library.

        A column that is not named here is the one called `item`, `operation`, `time`, `user`, `session` or `split`, if
        there is one. Only items and one of sessions and users are required.

        Args:
            events: The events.
            item: Its column of item ids.
            operation: Its column of operations.
            time: Its column of times: datetimes, text, or numbers since 1970.
            user: Its column of visitors.
            session: Its column of sessions; without one, a visitor's pause ends a session.
            split: Its column of train, validation and test.
            items: What is known about the items: a column of item ids, called as in the events or `item`, and a column
                a relation, which may hold lists.
            attribute_columns: What `items` calls its columns, as in `ReadOptions`; for example
                {"item": "sku", "use": "brand+price", "display": "name+image"}.
            multi: What separates several values in a cell of `items`.
            name: For tables.
            options: How to prepare, see `PrepareOptions`; for example `new_items="keep"`, `gap_seconds=1800`.

        Raises:
            DataError: A column is missing, or a value is not as it should be; names the row and the column.
            ConfigError: There is no such option.
        """
        columns = {"item": item, "operation": operation, "time": time, "user": user, "session": session, "split": split}
        named = {field: str(column) for field, column in columns.items() if column is not None}
        frames = {"columns": named, "attribute_columns": dict(attribute_columns or {}), "multi": multi}
        reading = validate(ReadOptions, frames)
        return cls._prepared(prepare(read_frames(events, items, reading, name=name), validate(PrepareOptions, options)))

    @classmethod
    def from_files(
        cls, source: str | Path, *, kind: str = "events", reading: Mapping[str, Any] | None = None, **options: Any
    ) -> Self:
        """Return the prepared data of a file or folder, as `mkmsr prepare` reads it.

        Args:
            source: A file, a folder, or the address of a table in a database.
            kind: What it is: `events`, or the name of a public data set.
            reading: How to read it, see `ReadOptions`; for example {"columns": {"item": "sku"}}.
            options: How to prepare, see `PrepareOptions`.

        Raises:
            DataError: The file is not as it should be; names the row and the column.
            ConfigError: There is no such option.
        """
        log = read_log(kind, source, _read_options(reading))
        return cls._prepared(prepare(log, validate(PrepareOptions, options)))

    @classmethod
    def _prepared(cls, data: PreparedDataset) -> Self:
        return cls(**{each.name: getattr(data, each.name) for each in fields(PreparedDataset)})


@dataclass(frozen=True)
class Evaluation:
    """How a model ranked the examples of a split.

    Args:
        document: Metrics, intervals over sessions and slices, see `evaluation_document`.
        ranks: One row an example; every metric is a function of it.
    """

    document: Mapping[str, Any]
    ranks: RankTable

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics by name, such as `hit@20`, 0..1."""
        metrics: Mapping[str, float] = self.document["metrics"]
        return metrics

    def to_frame(self) -> pl.DataFrame:
        """Return a row a metric: `metric`, `value`, `low` and `high` of its interval, and its value in each slice."""
        import polars as pl

        slices, intervals = self.document["slices"], self.document["intervals"]
        return pl.DataFrame(
            [
                {
                    "metric": name,
                    "value": value,
                    "low": intervals[name][0],
                    "high": intervals[name][1],
                    **{part: found[name] for part, found in slices.items()},
                }
                for name, value in self.metrics.items()
            ]
        )


class Model:
    """A model by its registered name: it fits, recommends, is evaluated, saved and loaded.

    `Compass()` is `Model("compass")`; a model of one's own is `Model("its-name")` once it is registered.

    Args:
        name: The registered name, see `mkmsr models`.
        seed: Of first weights, order and dropout.
        device: Where it computes.
        settings: Settings of the model (`dim=64`) and of its training (`epochs=5`,
            `optimiser={"learning_rate": 0.01}`); what is left out has the model's defaults.

    Raises:
        ConfigError: There is no such model, setting or device; names the nearest model or setting.
    """

    registered: ClassVar[str] = ""

    def __init__(self, name: str | None = None, *, seed: int = 0, device: str = "cpu", **settings: Any):
        compute_device(device)
        self.config = _experiment_config(str(name or self.registered), settings)
        self.seed, self.device = _whole_number(seed, "seed"), device
        self._recommender: Recommender | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {'not ' if self._recommender is None else ''}fitted>"

    @property
    def name(self) -> str:
        """The registered name."""
        return self.config.name

    @property
    def recommender(self) -> Recommender:
        """The fitted model with its vocabularies: filters, live catalogue, explanations.

        Raises:
            NotFittedError: `fit` was not called yet.
        """
        if self._recommender is None:
            raise NotFittedError(f"{type(self).__name__} is not fitted yet; call fit(data) first")
        return self._recommender

    def fit(self, data: PreparedDataset, *, refit: bool = True, listener: Listener = ignore) -> Self:
        """Fit on the training sessions; validation chooses the epoch. The test is not read.

        Args:
            data: The data.
            refit: Whether to fit once more, on training and validation sessions, for the chosen number of epochs.
            listener: Told about epochs and batches.

        Raises:
            DataError: The data are not prepared.
            TrainingError: There is nothing to learn from, or the loss is not finite.
            EvaluationError: Validation has no examples.
        """
        _check_prepared(data)
        how: dict[str, Any] = {"seed": self.seed, "device": self.device, "listener": listener}
        with torch_threads(self.config.training.threads):
            model, chosen = fit_new_model(data, self.config, **how)
            if refit:
                again: dict[str, Any] = {"refit": True, "stop_after": chosen.best_epoch, "calibrated": model}
                model, _ = fit_new_model(data, self.config, **again, **how)
        bundle = new_bundle(model, name=self.name, config=self.config.settings(), dataset=data, refit=refit)
        self._recommender = Recommender(bundle, device=self.device)
        return self

    def recommend(self, session: Any, k: int = 20, **choices: Any) -> Recommendations:
        """Return the items most likely to come next in one session, see `Recommender.recommend`.

        Raises:
            NotFittedError: `fit` was not called yet.
        """
        return self.recommender.recommend(session, k, **choices)

    def recommend_many(self, sessions: Sequence[Any], k: int = 20, **choices: Any) -> list[Recommendations]:
        """Return a list for each of many sessions, see `Recommender.recommend_many`.

        Raises:
            NotFittedError: `fit` was not called yet.
        """
        return self.recommender.recommend_many(sessions, k, **choices)

    def evaluate(
        self, data: PreparedDataset, split: SplitName = "test", *, ks: Sequence[int] = DEFAULT_KS
    ) -> Evaluation:
        """Rank the whole catalogue for every example of a split.

        Args:
            data: The data; its items and operations must be known to the model.
            split: "test" or "validation".
            ks: Lengths of the lists that metrics look at.

        Raises:
            NotFittedError: `fit` was not called yet.
            DataError: The data are not prepared.
            EvaluationError: The split has no examples, or holds items that the model does not know.
        """
        _check_prepared(data)
        bundle = self.recommender.bundle
        if split not in ("test", "validation"):
            raise EvaluationError(f"there is no split {split!r} to evaluate on; splits: test, validation")
        ranks = evaluate(bundle.model, aligned_split(bundle, data, split))
        return Evaluation(evaluation_document(self.name, split, ranks, len(bundle.items), ks), ranks)

    def save(self, path: str | Path) -> Path:
        """Write the fitted model as a bundle.

        Raises:
            NotFittedError: `fit` was not called yet.
            BundleError: Something else is at that place, or the folder cannot be written.
        """
        return self.recommender.save(path)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu") -> Model:
        """Return the fitted model of a bundle.

        Raises:
            BundleError: The bundle is incomplete, altered or of another format.
        """
        bundle = load_bundle(path, device=device)
        model = Model(bundle.name, device=device, **bundle.config.model_dump())
        model._recommender = Recommender(bundle, device=device)
        return model


def compare(
    models: Sequence[Model], data: PreparedDataset, split: SplitName = "test", *, pool_seeds: bool = False
) -> Comparison:
    """Rank a split with every model and test their differences in pairs, see `Comparison.to_frame`.

    Args:
        models: Fitted models.
        data: The data.
        split: "test" or "validation".
        pool_seeds: Whether models that differ in the seed alone are one row, see `compare_runs`.

    Raises:
        NotFittedError: A model is not fitted yet.
        ConfigError: Something else than models is given.
        EvaluationError: There is no model, or they know other catalogues.
    """
    if isinstance(models, Model) or not all(isinstance(model, Model) for model in models):
        raise ConfigError("should be a list of fitted models", key="models")
    found = [model.evaluate(data, split) for model in models]
    runs = [
        EvaluatedRun(model.name, each.document, each.ranks, settings=model.config.model_dump_json())
        for model, each in zip(models, found, strict=True)
    ]
    return compare_runs(runs, pool_seeds=pool_seeds)


def _check_prepared(data: object) -> None:
    if not isinstance(data, PreparedDataset):
        right = "Dataset.from_frame and Dataset.from_files make one, PreparedDataset.load reads one"
        raise DataError(f"data should be a Dataset, found {type(data).__name__}; {right}")


def _experiment_config(name: str, settings: Mapping[str, Any]) -> ExperimentConfig:
    """The settings of a run, told apart into the model's and those of its training."""
    of_model, of_training = model_entry(name).config.model_fields, TrainingConfig.model_fields
    for key in settings:
        if key not in of_model and key not in of_training:
            raise ConfigError(f"no such setting{nearest(key, [*of_model, *of_training])}", key=key)
    model = {key: value for key, value in settings.items() if key in of_model}
    training = {key: value for key, value in settings.items() if key not in of_model}
    return validate(ExperimentConfig, {"model": {**model, "name": name}, "training": training})


def _read_options(reading: Any) -> ReadOptions:
    if not isinstance(reading, Mapping | None):
        raise ConfigError(
            f'should be a mapping such as {{"columns": {{"item": "sku"}}}}; found {reading!r}', key="reading"
        )
    return validate(ReadOptions, dict(reading or {}), prefix="reading")


def _whole_number(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigError(f"should be a whole number, found {value!r}", key=key)
    return int(value)


_CLASSES = {
    "Compass": "compass",
    "MKMSR": "mkm-sr",
    "KMSR": "km-sr",
    "MSR": "m-sr",
    "FPMC": "fpmc",
    "GRU4Rec": "gru4rec",
    "NARM": "narm",
    "STAMP": "stamp",
    "SRGNN": "sr-gnn",
    "RIB": "rib",
    "SASRec": "sasrec",
    "EMBSR": "embsr",
    "Popularity": "pop",
    "SessionPopularity": "s-pop",
    "Recency": "recency",
    "SequentialRules": "sr",
    "ItemKNN": "item-knn",
    "SKNN": "s-knn",
    "VSKNN": "v-sknn",
    "STAN": "stan",
    "VSTAN": "vstan",
}
"""Classes of the models by name; the others are `Model("their-name")`."""


def __getattr__(name: str) -> type[Model]:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    registered = _CLASSES[name]
    about = {"registered": registered, "__doc__": f"`Model({registered!r})`, see there.", "__module__": __name__}
    globals()[name] = found = type(name, (Model,), about)
    return found
