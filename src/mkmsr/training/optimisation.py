"""One step of the optimiser, the only place where gradients are taken; and the optimiser's state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.models.base import Negatives, SessionModel
from mkmsr.training.config import LossConfig, OptimiserConfig
from mkmsr.training.losses import knowledge_loss, session_loss
from mkmsr.training.row_optimiser import RowAdam, clip_gradients
from mkmsr.training.sampled_losses import is_sampled, sampled_session_loss
from mkmsr.training.strategies import Step

__all__ = ["StepLosses", "build_optimiser", "optimiser_tensors", "restore_optimiser", "take_step"]


class StepLosses(NamedTuple):
    """The losses of one step, detached, each a mean over the step; None where the step has no such part."""

    session: Tensor | None
    knowledge: Tensor | None


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """A new optimiser over all weights of a model that already stands on its device; see `touched_rows` for tables."""
    if isinstance(model, SessionModel):
        for table in model.item_tables():
            table.sparse = config.touched_rows
    parameters = [each for each in model.parameters() if each.requires_grad]
    # One pass over a weight and its moments instead of a dozen: 2.8 times faster over an item table on a CPU.
    devices = {each.device.type for each in parameters}
    if config.name == "adagrad":
        rate, decay = config.learning_rate, config.weight_decay
        fused = devices == {"cpu"} and not config.touched_rows
        return torch.optim.Adagrad(parameters, lr=rate, weight_decay=decay, fused=fused)
    kind = RowAdam if config.touched_rows else torch.optim.Adam
    return kind(
        parameters,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=devices <= {"cpu", "cuda"},
        decoupled_weight_decay=config.name == "adamw",
    )


def take_step(
    model: SessionModel, optimiser: torch.optim.Optimizer, step: Step, loss: LossConfig, *, clip_norm: float | None
) -> StepLosses:
    """Move the weights once, down session loss + lambda_1 * knowledge loss, whichever of both the step has."""
    device = next(model.parameters()).device
    optimiser.zero_grad(set_to_none=True)
    of_sessions = of_triples = total = None
    if step.sessions is not None:
        of_sessions = total = _session_loss(model, step.sessions.to(device), step.negatives, loss)
    if step.triples is not None:
        corrupted = step.corrupted.to(device) if step.corrupted is not None else None
        of_triples = knowledge_loss(model, step.triples.to(device), corrupted=corrupted, margin=loss.margin)
        weighted = loss.knowledge_weight * of_triples
        total = weighted if total is None else total + weighted
    assert total is not None
    total.backward()  # type: ignore[no-untyped-call]
    if clip_norm is not None:
        clip_gradients(model.parameters(), clip_norm)
    optimiser.step()
    return StepLosses(
        of_sessions.detach() if of_sessions is not None else None,
        of_triples.detach() if of_triples is not None else None,
    )


def _session_loss(model: SessionModel, sessions: SessionBatch, negatives: Negatives | None, loss: LossConfig) -> Tensor:
    if not is_sampled(loss.session):
        return session_loss(model, sessions, loss.session, block=loss.catalogue_block)
    assert negatives is not None
    return sampled_session_loss(
        model,
        sessions,
        negatives.to(sessions.items.device),
        loss.session,
        correction=loss.negatives.correction,
        score_penalty=loss.score_penalty,
    )


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's moments and step counts, named `<number of the weight>.<name of the state>`."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{key}": value for index, entry in state.items() for key, value in entry.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put such tensors back into a new optimiser over the same weights."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
