"""What the processes of one fit exchange: gradients after every step, a checkpoint to go on from, random states."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from mkmsr.config import differences
from mkmsr.errors import TrainingError
from mkmsr.runtime.compute import random_state
from mkmsr.runtime.process_group import Processes
from mkmsr.training.checkpoint import Progress

StoredFit = tuple[Progress, dict[str, Tensor], dict[str, Tensor] | None]
"""A checkpoint: progress, the tensors to go on with, the best epoch's weights."""

_LARGE = 2**16
"""Gradients of more numbers travel by themselves, without being copied; smaller ones travel together."""


def add_up_gradients(processes: Processes, parameters: Iterable[nn.Parameter], losses: Tensor) -> Tensor:
    """Replace gradients by their sums over all processes; returns the sums of the losses.

    A weight is left without a gradient where no process has one: the optimiser does not touch it then, as it would not
    in one process. The losses, of shape [numbers], are summed on the way.
    """
    trained = [each for each in parameters if each.requires_grad]
    kinds = [each.grad is not None and (2 if each.grad.is_sparse else 1) for each in trained]
    notes = torch.cat([losses, losses.new_tensor([[kind == 1, kind == 2] for kind in kinds]).flatten()])
    processes.add_up(notes)
    reached = notes[len(losses) :].view(-1, 2).tolist()
    dense = []
    for weight, (whole, rows) in zip(trained, reached, strict=True):
        if whole:
            gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
            weight.grad = (gradient.to_dense() if gradient.is_sparse else gradient).contiguous()
            dense.append(weight.grad)
        elif rows:
            weight.grad = _added_rows(processes, weight)
    for gradient in dense:
        if gradient.numel() > _LARGE:
            processes.add_up(gradient)
    if small := [gradient for gradient in dense if gradient.numel() <= _LARGE]:
        together = torch.cat([gradient.flatten() for gradient in small])
        processes.add_up(together)
        for gradient, summed in zip(small, torch.split(together, [each.numel() for each in small]), strict=True):
            gradient.copy_(summed.view_as(gradient))
    return notes[: len(losses)]


def _added_rows(processes: Processes, weight: nn.Parameter) -> Tensor:
    """The sum of gradients that hold a few rows each: only those rows travel."""
    width = weight.shape[1:]
    if weight.grad is None:
        rows, values = torch.zeros(0, dtype=torch.int64, device=weight.device), weight.new_zeros((0, *width))
    else:
        own = weight.grad.coalesce()
        rows, values = own.indices()[0], own.values()
    counts = [int(count) for count in processes.gather(torch.tensor(len(rows)))]
    missing = max(counts) - len(rows)  # All send equally many.
    all_rows = processes.gather(torch.cat([rows, rows.new_zeros(missing)]))
    all_values = processes.gather(torch.cat([values, values.new_zeros((missing, *width))]))
    sent_rows = [each[:count] for each, count in zip(all_rows, counts, strict=True)]
    sent_values = [each[:count] for each, count in zip(all_values, counts, strict=True)]
    return torch.sparse_coo_tensor(torch.cat(sent_rows)[None], torch.cat(sent_values), weight.shape).coalesce()


def check_same_run(processes: Processes, depends_on: Mapping[str, Any]) -> None:
    """Make sure that all processes have the same settings, data and first weights."""
    if processes.size == 1:
        return
    other = differences(processes.from_first(depends_on), json.loads(json.dumps(depends_on)))
    if other:
        raise TrainingError(f"rank {processes.rank} is not at the same run as rank 0: {'; '.join(other[:5])}")


def share_checkpoint(processes: Processes, found: StoredFit | None) -> StoredFit | None:
    """Return what the first process found, for all; the others need no access to the folder."""
    if processes.size == 1:
        return found
    progress = processes.from_first(None if found is None else asdict(found[0]))
    if progress is None:
        return None
    _, state, best = found if found is not None else (None, {}, None)
    shared_state, shared_best = processes.tensors_from_first(state), processes.tensors_from_first(best or {})
    return Progress.from_json(progress), shared_state, shared_best or None


def all_random_states(processes: Processes, device: torch.device) -> dict[str, Tensor]:
    """Return where every process's random numbers stand, under names that end in @rank but for rank 0."""
    found = {}
    for name, own in random_state(device).items():
        for rank, state in enumerate(processes.gather(own)):
            found[f"{name}@{rank}" if rank else name] = state
    return found


def own_part(processes: Processes, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return this process's own of such states; empty for a rank that the checkpoint does not know."""
    found = {}
    for name, state in states.items():
        kind, _, rank = name.partition("@")
        if int(rank or 0) == processes.rank:
            found[kind] = state
    return found
