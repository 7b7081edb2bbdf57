"""The processes that train one model together: what they exchange, and how they notice that one of them is gone.

`torchrun` starts them and tells each its rank through the environment. Tensors travel by PyTorch's collectives: gloo
for those on a processor, nccl for those on a CUDA device; everything else travels as JSON. A process that ends early
leaves the reason in the runtime's store, so that the others can name it instead of reporting a broken connection.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mkmsr.errors import ConfigError, TrainingError
from mkmsr.runtime.files import unshared

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch._C._distributed_c10d import Store

_SECONDS_TO_ANSWER = 5.0
"""How long a process that lost contact waits for the others' reasons before it calls them gone."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Processes:
    """All processes of a run, seen from one of them; alone, every exchange gives back what went in.

    Collectives must be called by all processes in the same order. A process that ends leaves its reason in the store.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: Store | None = None):
        self.rank, self.size = rank, size
        self._store = store

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """Return this process's part of so many things; the parts are of equal size but for one, and together all."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes, the same bits in each."""
        if self.size > 1:
            with self._talking() as dist:
                dist.all_reduce(tensor)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Return a tensor of every process, by rank; of the same shape in all of them."""
        if self.size == 1:
            return [tensor]
        with self._talking() as dist:
            found = [tensor.new_empty(tensor.shape) for _ in range(self.size)]
            dist.all_gather(found, tensor)
            return found

    def from_first(self, value: Any) -> Any:
        """Return the first process's value, in JSON."""
        # PyTorch's own exchange of objects unpickles, which would run code of whoever sends.
        return value if self.size == 1 else json.loads(self._bytes_from_first(lambda: json.dumps(value).encode()))

    def tensors_from_first(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the first process's named tensors, on the processor."""
        import safetensors.torch

        return safetensors.torch.load(self._bytes_from_first(lambda: safetensors.torch.save(unshared(tensors))))

    def _bytes_from_first(self, content: Callable[[], bytes]) -> bytes:
        import numpy as np
        import torch

        sent = np.frombuffer(content() if self.is_first else b"", np.uint8).copy()
        length = torch.tensor([len(sent)])
        with self._talking() as dist:
            dist.broadcast(length, src=0)
            values = torch.from_numpy(sent) if self.is_first else torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(values, src=0)
        return values.numpy().tobytes()

    def leave(self, reason: str) -> None:
        """Let the others know why this process ends early, "" where it only follows; the first reason stands."""
        if self._store is not None:
            with suppress(RuntimeError):  # A store that is gone keeps nothing.
                if not self._store.check([f"{self.rank}"]):
                    self._store.set(f"{self.rank}", reason)

    def lost(self) -> TrainingError:
        """Return what to raise when the others cannot be reached: who is gone, or why it ended."""
        assert self._store is not None
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun stops the rest meanwhile; this must be said first.
        self.leave("")
        reasons: dict[int, str] = {}
        others = [rank for rank in range(self.size) if rank != self.rank]
        until = time.monotonic() + _SECONDS_TO_ANSWER
        while len(reasons) < len(others) and time.monotonic() < until:
            reasons |= {rank: found for rank in others if (found := _reason_left(self._store, rank)) is not None}
            time.sleep(0.05)
        parts = [f"rank {rank} of {self.size} stopped: {reason}" for rank, reason in sorted(reasons.items()) if reason]
        gone = [str(rank) for rank in others if rank not in reasons]
        if gone:
            ranks, verb = ("rank", "does") if len(gone) == 1 else ("ranks", "do")
            named = f"{ranks} {', '.join(gone)} of {self.size}"
            parts.append(f"{named} {verb} not answer: killed, stuck, or on a machine that is gone")
        what = "; ".join(parts) or "the processes were told to stop, or lost contact"
        advice = "All processes stop; the same call with --resume goes on from the last checkpoint"
        return TrainingError(f"{what}. {advice}")

    @contextmanager
    def _talking(self) -> Iterator[Any]:
        import torch.distributed as dist

        try:
            yield dist
        except RuntimeError as error:
            raise self.lost() from error


ALONE = Processes()
"""A run in one process."""


def own_size() -> int:
    """Return how many processes the launcher started together; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def own_rank() -> int:
    """Return this process's rank as the launcher set it; 0 without one."""
    return int(os.environ.get("RANK", "0")) if own_size() > 1 else 0


def is_restarted() -> bool:
    """Return whether `torchrun --max-restarts` started the processes again after one had ended."""
    return _restarts() > 0


@contextmanager
def joined(*, timeout: float = 300.0) -> Iterator[Processes]:
    """Yield the processes that `torchrun` started, while the block lasts; one alone without it.

    On SIGTERM, which is how torchrun stops the rest after one has ended, the block ends with a `TrainingError`, as it
    does where the processes do not meet. One that waits for the others longer than `timeout` seconds calls them gone.
    """
    if own_size() == 1:
        yield ALONE
        return
    processes = _meet(timedelta(seconds=timeout))
    before = signal.signal(signal.SIGTERM, lambda *_: _raise(processes.lost()))
    try:
        yield processes
    except BaseException as error:
        processes.leave(str(error) or type(error).__name__)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    import torch.distributed as dist

    dist.destroy_process_group()


def own_device(device: str) -> torch.device:
    """Return the device of this process: of several CUDA devices of a machine, each process must have its own."""
    import torch

    if device != "cuda" or own_size() == 1:
        return torch.device(device)
    index = int(os.environ.get("LOCAL_RANK", "0"))
    if index >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ConfigError(f"process {index} of this machine needs a device of its own; found {found}", key="device")
    return torch.device("cuda", index)


def _meet(timeout: timedelta) -> Processes:
    import torch
    import torch.distributed as dist
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    if os.environ.get("MASTER_ADDR") in _LOOPBACK:  # Nobody else is to be let in.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        store, rank, size = next(rendezvous("env://", timeout=timeout))
    except ValueError as error:
        raise ConfigError(f"{error}; start several processes with torchrun", key="processes") from None
    except RuntimeError as error:
        raise TrainingError(f"rank {own_rank()} cannot meet the other processes: {error}") from error
    store = PrefixStore(f"start {_restarts()}", store)  # What an ended start left must not be taken for this one's.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    processes = Processes(rank, size, PrefixStore("reasons", store))
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    except RuntimeError as error:
        raise processes.lost() from error
    return processes


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _reason_left(store: Store, rank: int) -> str | None:
    try:
        return store.get(f"{rank}").decode() if store.check([f"{rank}"]) else None
    except RuntimeError:
        return None


def _raise(error: TrainingError) -> None:
    raise error
