"""Rank the whole catalogue for every example of a split, batch by batch; no [examples, catalogue] array ever exists."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mkmsr.data.dataset import EvaluationSplit
from mkmsr.data.sessions import ExampleTable
from mkmsr.errors import EvaluationError
from mkmsr.evaluation.ranks import RankTable
from mkmsr.evaluation.target_ranks import Ranked, largest_batch, rank_examples
from mkmsr.models.base import SessionModel
from mkmsr.runtime.compute import torch_threads
from mkmsr.runtime.events import Event, Listener, RankingDone, ignore
from mkmsr.runtime.files import scratch_folder
from mkmsr.runtime.process_group import ALONE, Processes
from mkmsr.runtime.workers import Line, Task, run_tasks


def evaluate(
    model: Ranked,
    split: EvaluationSplit,
    *,
    batch_size: int = 512,
    workers: int = 1,
    threads: int = 1,
    listener: Listener = ignore,
    processes: Processes = ALONE,
) -> RankTable:
    """Rank of every example's target among the whole catalogue.

    A model is put into evaluation mode and left in the mode in which it was found; no gradients are kept.

    Args:
        model: A model, or any function from a batch to scores [B, V], higher is likelier, column 0 ignored.
        split: The examples.
        batch_size: Examples scored at a time, at most.
        workers: Processes of one thread each that share the work, for a model on a processor; worth their start of a
            few seconds where there are many examples. The ranks are those of one process of one thread.
        threads: Processor threads of PyTorch, where one process ranks; 0 leaves PyTorch's own choice.
        listener: Told `RankingDone` after each batch.
        processes: Who ranks together: each a stretch of the examples, in the same batches as one process would take.
            All of them call this with the same model and split, and all get the whole table.

    Raises:
        EvaluationError: The split has no examples, scores have the wrong shape or cannot be ranked, or a worker failed.
    """
    examples, width = check_examples(split).examples, len(split.seen)
    batch_size = largest_batch(model, batch_size, width)
    if workers > 1 and processes.size == 1 and len(examples) > batch_size:
        return RankTable.of_split(_rank_by_workers(model, examples, width, batch_size, workers, listener), split)
    with torch_threads(threads):
        if processes.size > 1:
            ranks = _rank_over_processes(model, examples, width, batch_size, listener, processes)
        else:
            ranks = rank_examples(model, examples, width, batch_size, listener)
    return RankTable.of_split(ranks, split)


def check_examples(split: EvaluationSplit) -> EvaluationSplit:
    """Return the split, if it has examples; ask before a long training, not after it. None is an EvaluationError."""
    if len(split.examples) == 0:
        raise EvaluationError(
            f"the {split.name} split has no examples: no session with a prefix and a next item. Events of items that "
            "no earlier session has do not count unless preparation keeps new items; more data or a larger share helps"
        )
    return split


def _rank_over_processes(
    model: Ranked,
    examples: ExampleTable,
    width: int,
    batch_size: int,
    listener: Listener,
    processes: Processes,
) -> NDArray[np.int32]:
    """`rank_examples` by the processes of `torchrun`; each hears of its own progress, as if it were that of all."""
    batches = processes.part(-(-len(examples) // batch_size))
    own = slice(batches.start * batch_size, min(batches.stop * batch_size, len(examples)))
    size, total = own.stop - own.start, len(examples)
    ranks = torch.zeros(total, dtype=torch.int32)

    def scaled(event: Event) -> None:
        assert isinstance(event, RankingDone)
        listener(RankingDone(event.done * total // size, total))

    found = rank_examples(model, examples.rows(own), width, batch_size, scaled)
    # Each has zeros in the places of the others, so that the sum is everybody's ranks.
    ranks[own] = torch.from_numpy(found)
    processes.add_up(ranks)
    return ranks.numpy()


def _rank_by_workers(
    model: Ranked,
    examples: ExampleTable,
    width: int,
    batch_size: int,
    workers: int,
    listener: Listener,
) -> NDArray[np.int32]:
    """`rank_examples` by worker processes; each takes a stretch of the examples, in the batches of one process."""
    if not isinstance(model, SessionModel):
        raise EvaluationError(f"only models can be sent to other processes, not a {type(model).__name__}: workers = 1")
    tensors = _named_tensors(model)
    if any(each.device.type != "cpu" for each in tensors.values()):
        raise EvaluationError("processes share a processor's cores, and this model is on another device: workers = 1")
    # Tensors travel as arrays: sent as they are they would move into shared memory, of which containers have little.
    shape = copy.deepcopy(model).to("meta")
    values = {name: each.detach().numpy() for name, each in tensors.items()}
    stretch = -(-len(examples) // (workers * batch_size)) * batch_size
    starts = range(0, len(examples), stretch)
    ranks = np.empty(len(examples), dtype=np.int32)
    done = dict.fromkeys(starts, 0)
    with scratch_folder() as folder:
        tasks = []
        for start in starts:
            part = examples.rows(slice(start, start + stretch))
            arguments = (shape, values, part, width, batch_size)
            tasks.append(Task(str(start), _rank_stretch, arguments, folder / f"{start}.log"))
        for event in run_tasks(tasks, workers=workers):
            start = int(event.task.name)
            if event.kind == "failed":
                raise EvaluationError(f"a process that ranked examples from {start} failed: {event.content}")
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
    """Fill the model's tensors with their values and rank: what a worker does."""
    model.to_empty(device="cpu")
    with torch.no_grad():
        for name, tensor in _named_tensors(model).items():
            tensor.copy_(torch.from_numpy(values[name]))
    return rank_examples(model, examples, width, batch_size, line.send)


def _named_tensors(model: SessionModel) -> dict[str, Tensor]:
    return dict(chain(model.named_parameters(), model.named_buffers()))
