"""Networks of hopwise behind the face that `sides.Peer` asks for; runs in hopwise's own environment."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hopwise.config import Config
from hopwise.data import create_dataset, data_preparation
from hopwise.data.interaction import Interaction
from hopwise.utils import get_model, get_trainer, init_seed
from pairs import USUAL, Habits
from torch import Tensor

from mkmsr.data.batching import SessionBatch, collate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.sessions import ExampleTable

NAME = "demo"
FILES = ("train", "valid", "test")


class HopwisePeer:
    """A sequential model of hopwise, fed with exactly our training examples.

    hopwise reads prefixes with their next item from files that were split beforehand, so that neither its own
    augmentation nor its own split takes part. Every session is a user; sessions that training has not seen get user 0,
    which no example trains, and whose vector is zero where a model has user vectors.

    Args:
        model: hopwise's name of the model.
        settings: hopwise's settings of the model and of training.
        dataset: Prepared data; fitted on train alone.
        seed: Of first weights, order, dropout and negatives.
        folder: For the files that hopwise reads and writes.
        habits: What is left to hopwise.
    """

    def __init__(
        self,
        model: str,
        settings: dict[str, Any],
        dataset: PreparedDataset,
        *,
        seed: int,
        folder: Path,
        habits: Habits = USUAL,
    ):
        logging.disable(logging.INFO)
        length = {} if habits.default_padding else {"MAX_ITEM_LIST_LENGTH": dataset.max_session_events - 1}
        write_files(dataset, folder / NAME)
        config = Config(
            model=model,
            dataset=NAME,
            config_dict={
                "data_path": str(folder),
                "checkpoint_dir": str(folder / "saved"),
                "benchmark_filename": list(FILES),
                "USER_ID_FIELD": "session_id",
                "ITEM_ID_FIELD": "item_id",
                "alias_of_item_id": ["item_id_list"],
                "load_col": {"inter": ["session_id", "item_id_list", "item_id"], "item": ["item_id"]},
                **length,
                "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": None, "order": "TO", "mode": "full"},
                "metrics": ["Hit", "MRR"],
                "topk": [20],
                "valid_metric": "MRR@20",
                "repeatable": True,
                "use_gpu": False,
                "seed": seed,
                "show_progress": False,
                **settings,
            },
        )
        self.longest = int(config["MAX_ITEM_LIST_LENGTH"])
        loaded = create_dataset(config)
        self.train_data, _, _ = data_preparation(config, loaded)
        _fill_up(self.train_data.dataset.inter_feat, self.longest)
        init_seed(seed, config["reproducibility"])
        self.network = get_model(config["model"])(config, self.train_data.dataset).to(config["device"])
        self.gradient_checks = habits.gradient_checks and torch.is_anomaly_enabled()
        self.trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, self.network)
        self.place = torch.tensor([0, *(loaded.token2id("item_id", str(each)) for each in dataset_items(dataset))])
        self.examples = len(self.train_data.dataset)

    def train_epoch(self) -> None:
        """Train for one more epoch, without validation and files."""
        self.trainer.epochs = self.trainer.start_epoch + 1
        with torch.autograd.set_detect_anomaly(self.gradient_checks):
            self.trainer.fit(self.train_data, saved=False, verbose=False)
        self.trainer.start_epoch += 1

    def score(self, batch: SessionBatch) -> Tensor:
        """Scores of the whole catalogue in our order of items. Shape [B, V]."""
        self.network.eval()
        items_BL = batch.padded(self.place[batch.items])
        fill = items_BL.new_zeros(len(batch), self.longest - items_BL.shape[1])
        if (users := getattr(self.network, "UI_emb", None)) is not None:
            users.weight.data[0] = 0
        prefixes = Interaction(
            {
                "session_id": torch.zeros(len(batch), dtype=torch.long),
                "item_id_list": torch.cat([items_BL, fill], 1),
                "item_length": batch.lengths,
            }
        )
        scores_BV = self.network.full_sort_predict(prefixes).view(len(batch), -1)
        return scores_BV.index_select(1, self.place)

    def weights(self) -> dict[str, Tensor]:
        """A copy of all weights."""
        return {name: value.clone() for name, value in self.network.state_dict().items()}

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Put weights back."""
        self.network.load_state_dict(weights)

    def close(self) -> None:
        """Nothing to end."""


def _fill_up(examples: Interaction, length: int) -> None:
    """Make all prefixes `length` events long, with zeros at the end."""
    prefixes = examples["item_id_list"]
    missing = prefixes.new_zeros(len(prefixes), length - prefixes.shape[1])
    examples.interaction["item_id_list"] = torch.cat([prefixes, missing], dim=1)


def dataset_items(dataset: PreparedDataset) -> range:
    """Our item indexes, padding left out."""
    return range(1, len(dataset.items) + 1)


def write_files(dataset: PreparedDataset, folder: Path) -> None:
    """The examples of the three splits and the catalogue as hopwise's atomic files."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = (
        dataset.examples(dataset.train),
        dataset.evaluation_split("validation").examples,
        dataset.evaluation_split("test").examples,
    )
    for name, examples in zip(FILES, splits, strict=True):
        lines = ["session_id:token\titem_id_list:token_seq\titem_id:token", *example_lines(name, examples)]
        (folder / f"{NAME}.{name}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    catalogue = "\n".join(["item_id:token", *map(str, dataset_items(dataset))])
    (folder / f"{NAME}.item").write_text(catalogue + "\n", encoding="utf-8")


def example_lines(split: str, examples: ExampleTable) -> list[str]:
    """One line an example: session, prefix, next item."""
    batch = collate(examples, np.arange(len(examples)))
    prefixes = torch.split(batch.items, batch.lengths.tolist())
    return [
        f"{split}{session}\t{' '.join(map(str, prefix.tolist()))}\t{target}"
        for session, prefix, target in zip(batch.sessions.tolist(), prefixes, batch.targets.tolist(), strict=True)
    ]
