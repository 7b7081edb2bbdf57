"""Every model, by the name that the command line uses.

A model's file is imported when its entry is first asked for: a recommender needs one of them all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from mkmsr.errors import ConfigError, nearest
from mkmsr.models.entry import ModelEntry

_HOMES = {
    "compass": "compass.model:ENTRY",
    "mkm-sr": "mkm_sr:ENTRIES",
    "km-sr": "mkm_sr:ENTRIES",
    "m-sr": "mkm_sr:ENTRIES",
    "m-gru-sr": "mkm_sr:ENTRIES",
    "m-ggnn-sr": "mkm_sr:ENTRIES",
    "m-ggnnx2-sr": "mkm_sr:ENTRIES",
    "fpmc": "fpmc:ENTRY",
    "gru4rec-bpr": "gru4rec:BPR_ENTRY",
    "gru4rec-ce": "gru4rec:CROSS_ENTROPY_ENTRY",
    "narm": "narm:ENTRY",
    "stamp": "stamp:ENTRY",
    "sr-gnn": "sr_gnn:ENTRY",
    "rib": "rib:ENTRY",
    "gru4rec": "gru4rec:WELL_MADE_ENTRY",
    "sasrec": "sasrec:ENTRY",
    "esasrec": "esasrec:ENTRY",
    "core": "core:ENTRY",
    "repeatnet": "repeatnet:ENTRY",
    "embsr": "embsr:ENTRY",
    "pop": "baselines:ENTRIES",
    "s-pop": "baselines:ENTRIES",
    "recency": "baselines:ENTRIES",
    "sr": "neighbours.rules:ENTRIES",
    "item-knn": "neighbours.rules:ENTRIES",
    "s-knn": "neighbours.session_neighbours:ENTRIES",
    "v-sknn": "neighbours.session_neighbours:ENTRIES",
    "stan": "neighbours.session_neighbours:ENTRIES",
    "vstan": "neighbours.session_neighbours:ENTRIES",
}
"""Module below `mkmsr.models`, and the name of the entry, or of the entries by name, in it."""

PLUGINS = "mkmsr.models"
"""Group of the entry points by which an installed package registers models."""
PLUGIN_MODULES = "MKMSR_MODELS"
"""Environment variable: names of modules, separated by commas, that register models when they are imported."""

OWN_MODELS = f"for a model of your own, {PLUGIN_MODULES} names its module"
"""What to say where no model has a name."""

_REGISTERED: dict[str, ModelEntry] = {}


class _Registry(Mapping[str, ModelEntry]):
    """Ours, then those that were registered; other packages are asked once ours are not enough."""

    def __getitem__(self, name: str) -> ModelEntry:
        if name not in _HOMES:
            _load_plugins()
            return _REGISTERED[name]
        module, _, attribute = _HOMES[name].partition(":")
        found: ModelEntry | dict[str, ModelEntry] = getattr(import_module(f"mkmsr.models.{module}"), attribute)
        return found if isinstance(found, ModelEntry) else found[name]

    def __iter__(self) -> Iterator[str]:
        _load_plugins()
        return iter([*_HOMES, *_REGISTERED])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in _HOMES or name in list(iter(self))


MODELS: Mapping[str, ModelEntry] = _Registry()
"""Every model by name, in the order in which tables show them."""


def register(name: str, entry: ModelEntry) -> None:
    """Register a model of one's own under a name, for this process.

    A package does so for every process by an entry point of the group `mkmsr.models` that names its `ModelEntry`; a
    single file by `MKMSR_MODELS=my_models`, a module on the path that calls `register`.

    Raises:
        ConfigError: Another model has that name.
    """
    if name in _HOMES or _REGISTERED.get(name, entry) is not entry:
        raise ConfigError(f"there is a model {name!r} already; choose another name", key="model")
    _REGISTERED[name] = entry


def model_entry(name: str) -> ModelEntry:
    """Return the registered model of that name; an unknown one, or one that cannot be loaded, raises ConfigError."""
    if name not in MODELS:
        hint = nearest(name, MODELS) or f"; there are: {', '.join(sorted(MODELS))}; {OWN_MODELS}"
        raise ConfigError(f"no model {name!r}{hint}", key="model")
    return MODELS[name]


@cache
def _load_plugins() -> None:
    for module in filter(None, os.environ.get(PLUGIN_MODULES, "").split(",")):
        try:
            import_module(module.strip())
        except ImportError as error:
            absent = isinstance(error, ModuleNotFoundError) and error.name == module.strip()
            way_out = "; PYTHONPATH should name its folder" if absent else ""
            raise ConfigError(f"{PLUGIN_MODULES} names {module.strip()!r}: {error}{way_out}", key="model") from None
    for point in entry_points(group=PLUGINS):
        try:
            entry = point.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"the entry point {point.name} = {point.value!r}: {error}", key="model") from None
        if not isinstance(entry, ModelEntry):
            raise ConfigError(f"the entry point {point.name} = {point.value!r} is no ModelEntry", key="model")
        register(point.name, entry)
