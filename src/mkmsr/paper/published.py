"""What the paper published: its Tables 1 and 2, and what we know about them.

Source: Meng, Yang, Xiao: Incorporating User Micro-behaviors and Item Knowledge into Multi-task Learning for
Session-based Recommendation, SIGIR 2020, as shown in the authors' talk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mkmsr.data.dataset import PreparedDataset


@dataclass(frozen=True)
class PublishedData:
    """A row of Table 1: sessions, their mean events, items, their mean events, operations.

    `new_share` of the test's events have a new item, and `caveat` is what is not as it seems.
    """

    sessions: int
    length: float
    items: int
    frequency: float
    operations: int
    new_share: float | None = None
    caveat: str = ""


TABLE_1: Mapping[str, PublishedData] = {
    "KKBOX": PublishedData(180_047, 4.713, 33_454, 25.365, 23),
    "KKBOX(N)": PublishedData(180_096, 4.726, 34_120, 24.942, 23, 0.0099),
    "JDATA": PublishedData(455_481, 5.372, 134_548, 18.186, 5),
    "JDATA(N)": PublishedData(456_005, 5.383, 139_099, 17.654, 5, 0.0369),
    "Demo": PublishedData(
        5_633,
        5.330,
        12_195,
        2.301,
        5,
        caveat="its published session length is that of Demo(N); the sample has four of the five operations",
    ),
    "Demo(N)": PublishedData(
        5_696,
        4.992,
        12_917,
        2.192,
        5,
        0.4045,
        caveat="the authors' files hold 12,971 items; the published 40.45 % divides the 915 events of new items by the "
        "2,262 test events without them; of all 3,177 test events they are 28.80 %",
    ),
}
"""Table 1 by the name of the data."""

BASELINES: Mapping[str, str] = {
    "FPMC": "fpmc",
    "GRU4REC+BPR": "gru4rec-bpr",
    "GRU4REC+CE": "gru4rec-ce",
    "NARM": "narm",
    "STAMP": "stamp",
    "SR-GNN": "sr-gnn",
    "RIB": "rib",
}
"""The systems that the paper compares itself with, and the models that they are here."""

ABLATIONS: Mapping[str, str] = {
    "KM-SR": "km-sr",
    "M(GRU)-SR": "m-gru-sr",
    "M(GGNN)-SR": "m-ggnn-sr",
    "M(GGNNx2)-SR": "m-ggnnx2-sr",
    "M-SR": "m-sr",
}
"""The paper's ablations."""

OWN: Mapping[str, str] = {**ABLATIONS, "MKM-SR": "mkm-sr"}
"""The paper's own systems."""

SYSTEMS: Mapping[str, str] = {**BASELINES, **OWN}
"""Every row of Table 2, in its order."""

LITERAL: Mapping[str, Mapping[str, str]] = {
    source: {f"{label} ({source})": f"{source}/{name}" for label, name in OWN.items()} for source in ("talk", "authors")
}
"""The paper's own systems exactly as in the talk, and as in the authors' code: settings in `talk/` and `authors/`."""

_DATA = ("KKBOX", "KKBOX(N)", "JDATA", "JDATA(N)", "Demo", "Demo(N)")

_PER_CENT: Mapping[str, tuple[float, ...]] = {
    # Hit@20 and MRR@20 on each of _DATA
    "FPMC": (5.614, 1.166, 5.530, 1.147, 7.531, 2.623, 7.049, 2.493, 3.787, 1.808, 3.261, 1.644),
    "GRU4REC+BPR": (12.795, 4.545, 12.501, 4.693, 35.433, 13.262, 34.827, 13.346, 12.189, 5.124, 5.567, 2.969),
    "GRU4REC+CE": (12.445, 4.007, 12.429, 4.135, 35.347, 13.956, 34.794, 13.542, 12.965, 4.992, 9.896, 4.505),
    "NARM": (14.667, 5.839, 13.926, 5.200, 36.867, 16.826, 35.862, 16.677, 14.446, 5.645, 8.056, 3.615),
    "STAMP": (14.475, 4.783, 14.287, 4.544, 35.555, 12.936, 34.691, 12.187, 14.609, 5.796, 9.317, 2.902),
    "SR-GNN": (14.187, 4.476, 13.399, 4.792, 40.588, 15.968, 38.723, 15.203, 15.504, 7.220, 10.317, 4.682),
    "RIB": (15.982, 4.763, 13.887, 5.328, 37.236, 14.134, 35.551, 13.420, 12.893, 4.887, 9.965, 4.436),
    "KM-SR": (17.680, 7.195, 17.019, 6.301, 41.094, 16.552, 40.480, 15.709, 23.726, 9.363, 15.065, 6.323),
    "M(GRU)-SR": (16.971, 5.435, 16.865, 5.250, 37.015, 14.034, 36.374, 13.734, 18.507, 6.430, 11.262, 4.747),
    "M(GGNN)-SR": (13.262, 4.347, 13.035, 4.098, 38.270, 16.532, 37.231, 15.663, 16.141, 6.811, 9.168, 3.572),
    "M(GGNNx2)-SR": (17.270, 5.532, 16.983, 5.435, 41.017, 16.544, 41.308, 15.780, 19.782, 7.865, 12.017, 4.734),
    "M-SR": (20.998, 5.878, 20.523, 5.707, 41.440, 16.851, 41.019, 15.850, 20.631, 7.969, 12.914, 5.228),
    "MKM-SR": (22.574, 7.543, 22.221, 6.976, 42.565, 17.585, 41.998, 16.990, 24.623, 9.642, 15.110, 6.424),
}

TABLE_2: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    data: {
        system: {"hit@20": round(row[2 * place] / 100, 7), "mrr@20": round(row[2 * place + 1] / 100, 7)}
        for system, row in _PER_CENT.items()
    }
    for place, data in enumerate(_DATA)
}
"""Table 2, shares 0..1: data, system, metric."""

_LOGS: Mapping[str, str] = {"jdata-demo": "Demo", "jdata": "JDATA", "kkbox": "KKBOX"}
_SAME_SIZE = 0.02


def published_name(dataset: PreparedDataset) -> str | None:
    """What the paper calls this data, or None for other data and for slices of the paper's.

    The log must have come from the paper's files and have its number of sessions, give or take two per cent: results
    on a slice are never set beside those published for the whole. Nor are those of data that know visitors: the paper's
    sessions are anonymous.
    """
    if dataset.test.earlier is not None:
        return None
    metadata: Mapping[str, Any] = dataset.metadata
    name = _LOGS.get(str(metadata.get("log", "")))
    if name is None:
        return None
    name += "(N)" if dataset.new_items == "keep" else ""
    sessions = len(dataset.train) + len(dataset.validation) + len(dataset.test)
    return name if abs(sessions / TABLE_1[name].sessions - 1) <= _SAME_SIZE else None
