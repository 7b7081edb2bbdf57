"""Ranking in several processes of one thread each, which use the cores better than the threads of one process."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.data.examples import ExampleTable
from mkmsr.errors import EvaluationError
from mkmsr.evaluation.target_ranks import rank_examples
from mkmsr.models.base import SessionModel
from mkmsr.runtime.events import Listener, RankingDone
from mkmsr.runtime.files import scratch_folder
from mkmsr.runtime.workers import Line, Task, run_tasks

__all__ = ["rank_in_processes"]


def rank_in_processes(
    model: SessionModel | Callable[[SessionBatch], Tensor],
    examples: ExampleTable,
    width: int,
    batch_size: int,
    workers: int,
    listener: Listener,
) -> NDArray[np.int32]:
    """`rank_examples` by so many processes; each takes the same batches as one process would, a stretch of them.

    Raises:
        EvaluationError: What ranks is not a model on a processor, or a process failed.
    """
    if not isinstance(model, SessionModel):
        raise EvaluationError(f"only models can be sent to other processes, not a {type(model).__name__}: workers = 1")
    tensors = _named_tensors(model)
    if any(each.device.type != "cpu" for each in tensors.values()):
        raise EvaluationError(
            "processes share the cores of a processor, and this model is on another device: workers = 1"
        )
    # Tensors travel as arrays: sent as they are they would move into shared memory, of which containers have little.
    shape = copy.deepcopy(model).to("meta")
    values = {name: each.detach().numpy() for name, each in tensors.items()}
    stretch = -(-len(examples) // (workers * batch_size)) * batch_size
    starts = range(0, len(examples), stretch)
    ranks = np.empty(len(examples), dtype=np.int32)
    done = dict.fromkeys(starts, 0)
    with scratch_folder() as folder:
        tasks = {
            start: Task(
                name=f"examples from {start}",
                function=_rank_stretch,
                arguments=(shape, values, examples.rows(slice(start, start + stretch)), width, batch_size),
                log=folder / f"{start}.log",
            )
            for start in starts
        }
        start_of = {task.name: start for start, task in tasks.items()}
        for event in run_tasks(tasks.values(), workers=workers):
            start = start_of[event.task.name]
            if event.kind == "failed":
                raise EvaluationError(f"a process that ranked {event.task.name} failed: {event.content}")
            if event.kind == "sent":
                done[start] = event.content.done
                listener(RankingDone(sum(done.values()), len(examples)))
            elif event.kind == "done":
                ranks[start : start + stretch] = event.content
    return ranks


def _rank_stretch(
    line: Line,
    model: SessionModel,
    values: Mapping[str, NDArray[np.generic]],
    examples: ExampleTable,
    width: int,
    batch_size: int,
) -> NDArray[np.int32]:
    """What a process does: fill the model's tensors with their values and rank."""
    model.to_empty(device="cpu")
    with torch.no_grad():
        for name, tensor in _named_tensors(model).items():
            tensor.copy_(torch.from_numpy(values[name]))
    return rank_examples(model, examples, width, batch_size, line.send)


def _named_tensors(model: SessionModel) -> dict[str, Tensor]:
    return dict(chain(model.named_parameters(), model.named_buffers()))
