"""Every model, by the name that the command line uses."""

from __future__ import annotations

from mkmsr.errors import ConfigError, nearest
from mkmsr.models import baselines, embsr, fpmc, gru4rec, mkm_sr, narm, rib, sasrec, sr_gnn, stamp
from mkmsr.models.compass import ensemble as compass_ensemble
from mkmsr.models.compass import model as compass
from mkmsr.models.entry import ModelEntry
from mkmsr.models.neighbours import item_knn, rules, session_neighbours

__all__ = ["MODELS", "model_entry"]

MODELS: dict[str, ModelEntry] = {
    "compass": compass.ENTRY,
    "compass-ensemble": compass_ensemble.ENTRY,
    **mkm_sr.ENTRIES,
    "fpmc": fpmc.ENTRY,
    "gru4rec-bpr": gru4rec.BPR_ENTRY,
    "gru4rec-ce": gru4rec.CROSS_ENTROPY_ENTRY,
    "narm": narm.ENTRY,
    "stamp": stamp.ENTRY,
    "sr-gnn": sr_gnn.ENTRY,
    "rib": rib.ENTRY,
    "gru4rec": gru4rec.WELL_MADE_ENTRY,
    "sasrec": sasrec.ENTRY,
    "embsr": embsr.ENTRY,
    **baselines.ENTRIES,
    "sr": rules.ENTRY,
    "item-knn": item_knn.ENTRY,
    **session_neighbours.ENTRIES,
}
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
