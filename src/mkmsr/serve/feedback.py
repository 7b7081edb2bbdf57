"""Does it work? Counts of what visitors did after they saw a list, beside the counts of the service itself.

The counts are Prometheus metrics. With several workers they stand in files of a shared folder, so that each worker can
tell those of all. Shares, intervals and the warning are read off them.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from mkmsr.serve.engine import Serving
from mkmsr.serve.sessions import Reaction

CUTS = (5, 10, 20)
"""Lengths at which hits are counted, as in `evaluate`."""

_ENOUGH = 400
"""Lists with a next event before a live hit rate is compared with the offline one."""

_DRIFT = 0.9
"""A live hit rate that is surely below this part of the offline one is worth a warning."""

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 5)


class Feedback:
    """The metrics of a service.

    Operations that are not named count as "other"; `serving` gives by model what serves now.
    """

    def __init__(self, operations: Iterable[str], serving: Callable[[], Mapping[str, Serving]]):
        self._operations, self._serving = frozenset(operations), serving
        self._registry = CollectorRegistry()
        shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        target = None if shared else self._registry
        if shared:
            MultiProcessCollector(self._registry)  # type: ignore[no-untyped-call]
        label = ["model", "bundle"]
        self.requests = Counter(
            "mkmsr_requests", "Answers by endpoint and status.", ["endpoint", "status"], registry=target
        )
        self.seconds = Histogram(
            "mkmsr_request_seconds", "Time to the answer.", ["endpoint"], registry=target, buckets=_SECONDS
        )
        self.batch = Histogram(
            "mkmsr_batch_sessions", "Lists made together.", registry=target, buckets=(1, 2, 4, 8, 16, 32, 64)
        )
        self.degraded = Counter(
            "mkmsr_degraded", "Lists made otherwise than asked, by reason.", ["reason"], registry=target
        )
        self.lists = Counter("mkmsr_lists", "Lists shown.", label, registry=target)
        judged, hits = "Lists of k places whose next event has come.", "Those that held its item among the first k."
        self.judged = Counter("mkmsr_judged", judged, [*label, "k"], registry=target)
        self.hits = Counter("mkmsr_hits", hits, [*label, "k"], registry=target)
        clicks = "Events that name a list, by its place there."
        self.clicks = Counter("mkmsr_clicks", clicks, [*label, "place", "operation"], registry=target)
        self.catalogue = Gauge(
            "mkmsr_catalogue", "Number of the last catalogue change.", registry=target, multiprocess_mode="mostrecent"
        )

    def observe(self, endpoint: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self.requests.labels(endpoint, str(status)).inc()
        self.seconds.labels(endpoint).observe(seconds)

    def react(self, reactions: Sequence[Reaction]) -> None:
        """Count events that came after lists."""
        for each in reactions:
            if each.is_next:
                for k in CUTS:
                    if each.length >= k:
                        self.judged.labels(each.model, each.bundle, str(k)).inc()
                        self.hits.labels(each.model, each.bundle, str(k)).inc(int(0 < each.place <= k))
            if each.is_click:
                operation = each.operation if each.operation in self._operations else "other"
                self.clicks.labels(each.model, each.bundle, str(each.place or "later"), operation or "other").inc()

    def text(self) -> bytes:
        """Return the metrics as Prometheus reads them."""
        return generate_latest(self._registry)

    def live(self) -> dict[str, dict[str, Any]]:
        """Return by model: lists, clicks, hit rates with intervals, shares of clicks, and a warning if it drifts."""
        counts = self._counts()
        return {model: _of_model((model, each.digest), each.offline, counts) for model, each in self._serving().items()}

    def compared(self, split: float) -> dict[str, Any]:
        """Return how the second model's hit rate differs from the first one's, with a 95 % interval."""
        (first, one), (second, other) = list(self._serving().items())[:2]
        counts = self._counts()
        for k in reversed(CUTS):
            pairs = [
                (counts["hits", *label, str(k)], counts["judged", *label, str(k)])
                for label in ((first, one.digest), (second, other.digest))
            ]
            if all(judged for _, judged in pairs):
                rates = [hits / judged for hits, judged in pairs]
                error = math.sqrt(sum(p * (1 - p) / n for p, (_, n) in zip(rates, pairs, strict=True)))
                difference = rates[1] - rates[0]
                interval = [difference - 1.96 * error, difference + 1.96 * error]
                verdict = "no difference shown yet"
                if interval[0] > 0 or interval[1] < 0:
                    verdict = f"{second if difference > 0 else first} leads"
                told = {"metric": f"hit@{k}", "difference": difference, "interval": interval, "verdict": verdict}
                break
        else:
            told = {"verdict": "no list of both models has a next event yet"}
        return {"split": split, "models": [first, second], **told}

    def _counts(self) -> defaultdict[tuple[str, ...], float]:
        """The counts about lists, by name and labels."""
        counts: defaultdict[tuple[str, ...], float] = defaultdict(float)
        order = ("model", "bundle", "k", "place", "operation")
        for family in self._registry.collect():
            for sample in family.samples:
                if sample.name in ("mkmsr_lists_total", "mkmsr_judged_total", "mkmsr_hits_total", "mkmsr_clicks_total"):
                    labels = (sample.labels[label] for label in order if label in sample.labels)
                    counts[sample.name.split("_")[1], *labels] += sample.value
        return counts


def wilson(hits: float, trials: float) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson's formula, which holds for few trials too."""
    z = 1.96
    share, spread = hits / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def _of_model(
    label: tuple[str, str], offline_metrics: Mapping[str, float], counts: Mapping[tuple[str, ...], float]
) -> dict[str, Any]:
    found: dict[str, Any] = {"bundle": label[1], "lists": int(counts["lists", *label]), "hit_rate": {}, "drift": None}
    for k in CUTS:
        judged, hits = counts["judged", *label, str(k)], counts["hits", *label, str(k)]
        if not judged:
            continue
        interval, offline = wilson(hits, judged), offline_metrics.get(f"hit@{k}")
        found["hit_rate"][f"hit@{k}"] = {
            "live": hits / judged,
            "interval": interval,
            "lists": int(judged),
            "offline": offline,
        }
        if offline is not None and judged >= _ENOUGH and interval[1] < _DRIFT * offline:
            found["drift"] = (
                f"hit@{k} is {hits / judged:.3f} (95 %: {interval[0]:.3f} to {interval[1]:.3f}) and was "
                f"{offline:.3f} offline: it is time to train again"
            )
    clicks = {key[3:]: count for key, count in counts.items() if key[:3] == ("clicks", *label)}
    total = sum(clicks.values())
    found["clicks"] = int(total)
    for name, column in (("by_place", 0), ("by_operation", 1)):
        shares: defaultdict[str, float] = defaultdict(float)
        for key, count in clicks.items():
            shares[key[column]] += count / total
        found[name] = dict(sorted(shares.items(), key=lambda pair: (len(pair[0]), pair[0])))
    return found
