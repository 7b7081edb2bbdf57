"""Every model, by the name that the command line uses.

A model's file is imported when its entry is first asked for: a recommender needs one of them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from mkmsr.errors import ConfigError, nearest
from mkmsr.models.entry import ModelEntry

__all__ = ["MODELS", "model_entry"]

_HOMES = {
    "compass": "compass.model:ENTRY",
    "compass-ensemble": "compass.ensemble:ENTRY",
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


class _Registry(Mapping[str, ModelEntry]):
    def __getitem__(self, name: str) -> ModelEntry:
        module, _, attribute = _HOMES[name].partition(":")
        found: ModelEntry | dict[str, ModelEntry] = getattr(import_module(f"mkmsr.models.{module}"), attribute)
        return found if isinstance(found, ModelEntry) else found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_HOMES)

    def __len__(self) -> int:
        return len(_HOMES)

    def __contains__(self, name: object) -> bool:
        return name in _HOMES


MODELS: Mapping[str, ModelEntry] = _Registry()
"""Every model by name, in the order in which tables show them."""


def model_entry(name: str) -> ModelEntry:
    """Return the registered model of that name.

    Raises:
        ConfigError: No such model; the message names the nearest one.
    """
    if name not in MODELS:
        hint = nearest(name, MODELS) or f"; there are: {', '.join(sorted(MODELS))}"
        raise ConfigError(f"no model {name!r}{hint}", key="model")
    return MODELS[name]
