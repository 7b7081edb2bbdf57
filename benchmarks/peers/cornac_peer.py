"""Models of Cornac behind the face that `sides.Peer` asks for; runs in Cornac's own environment."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from queue import Queue
from typing import Any, Literal

import cornac.models
import numpy as np
import torch
from cornac.data import SequentialDataset
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.data.dataset import PreparedDataset

Hook = Literal["s_iter", "sessions"]

EPOCHS = 1000
"""More than anyone asks for: a fit ends when nobody asks for a further epoch."""


class CornacPeer:
    """A next-item model of Cornac, fed with the sessions that our training examples are cut from.

    Cornac trains all epochs in one call. That call runs in a thread of its own, which waits whenever it begins to read
    the sessions again; only one of the two threads runs at a time.

    Args:
        model: Cornac's name of the model.
        settings: Cornac's settings of it.
        dataset: Prepared data; fitted on train alone, with the whole catalogue known by name.
        hook: What the model asks the data for once an epoch.
        seed: Of order and negatives, and of first weights where Cornac draws them by it.
    """

    def __init__(self, model: str, settings: dict[str, Any], dataset: PreparedDataset, *, hook: Hook, seed: int):
        torch.manual_seed(seed)
        np.random.seed(seed)
        self.sessions = watched_sessions(dataset, hook, self._wait)
        self.model = getattr(cornac.models, model)(**settings, n_epochs=EPOCHS, seed=seed)
        self.num_items = len(dataset.items)
        self.examples = len(dataset.examples(dataset.train))
        self._go: Queue[bool] = Queue()
        self._done: Queue[BaseException | None] = Queue()
        self._thread = threading.Thread(target=self._fit, daemon=True)
        self._thread.start()
        self._hear()

    def train_epoch(self) -> None:
        """Train for one more epoch."""
        self._go.put(True)
        self._hear()

    def score(self, batch: SessionBatch) -> Tensor:
        """Scores of the whole catalogue in our order of items. Shape [B, V]."""
        scores_BV = torch.zeros(len(batch), self.num_items + 1)
        for row, prefix in enumerate(torch.split(batch.items, batch.lengths.tolist())):
            scores = self.model.score(0, (prefix - 1).tolist())
            scores_BV[row, 1:] = torch.from_numpy(np.asarray(scores, dtype=np.float32))
        return scores_BV

    def weights(self) -> dict[str, Tensor]:
        """A copy of all weights."""
        return {name: value.clone() for name, value in self.model.model.state_dict().items()}

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Put weights back."""
        self.model.model.load_state_dict(weights)

    def close(self) -> None:
        """End the fit."""
        self._go.put(False)
        self._thread.join()

    def _fit(self) -> None:
        try:
            self.model.fit(self.sessions)
        except _EnoughError:
            self._done.put(None)
        except BaseException as error:  # It must reach the thread that waits.
            self._done.put(error)

    def _wait(self) -> None:
        self._done.put(None)
        if not self._go.get():
            raise _EnoughError
        self.model.model.train()

    def _hear(self) -> None:
        if (error := self._done.get()) is not None:
            raise error


class _EnoughError(Exception):
    """Nobody asks for a further epoch."""


def watched_sessions(dataset: PreparedDataset, hook: Hook, begin: Callable[[], None]) -> SequentialDataset:
    """The training sessions, each cut to its last events as examples are; `begin` is called when an epoch begins."""

    class Watched(SequentialDataset):
        @property
        def sessions(self) -> Any:
            if hook == "sessions":
                begin()
            return super().sessions

        def s_iter(self, batch_size: int = 1, shuffle: bool = False) -> Iterator[Any]:
            if hook == "s_iter":
                begin()
            return super().s_iter(batch_size, shuffle)

    table = dataset.train
    rows = []
    for session, (begins, ends) in enumerate(zip(table.offsets[:-1], table.offsets[1:], strict=True)):
        items = table.items[max(begins, ends - dataset.max_session_events) : ends]
        rows += [(session, int(item), place) for place, item in enumerate(items)]
    catalogue = OrderedDict((item, item - 1) for item in range(1, len(dataset.items) + 1))
    return Watched.build(rows, fmt="SIT", global_iid_map=catalogue)
