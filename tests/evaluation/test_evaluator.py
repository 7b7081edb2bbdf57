"""Ranking a split batch by batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mkmsr.data.batching import SessionBatch, collate
from mkmsr.data.dataset import EvaluationSplit, PreparedDataset
from mkmsr.data.sessions import ExampleTable, SessionTable
from mkmsr.errors import EvaluationError
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.evaluation.metrics import conservative_ranks
from mkmsr.models.base import ModelSizes, SessionModel, mask_padding
from mkmsr.models.registry import model_entry
from mkmsr.runtime.events import Event, RankingDone


class LastItem(SessionModel):
    """Scores by the prefix's last item, with dropout so that the mode can be told from the scores."""

    def __init__(self, num_items: int):
        super().__init__(ModelSizes(num_items, 2))
        self.table = nn.Embedding(num_items + 1, num_items + 1, _weight=torch.rand(num_items + 1, num_items + 1))
        self.dropout = nn.Dropout(0.9)
        self.modes: list[tuple[bool, bool]] = []

    def score(self, batch: SessionBatch) -> Tensor:
        self.modes.append((self.training, torch.is_grad_enabled()))
        return mask_padding(self.dropout(self.table(batch.items[batch.last])))


@pytest.fixture
def split(dataset: PreparedDataset) -> EvaluationSplit:
    return dataset.evaluation_split("test")


def whole_batch(split: EvaluationSplit) -> SessionBatch:
    return collate(split.examples, np.arange(len(split.examples)))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 512])
def test_ranks_do_not_depend_on_the_batch_size_and_equal_those_of_one_array(
    split: EvaluationSplit, batch_size: int
) -> None:
    model = LastItem(8).eval()
    batch = whole_batch(split)
    with torch.no_grad():
        expected = conservative_ranks(model.score(batch), batch.targets)
    assert evaluate(model, split, batch_size=batch_size).rank.tolist() == expected.tolist()


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_ranked_in_evaluation_mode_without_gradients_and_left_as_it_was(
    split: EvaluationSplit, training: bool
) -> None:
    model = LastItem(8).train(training)
    evaluate(model, split)
    assert set(model.modes) == {(False, False)}
    assert model.training is training
    assert model.dropout.training is training


def test_the_mode_is_restored_even_when_ranking_fails(split: EvaluationSplit) -> None:
    model = LastItem(8).train()
    nn.init.constant_(model.table.weight, float("nan"))
    with pytest.raises(EvaluationError, match="the target's score is nan"):
        evaluate(model, split)
    assert model.training


def test_a_plain_function_of_a_batch_can_be_ranked(split: EvaluationSplit) -> None:
    table = evaluate(lambda batch: torch.nn.functional.one_hot(batch.targets, 9).float(), split)
    assert table.rank.tolist() == [1] * len(split.examples)


def test_a_constant_scorer_comes_last_on_every_example(split: EvaluationSplit) -> None:
    assert set(evaluate(lambda batch: torch.zeros(len(batch), 9), split).rank.tolist()) == {8}


def test_the_listener_hears_how_far_it_is(split: EvaluationSplit) -> None:
    heard: list[Event] = []
    evaluate(LastItem(8), split, batch_size=3, listener=heard.append)
    assert heard == [RankingDone(3, 7), RankingDone(6, 7), RankingDone(7, 7)]


def test_scores_of_another_catalogue_are_an_error(split: EvaluationSplit) -> None:
    with pytest.raises(EvaluationError, match=r"expected \(7, 9\), found \(7, 8\)"):
        evaluate(lambda batch: torch.zeros(len(batch), 8), split)


def test_a_split_without_examples_is_an_error(dataset: PreparedDataset) -> None:
    empty = EvaluationSplit("test", dataset.examples(SessionTable.empty()), dataset.seen_before("test"))
    with pytest.raises(EvaluationError, match="the test split has no examples"):
        evaluate(LastItem(8), empty)


def test_a_large_catalogue_is_ranked_in_smaller_batches() -> None:
    items, sessions = 200_000, 200
    events = np.ones(2 * sessions, dtype=np.int32)
    table = SessionTable(
        events, events.astype(np.int16), np.arange(sessions + 1, dtype=np.int64) * 2, events.astype(np.int64)
    )
    split = EvaluationSplit("test", ExampleTable.from_sessions(table), np.ones(items + 1, dtype=np.bool_))
    sizes = []

    def scorer(batch: SessionBatch) -> Tensor:
        sizes.append(len(batch))
        return torch.zeros(()).expand(len(batch), items + 1)

    assert len(evaluate(scorer, split)) == sessions
    assert max(sizes) * (items + 1) <= 2**22


def test_baselines_go_through_the_same_protocol(split: EvaluationSplit) -> None:
    model = model_entry("recency").build(model_entry("recency").configure(), ModelSizes(8, 2))
    table = evaluate(model, split)
    # Prefixes 1 | 1 2 | 1 2 1 | 1 2 1 7 | 5 | 5 8 | 5 8 6 and targets 2 1 7 7 8 6 5; items outside the prefix are tied.
    assert table.rank.tolist() == [8, 2, 8, 1, 8, 8, 3]


def test_processes_share_the_work_and_find_the_same_ranks(split: EvaluationSplit) -> None:
    torch.manual_seed(4)
    entry = model_entry("stamp")
    model = entry.build(entry.configure({"dim": 4}), ModelSizes(8, 2))
    heard: list[Event] = []
    ranks = evaluate(model, split, batch_size=2, workers=2, listener=heard.append).rank
    assert ranks.tolist() == evaluate(model, split, batch_size=2).rank.tolist()
    assert heard[-1] == RankingDone(len(split.examples), len(split.examples))
    assert model.training


def test_what_goes_wrong_in_a_process_is_said(split: EvaluationSplit) -> None:
    entry = model_entry("stamp")
    too_large = entry.build(entry.configure({"dim": 4}), ModelSizes(9, 2))
    with pytest.raises(
        EvaluationError, match=r"a process that ranked examples from \d failed: scores must have one row"
    ):
        evaluate(too_large, split, batch_size=4, workers=2)


def test_a_function_cannot_be_sent_to_processes(split: EvaluationSplit) -> None:
    with pytest.raises(EvaluationError, match="only models can be sent to other processes"):
        evaluate(lambda batch: torch.zeros(len(batch), 9), split, batch_size=2, workers=2)


@pytest.mark.parametrize(("given", "used"), [({}, 1), ({"threads": 2}, 2), ({"threads": 0}, 3)])
def test_ranking_takes_one_thread_unless_told_otherwise(
    split: EvaluationSplit, given: dict[str, int], used: int
) -> None:
    seen = []

    def score(batch: SessionBatch) -> Tensor:
        seen.append(torch.get_num_threads())
        return torch.rand(len(batch), 9)

    torch.set_num_threads(3)
    evaluate(score, split, **given)
    torch.set_num_threads(1)
    assert seen == [used]
