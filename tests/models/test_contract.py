"""What every registered model promises. A model joins by being registered in MODELS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mkmsr.config import StrictModel
from mkmsr.data.batching import SessionBatch, collate, collate_triples
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import ExampleTable
from mkmsr.models.base import FactorisedModel, ModelSizes, SessionModel, TrainingData
from mkmsr.models.capabilities import has_knowledge_task, is_factorised
from mkmsr.models.registry import MODELS
from mkmsr.training.losses import knowledge_loss, session_loss

DIM = 16
EXAMPLES = 40
SMALL = {name: entry.build(entry.configure(), ModelSizes(3, 2)) for name, entry in MODELS.items()}
TRAINABLE = [name for name, model in SMALL.items() if model.is_trainable]
FACTORISED = [name for name, model in SMALL.items() if is_factorised(model)]


@dataclass(frozen=True)
class Fitted:
    """One model that has observed the small training log, in evaluation mode."""

    name: str
    config: StrictModel
    model: SessionModel
    training: TrainingData

    def again(self, seed: int, **settings: object) -> SessionModel:
        """The same model with weights drawn anew."""
        config = self.config.model_copy(update={k: v for k, v in settings.items() if hasattr(self.config, k)})
        torch.manual_seed(seed)
        model = MODELS[self.name].build(config, self.model.sizes)
        model.observe(self.training)
        return model.eval()


@pytest.fixture(scope="module", params=list(MODELS))
def fitted(request: pytest.FixtureRequest, small_training: TrainingData, small_sizes: ModelSizes) -> Fitted:
    name: str = request.param
    entry = MODELS[name]
    config = entry.configure({"dim": DIM} if "dim" in entry.config.model_fields else {})
    fresh = Fitted(name, config, entry.build(config, small_sizes), small_training)
    return replace(fresh, model=fresh.again(0))


@pytest.fixture(scope="module")
def batch(small_training: TrainingData) -> SessionBatch:
    """Prefixes of one to eleven events, one of them twice."""
    rows = np.random.default_rng(1).permutation(len(small_training.examples))[:EXAMPLES]
    return collate(small_training.examples, np.append(rows, rows[0]))


def rows_of(batch: SessionBatch) -> list[SessionBatch]:
    """Each prefix as a batch of its own."""
    bounds = zip(batch.offsets[:-1].tolist(), batch.offsets[1:].tolist(), strict=True)
    return [
        SessionBatch(
            batch.items[begin:end],
            batch.operations[begin:end],
            torch.tensor([0, end - begin]),
            batch.targets[row : row + 1],
            batch.target_operations[row : row + 1],
            batch.sessions[row : row + 1],
        )
        for row, (begin, end) in enumerate(bounds)
    ]


def joined(batches: list[SessionBatch]) -> SessionBatch:
    """One batch of all prefixes."""
    return SessionBatch(
        torch.cat([each.items for each in batches]),
        torch.cat([each.operations for each in batches]),
        torch.tensor([0, *(len(each.items) for each in batches)]).cumsum(0),
        torch.cat([each.targets for each in batches]),
        torch.cat([each.target_operations for each in batches]),
        torch.cat([each.sessions for each in batches]),
    )


def scores_of(model: SessionModel, batch: SessionBatch) -> Tensor:
    with torch.no_grad():
        return model.score(batch)


def restore(model: SessionModel, tensors: Mapping[str, Tensor]) -> None:
    """Load a state whose buffers may have other shapes than those of a model that has observed nothing."""
    for name, buffer in list(model.named_buffers()):
        owner, _, last = name.rpartition(".")
        if name in tensors and buffer.shape != tensors[name].shape:
            setattr(model.get_submodule(owner), last, tensors[name].clone())
    model.load_state_dict(tensors)


def padding_rows(model: nn.Module) -> dict[str, Tensor]:
    tables = {name: each for name, each in model.named_modules() if isinstance(each, nn.Embedding)}
    return {name: each.weight[each.padding_idx] for name, each in tables.items() if each.padding_idx is not None}


def test_scores_cover_the_catalogue_and_padding_is_never_recommended(fitted: Fitted, batch: SessionBatch) -> None:
    scores = scores_of(fitted.model, batch)
    assert scores.shape == (len(batch), fitted.model.sizes.num_items + 1)
    assert scores.dtype == torch.float32
    assert (scores[:, 0] == float("-inf")).all()
    assert scores[:, 1:].isfinite().all()


def test_a_batch_scores_like_its_prefixes_one_by_one(fitted: Fitted, batch: SessionBatch) -> None:
    alone = torch.cat([scores_of(fitted.model, each) for each in rows_of(batch)])
    torch.testing.assert_close(scores_of(fitted.model, batch), alone, rtol=1e-4, atol=1e-5)


def test_prefixes_in_another_order_score_the_same_in_that_order(fitted: Fitted, batch: SessionBatch) -> None:
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(2))
    alone = rows_of(batch)
    shuffled = joined([alone[row] for row in order])
    expected = scores_of(fitted.model, batch)[order]
    torch.testing.assert_close(scores_of(fitted.model, shuffled), expected, rtol=1e-4, atol=1e-5)


def test_neither_the_target_nor_the_session_number_is_looked_at(fitted: Fitted, batch: SessionBatch) -> None:
    blind = replace(
        batch,
        targets=torch.zeros_like(batch.targets),
        target_operations=torch.zeros_like(batch.target_operations),
        sessions=torch.full_like(batch.sessions, -1),
    )
    assert torch.equal(scores_of(fitted.model, blind), scores_of(fitted.model, batch))


def test_the_scorer_scores_like_score(fitted: Fitted, batch: SessionBatch) -> None:
    with torch.no_grad():
        scores = fitted.model.scorer()(batch)
    torch.testing.assert_close(scores, scores_of(fitted.model, batch), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fitted", FACTORISED, indirect=True)
def test_a_factorised_score_is_an_inner_product(fitted: Fitted, batch: SessionBatch) -> None:
    model = fitted.model
    assert isinstance(model, FactorisedModel)
    with torch.no_grad():
        queries, items = model.queries(batch), model.catalogue()
        some = torch.tensor([3, 1, 12, 3])
        torch.testing.assert_close(model.item_vectors(some), items[some])
    assert items.shape == (model.sizes.num_items + 1, queries.shape[1])
    torch.testing.assert_close((queries @ items.T)[:, 1:], scores_of(model, batch)[:, 1:], rtol=1e-4, atol=1e-5)


def test_a_log_of_one_operation_without_knowledge_and_with_items_yet_unseen_is_enough(fitted: Fitted) -> None:
    sessions = fitted.training.sessions
    plain = replace(sessions, operations=np.ones_like(sessions.operations))
    training = TrainingData(plain, ExampleTable.from_sessions(plain), KnowledgeGraph.empty(14))
    torch.manual_seed(0)
    model = MODELS[fitted.name].build(fitted.config, ModelSizes(num_items=14, num_operations=1))
    model.observe(training)
    unseen = SessionBatch.from_sequences([([14], [1]), ([1, 13, 1], [1, 1, 1])])
    scores = scores_of(model.eval(), unseen)
    assert scores.shape == (2, 15)
    assert scores[:, 1:].isfinite().all()


def test_scoring_changes_neither_the_batch_nor_the_model(fitted: Fitted, batch: SessionBatch) -> None:
    tensors = {name: value.clone() for name, value in fitted.model.state_dict().items()}
    items, operations = batch.items.clone(), batch.operations.clone()
    first, second = scores_of(fitted.model, batch), scores_of(fitted.model, batch)
    assert torch.equal(first, second)
    assert torch.equal(items, batch.items)
    assert torch.equal(operations, batch.operations)
    assert all(torch.equal(value, tensors[name]) for name, value in fitted.model.state_dict().items())


def test_the_same_seed_draws_the_same_weights(fitted: Fitted) -> None:
    first, second, other = (fitted.again(seed) for seed in (3, 3, 4))
    assert first.state_dict().keys() == second.state_dict().keys()
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    if first.is_trainable:
        assert any(not torch.equal(value, other.state_dict()[name]) for name, value in first.state_dict().items())


def test_a_restored_state_gives_the_same_scores(fitted: Fitted, batch: SessionBatch) -> None:
    torch.manual_seed(9)
    other = MODELS[fitted.name].build(fitted.config, fitted.model.sizes).eval()
    restore(other, fitted.model.state_dict())
    assert torch.equal(scores_of(other, batch), scores_of(fitted.model, batch))


def test_padding_rows_are_zero(fitted: Fitted) -> None:
    assert all(not row.any() for row in padding_rows(fitted.model).values())


def test_a_model_with_a_knowledge_task_gives_each_triple_a_distance(fitted: Fitted) -> None:
    triples = collate_triples(fitted.training.knowledge, np.arange(len(fitted.training.knowledge)))
    if has_knowledge_task(fitted.model):
        distances = fitted.model.triple_distances(triples)
        assert distances.shape == (len(triples),)
        assert (distances >= 0).all()


@pytest.mark.parametrize("fitted", TRAINABLE, indirect=True)
def test_every_parameter_gets_a_gradient(fitted: Fitted, batch: SessionBatch) -> None:
    model = fitted.again(5)
    loss = session_loss(model, batch, "cross-entropy")
    if has_knowledge_task(model):
        knowledge = fitted.training.knowledge
        loss = loss + knowledge_loss(model, collate_triples(knowledge, np.arange(len(knowledge))))
    loss.backward()
    trained = {name: each.grad for name, each in model.named_parameters() if each.requires_grad}
    assert [name for name, gradient in trained.items() if gradient is None or not gradient.any()] == []
    assert [name for name, gradient in trained.items() if not gradient.isfinite().all()] == []


# CORE cannot: whatever it learns, nothing is nearer to a session of one item than that item.
@pytest.mark.parametrize("fitted", [name for name in TRAINABLE if name != "core"], indirect=True)
def test_eight_examples_are_learnt_by_heart(fitted: Fitted) -> None:
    model = fitted.again(6, dropout=0.0, session_dropout=0.0, id_dropout=0.0)
    prefixes = [[1 + (row + step) % 12 for step in range(row % 4, 4)] for row in range(8)]
    sequences = [(items, [1 + row % 3] * len(items)) for row, items in enumerate(prefixes)]
    eight = replace(SessionBatch.from_sequences(sequences), targets=torch.tensor([8, 3, 12, 1, 6, 10, 2, 5]))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        optimiser.zero_grad()
        session_loss(model.train(), eight, "cross-entropy").backward()
        optimiser.step()
        if bool((scores_of(model.eval(), eight).argmax(1) == eight.targets).all()):
            break
    assert scores_of(model, eight).argmax(1).tolist() == eight.targets.tolist()
    assert all(not row.any() for row in padding_rows(model).values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_another_device_gives_the_same_scores(fitted: Fitted, batch: SessionBatch) -> None:
    expected = scores_of(fitted.model, batch)
    moved = fitted.again(0)
    moved.load_state_dict(fitted.model.state_dict())
    found = scores_of(moved.to("cuda"), batch.to("cuda"))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4)
