"""The JSON document of an evaluation and the example sessions of a report."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mkmsr.data.batching import collate
from mkmsr.data.dataset import PreparedDataset
from mkmsr.evaluation.document import evaluation_document, showcase
from mkmsr.evaluation.evaluator import evaluate
from mkmsr.evaluation.ranks import RankTable
from mkmsr.models.base import ModelSizes, SessionModel
from mkmsr.models.registry import model_entry


@pytest.fixture
def recency() -> SessionModel:
    return model_entry("recency").build(model_entry("recency").configure(), ModelSizes(8, 2))


def test_the_document_has_exactly_the_keys_that_scripts_rely_on(
    dataset: PreparedDataset, recency: SessionModel
) -> None:
    table = evaluate(recency, dataset.evaluation_split("test"))
    document = evaluation_document("recency", "test", table, 8, (5, 20), 0.25)
    assert set(document) == {
        "model", "split", "examples", "candidates", "ties", "metrics", "intervals", "slices", "seconds",
    }  # fmt: skip
    assert (document["examples"], document["candidates"], document["ties"]) == (7, 8, "conservative")
    assert set(document["metrics"]) == {"hit@5", "mrr@5", "ndcg@5", "hit@20", "mrr@20", "ndcg@20"}
    assert document["intervals"].keys() == document["metrics"].keys()
    assert all(low <= document["metrics"][name] <= high for name, (low, high) in document["intervals"].items())
    assert set(document["slices"]) == {"repeat", "new_item", "seen"}
    assert document["slices"]["new_item"]["examples"] == 3
    assert document["slices"]["repeat"]["mrr@20"] == pytest.approx((1 / 2 + 1 + 1 / 3) / 3)
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_a_slice_without_examples_has_null_metrics() -> None:
    one, no = np.ones(2, dtype=np.int32), np.zeros(2, dtype=np.bool_)
    document = evaluation_document("m", "test", RankTable(one, one, one, one, no, no), 10, (5,))
    assert document["slices"]["new_item"] == {"examples": 0, "hit@5": None, "mrr@5": None, "ndcg@5": None}


def test_example_sessions_speak_external_ids_and_mark_the_true_next_item(
    dataset: PreparedDataset, recency: SessionModel
) -> None:
    split = dataset.evaluation_split("test")
    found = showcase(recency, dataset, split, evaluate(recency, split), k=3)
    kinds = {each["kind"]: each for each in found["sessions"]}
    assert set(kinds) == {"repeat", "missed"}  # recency never finds an item outside the prefix
    repeat = kinds["repeat"]
    marked = [each for each in repeat["recommendations"] if each["is_target"]]
    assert [each["item"] for each in marked] == [repeat["target"]["item"]]
    assert marked[0]["rank"] == repeat["target"]["rank"]
    assert all(each["in_prefix"] for each in marked)
    assert set(repeat["events"][0]) == {"item", "display", "attributes", "operation"}
    assert kinds["missed"]["target"]["rank"] > 3
    json.dumps(found, allow_nan=False)


def test_recommended_items_of_an_example_are_the_highest_scores(dataset: PreparedDataset) -> None:
    class Fixed(SessionModel):
        def score(self, batch):  # type: ignore[no-untyped-def]
            return torch.tensor([[-1e9, 1, 5, 2, 9, 0, 3, 8, 4]]).float().expand(len(batch), -1)

    split = dataset.evaluation_split("test")
    model = Fixed(ModelSizes(8, 2))
    found = showcase(model, dataset, split, evaluate(model, split), k=4)
    for each in found["sessions"]:
        assert [item["item"] for item in each["recommendations"]] == ["物品", "seven", "with space", "eight"]
        assert [item["score"] for item in each["recommendations"]] == [9, 8, 5, 4]
        assert each["recommendations"][1]["attributes"] == {"brand": ["b"], "colour": ["red", "blue"]}


def test_examples_are_the_same_for_the_same_seed_and_fit_the_split(
    dataset: PreparedDataset, recency: SessionModel
) -> None:
    split = dataset.evaluation_split("test")
    table = evaluate(recency, split)
    assert showcase(recency, dataset, split, table, seed=3) == showcase(recency, dataset, split, table, seed=3)
    batch = collate(split.examples, np.arange(len(split.examples)))
    prefixes = {
        tuple(batch.items[int(a) : int(b)].tolist()) for a, b in zip(batch.offsets, batch.offsets[1:], strict=False)
    }
    for each in showcase(recency, dataset, split, table)["sessions"]:
        assert tuple(dataset.items.index(event["item"]) for event in each["events"]) in prefixes
