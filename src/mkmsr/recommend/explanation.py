"""Why an item is recommended, in a sentence for people and in numbers for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mkmsr.bundle.model_bundle import ModelBundle
from mkmsr.data.batching import SessionBatch
from mkmsr.errors import ConfigError
from mkmsr.models.capabilities import Explains, Names, ScoreParts
from mkmsr.models.registry import MODELS


@dataclass(frozen=True)
class Explanation(ScoreParts):
    """The parts of an item's score, and `sentence`: the main reason in words."""

    sentence: str

    def document(self) -> dict[str, Any]:
        """Return the same as JSON values."""
        return asdict(self)


def explain(bundle: ModelBundle, batch: SessionBatch, items: Sequence[int]) -> list[Explanation]:
    """Return explanations of some items for a batch of one session; see `check_explains` for what it raises."""
    check_explains(bundle)
    assert isinstance(bundle.model, Explains)
    names = Names(bundle.items, bundle.operations, bundle.knowledge.attributes)
    with torch.inference_mode():
        found = bundle.model.explain(batch, items, names)
    return [Explanation(**vars(parts), sentence=_sentence(parts)) for parts in found]


def check_explains(bundle: ModelBundle) -> None:
    """Make sure that the model gives reasons; otherwise a ConfigError names the models that do."""
    if not isinstance(bundle.model, Explains):
        able = [name for name, entry in MODELS.items() if issubclass(entry.model, Explains)]
        raise ConfigError(f"{bundle.name!r} cannot be explained; {' and '.join(able)} can", key="model")


def _sentence(found: ScoreParts) -> str:
    parts = {name: getattr(found, name) for name in _REASONS if name != "earlier" or found.earlier > 0}
    shares = {name: part / max(sum(parts.values()), 1e-30) for name, part in parts.items()}
    main = max(shares, key=lambda name: shares[name])
    return (
        f"{found.item}: {_REASONS[main](found)} ({', '.join(f'{name} {share:.0%}' for name, share in shares.items())})"
    )


def _copy_reason(found: ScoreParts) -> str:
    event = max(found.events, key=lambda part: part.copied)
    ago = len(found.events) - 1 - found.events.index(event)
    when = "the last event" if ago == 0 else f"{ago} event{'s' * (ago > 1)} before the last"
    return f"it is in the session ({event.operation}, {when})"


def _neighbour_reason(found: ScoreParts) -> str:
    most_similar = found.sessions[0]
    items = [each for each in most_similar.shared_items if each != found.item]
    sessions = "1 similar session holds it" if found.voters == 1 else f"{found.voters} similar sessions hold it"
    return f"{sessions}, the most similar one together with {' and '.join(items[:2])}" if items else sessions


def _explore_reason(found: ScoreParts) -> str:
    if found.copy > 0:
        return _copy_reason(found)
    helpful = [part for part in found.attributes if part.by_vector + part.by_match > 0]
    shared = [part for part in helpful if part.shared_with]
    if shared:
        item = shared[0].shared_with[0]
        named = [f"{part.relation} {part.value}" for part in shared if item in part.shared_with]
        return f"it has {' and '.join(named[:2])} in common with {item}"
    by_attributes = sum(part.by_vector + part.by_match for part in helpful)
    if helpful and by_attributes >= found.own_vector:
        return f"{helpful[0].relation} {helpful[0].value} goes with the session"
    return "it goes with the items of the session" if found.own_vector > 0 else "it is popular"


_REASONS: dict[str, Callable[[ScoreParts], str]] = {
    "explore": _explore_reason,
    "copy": _copy_reason,
    "neighbours": _neighbour_reason,
    "earlier": lambda found: "the visitor looked at it in an earlier session",
}
