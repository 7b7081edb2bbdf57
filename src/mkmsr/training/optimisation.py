"""One step of the optimiser, the only place where gradients are taken; learning rate, losses, state as tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch
from mkmsr.errors import TrainingError
from mkmsr.models.base import Negatives, SessionModel
from mkmsr.runtime.process_group import ALONE, Processes
from mkmsr.training.config import LossConfig, OptimiserConfig, Schedule
from mkmsr.training.distributed import add_up_gradients
from mkmsr.training.losses import is_sampled, knowledge_loss, sampled_session_loss, session_loss
from mkmsr.training.row_optimiser import RowAdagrad, RowAdam, clip_gradients
from mkmsr.training.strategies import Step

ADVICE = "a smaller learning rate, clip_norm or a smaller knowledge_weight may help"

_SESSION, _KNOWLEDGE = 0, 1
_WARM_UP = 0.25
_START = 1 / 25
_END = 1e-4 / 25


class StepLosses(NamedTuple):
    """The losses of one step, detached, each a mean over the step; None where the step has no such part."""

    session: Tensor | None
    knowledge: Tensor | None


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Return a new optimiser over all weights of a model on its device; see `touched_rows` for tables."""
    if isinstance(model, SessionModel):
        for table in item_tables(model):
            table.sparse = config.touched_rows
    parameters = [each for each in model.parameters() if each.requires_grad]
    # One pass over a weight and its moments instead of a dozen: 2.8 times faster over an item table on a CPU.
    devices = {each.device.type for each in parameters}
    if config.name == "adagrad":
        adagrad = RowAdagrad if config.touched_rows else torch.optim.Adagrad
        rate, decay = config.learning_rate, config.weight_decay
        return adagrad(parameters, lr=rate, weight_decay=decay, fused=devices == {"cpu"})
    is_fused = devices <= {"cpu", "cuda"}
    kind = RowAdam if config.touched_rows else torch.optim.Adam
    return kind(
        parameters,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=is_fused,
        decoupled_weight_decay=config.name == "adamw",
    )


def item_tables(model: SessionModel) -> list[nn.Embedding]:
    """Return the tables with a row for each item, of which a step with a sampled loss touches few."""
    tables = (each for each in model.modules() if isinstance(each, nn.Embedding))
    return [each for each in tables if each.num_embeddings == model.sizes.num_items + 1]


def learning_rate_factor(schedule: Schedule, progress: float) -> float:
    """Return what to multiply the highest learning rate with.

    "constant": 1. "cosine": from 1 down to 0 along half a cosine. "one-cycle": up from 1/25 to 1 over the first
    quarter, then down to 4e-6, each along half a cosine. `progress` is the share of the plan that lies behind, 0..1.
    The plan is the `epochs` of the settings, whether or not early stopping or a refit stops after fewer.

    Source: Smith and Topin: Super-Convergence, 2017; constants of PyTorch's OneCycleLR but for the warm-up (0.3 there).
    """
    progress = min(max(progress, 0.0), 1.0)
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return _anneal(1.0, 0.0, progress)
    if progress < _WARM_UP:
        return _anneal(_START, 1.0, progress / _WARM_UP)
    return _anneal(1.0, _END, (progress - _WARM_UP) / (1 - _WARM_UP))


def take_step(
    model: SessionModel,
    optimiser: torch.optim.Optimizer,
    step: Step,
    loss: LossConfig,
    *,
    clip_norm: float | None,
    processes: Processes = ALONE,
) -> StepLosses:
    """Move the weights once, down session loss + lambda_1 * knowledge loss, whichever of both the step has.

    Of several processes each takes the gradient of its part of the step. Means over parts are weighed by how much of
    the step they are, so that their sum is the gradient that one process would take, and all move by the same.
    """
    optimiser.zero_grad(set_to_none=True)
    losses = _own_losses(model, step.part(processes), step, loss)
    parts = [losses.session] if losses.session is not None else []
    parts += [loss.knowledge_weight * losses.knowledge] if losses.knowledge is not None else []
    if parts:  # A process has no part in a step of fewer examples than processes.
        sum(parts[1:], start=parts[0]).backward()  # type: ignore[no-untyped-call]
    losses = StepLosses(*(None if each is None else each.detach() for each in losses))
    if processes.size > 1:
        losses = _add_up(processes, model, step, losses)
    if clip_norm is not None:
        clip_gradients(model.parameters(), clip_norm)
    optimiser.step()
    return losses


def _own_losses(model: SessionModel, own: Step, whole: Step, loss: LossConfig) -> StepLosses:
    """The losses of a part of a step, each times its share of the whole."""
    device = next(model.parameters()).device
    of_sessions = of_triples = None
    if own.sessions is not None:
        of_sessions = _session_loss(model, own.sessions.to(device), own.negatives, loss)
        if own is not whole and whole.sessions is not None:
            of_sessions = of_sessions * (len(own.sessions) / len(whole.sessions))
    if own.triples is not None:
        corrupted = own.corrupted.to(device) if own.corrupted is not None else None
        of_triples = knowledge_loss(
            model, own.triples.to(device), loss.knowledge, corrupted=corrupted, margin=loss.margin
        )
        if own is not whole and whole.triples is not None:
            of_triples = of_triples * (len(own.triples) / len(whole.triples))
    return StepLosses(of_sessions, of_triples)


def _add_up(processes: Processes, model: SessionModel, step: Step, own: StepLosses) -> StepLosses:
    """The losses of the whole step; its gradients become those of all processes together."""
    device = next(model.parameters()).device
    values = torch.stack([torch.zeros((), device=device) if each is None else each for each in own])
    values = add_up_gradients(processes, model.parameters(), values)
    return StepLosses(values[0] if step.sessions is not None else None, values[1] if step.triples is not None else None)


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
    """Return the optimiser's moments and step counts, named `<number of the weight>.<name of the state>`."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{key}": value for index, entry in state.items() for key, value in entry.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put such tensors back into a new optimiser over the same weights."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def _anneal(begin: float, end: float, share: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2


class EpochLosses:
    """Session and knowledge loss of each step of one epoch."""

    def __init__(self, steps: int, device: torch.device):
        self._losses = torch.zeros(steps, 2, device=device)
        self._sizes = torch.zeros(steps, 2, dtype=torch.int64)

    def add(self, index: int, step: Step, losses: StepLosses) -> None:
        """Note a step's mean losses, and over how many examples and triples they are means."""
        parts = ((_SESSION, step.sessions, losses.session), (_KNOWLEDGE, step.triples, losses.knowledge))
        for column, part, loss in parts:
            if part is not None and loss is not None:
                self._losses[index, column] = loss
                self._sizes[index, column] = len(part)

    def session_mean(self) -> float | None:
        """Return the mean session loss over all examples so far."""
        return self._mean(_SESSION)

    def knowledge_mean(self) -> float | None:
        """Return the mean knowledge loss over all triples so far, each as often as it was visited."""
        return self._mean(_KNOWLEDGE)

    def visited(self, phase: Literal["sessions", "knowledge"]) -> int:
        """Return how many examples, or in a knowledge epoch triples, were visited so far."""
        return int(self._sizes[:, _SESSION if phase == "sessions" else _KNOWLEDGE].sum())

    def check(self, epoch: int, done: int) -> None:
        """Make sure that the losses of the steps done are finite; the error names epoch, step and loss."""
        bad = (~self._losses[:done].isfinite()).nonzero()
        if len(bad):
            step, column = bad[0].tolist()
            name = "session" if column == _SESSION else "knowledge"
            value = self._losses[step, column].item()
            message = f"the {name} loss is {value}, not a finite number; {ADVICE}"
            raise TrainingError(message, epoch=epoch, step=step + 1)

    def tensors(self) -> dict[str, Tensor]:
        """Return the losses as tensors, for a checkpoint."""
        return {"losses": self._losses, "sizes": self._sizes}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], device: torch.device) -> EpochLosses:
        """Return the losses that a checkpoint holds."""
        losses = cls(0, device)
        losses._losses, losses._sizes = tensors["losses"].to(device), tensors["sizes"].cpu()
        return losses

    def _mean(self, column: int) -> float | None:
        sizes = self._sizes[:, column]
        total = int(sizes.sum())
        return float((self._losses[:, column].double().cpu() * sizes).sum()) / total if total else None
