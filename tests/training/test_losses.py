"""The losses against their formulae, in float64 and at the edges of float32."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.config import validate
from mkmsr.data.batching import SessionBatch, TripleBatch
from mkmsr.errors import ConfigError
from mkmsr.layers.fast.catalogue_softmax import target_log_softmax
from mkmsr.layers.softmax import blockwise_target_log_softmax
from mkmsr.models.base import FactorisedModel, ModelSizes, Negatives, SessionModel, mask_padding
from mkmsr.training.config import LossConfig
from mkmsr.training.losses import (
    binary_cross_entropy,
    knowledge_loss,
    session_loss,
)


def factorised_cross_entropy(queries: Tensor, items: Tensor, targets: Tensor) -> Tensor:
    return -target_log_softmax(queries, items, targets).mean()


def blockwise_cross_entropy(queries: Tensor, items: Tensor, targets: Tensor, block: int) -> Tensor:
    return -blockwise_target_log_softmax(queries, items, targets, block).mean()


def inputs(rows: int = 5, items: int = 9, dim: int = 4, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    queries = torch.randn(rows, dim, generator=generator, dtype=torch.float64) * scale
    catalogue = torch.randn(items, dim, generator=generator, dtype=torch.float64)
    targets = torch.randint(1, items, (rows,), generator=generator)
    return queries.requires_grad_(), catalogue.requires_grad_(), targets


def masked_scores(queries: Tensor, catalogue: Tensor) -> Tensor:
    return mask_padding(queries @ catalogue.T)


def batch_of(targets: Tensor) -> SessionBatch:
    unknown = torch.zeros(len(targets), dtype=torch.long)
    return SessionBatch(
        items=torch.arange(1, len(targets) + 1),
        operations=unknown + 1,
        offsets=torch.arange(len(targets) + 1),
        targets=targets,
        target_operations=unknown,
        sessions=unknown,
    )


class TinyModel(FactorisedModel):
    def __init__(self, *, factorised: bool = True) -> None:
        super().__init__(ModelSizes(num_items=8, num_operations=1, num_attributes=3, num_relations=2))
        torch.manual_seed(0)
        self.inputs, self.outputs = nn.Embedding(9, 4), nn.Embedding(9, 4)
        self.factorised = factorised

    @property
    def is_factorised(self) -> bool:
        return self.factorised

    def queries(self, batch: SessionBatch) -> Tensor:
        return self.inputs(batch.items[batch.last])

    def catalogue(self) -> Tensor:
        return self.outputs.weight

    @property
    def has_knowledge_task(self) -> bool:
        return True

    def triple_distances(self, triples: TripleBatch) -> Tensor:
        return (triples.items + 10 * triples.attributes).double()


class LikelihoodModel(TinyModel):
    def log_likelihood(self, batch: SessionBatch, *, block: int = 0) -> Tensor:
        return -torch.arange(len(batch), dtype=torch.float64)

    def sampled_log_likelihood(self, batch: SessionBatch, negatives: Negatives) -> Tensor:
        return self.log_likelihood(batch)


def test_factorised_cross_entropy_equals_torch_on_the_masked_scores() -> None:
    queries, catalogue, targets = inputs()
    expected = F.cross_entropy(masked_scores(queries, catalogue), targets)
    expected_gradients = torch.autograd.grad(expected, (queries, catalogue))
    loss = factorised_cross_entropy(queries, catalogue, targets)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, (queries, catalogue)), expected_gradients)


@pytest.mark.parametrize("block", [1, 2, 4, 8, 9, 50])
def test_blockwise_cross_entropy_equals_torch_whatever_the_block(block: int) -> None:
    queries, catalogue, targets = inputs()
    expected = F.cross_entropy(masked_scores(queries, catalogue), targets)
    expected_gradients = torch.autograd.grad(expected, (queries, catalogue))
    loss = blockwise_cross_entropy(queries, catalogue, targets, block)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, (queries, catalogue)), expected_gradients)


def test_gradients_agree_with_finite_differences() -> None:
    queries, catalogue, targets = inputs()
    assert torch.autograd.gradcheck(lambda q, c: factorised_cross_entropy(q, c, targets), (queries, catalogue))
    assert torch.autograd.gradcheck(lambda q, c: blockwise_cross_entropy(q, c, targets, 4), (queries, catalogue))
    assert torch.autograd.gradcheck(
        lambda q, c: binary_cross_entropy(masked_scores(q, c), targets), (queries, catalogue)
    )


def test_many_rows_are_processed_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, catalogue, targets = inputs(rows=7)
    whole = factorised_cross_entropy(queries, catalogue, targets)
    whole_bce = binary_cross_entropy(masked_scores(queries, catalogue), targets)
    monkeypatch.setattr("mkmsr.layers.softmax._CACHED_SCORES", 2 * 9)
    torch.testing.assert_close(factorised_cross_entropy(queries, catalogue, targets), whole)
    torch.testing.assert_close(binary_cross_entropy(masked_scores(queries, catalogue), targets), whole_bce)


def test_the_padding_item_gets_no_gradient_and_no_probability() -> None:
    queries, catalogue, targets = inputs()
    for loss in (
        factorised_cross_entropy(queries, catalogue, targets),
        blockwise_cross_entropy(queries, catalogue, targets, 4),
        binary_cross_entropy(masked_scores(queries, catalogue), targets),
    ):
        (gradient,) = torch.autograd.grad(loss, catalogue)
        assert gradient[0].eq(0).all()
    moved = catalogue.detach().clone()
    moved[0] += 100
    torch.testing.assert_close(
        factorised_cross_entropy(queries, moved, targets), factorised_cross_entropy(queries, catalogue, targets)
    )


def literal_bce(scores: list[float], target: int) -> float:
    """The formula, item by item, over items 1..V-1."""
    total = math.fsum(math.exp(score) for score in scores[1:])
    loss = 0.0
    for item, score in enumerate(scores[1:], start=1):
        others = math.fsum(math.exp(each) for j, each in enumerate(scores[1:], start=1) if j != item)
        loss -= math.log(math.exp(score) / total) if item == target else math.log(others / total)
    return loss


@given(st.lists(st.floats(-12, 12), min_size=2, max_size=8), st.data())
def test_binary_cross_entropy_equals_the_formula_summed_item_by_item(values: list[float], data: st.DataObject) -> None:
    target = data.draw(st.integers(1, len(values)))
    scores = torch.tensor([[-math.inf, *values]], dtype=torch.float64)
    expected = literal_bce(scores[0].tolist(), target)
    assert binary_cross_entropy(scores, torch.tensor([target])).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("gap", [20.0, 60.0, 200.0])
def test_binary_cross_entropy_stays_finite_where_probabilities_round_to_one(gap: float) -> None:
    scores = torch.tensor([[-math.inf, gap, 0.0, 1.0], [-math.inf, gap, 0.0, 1.0]], requires_grad=True)
    loss = binary_cross_entropy(scores, torch.tensor([2, 1]))
    loss.backward()
    rest = math.log(1 + math.e)
    # Row 0: the target lies `gap` below, and the wrong winner's 1 - p is about exp(-gap). Row 1: nearly no loss.
    assert loss.item() == pytest.approx((gap + gap - rest) / 2, rel=1e-5)
    assert scores.grad is not None
    assert scores.grad[:, 1:].isfinite().all()
    wrong, right = scores.grad[0, 1:] * 2, scores.grad[1, 1:] * 2
    share = torch.tensor([1.0, math.e]) / (1 + math.e)
    torch.testing.assert_close(wrong, torch.stack([torch.tensor(2.0), -1 - share[0], -share[1]]), rtol=1e-4, atol=1e-6)
    assert right.abs().max() < 1e-6


def test_binary_cross_entropy_of_a_catalogue_of_one_item_is_zero() -> None:
    scores = torch.tensor([[-math.inf, 3.0]], requires_grad=True)
    loss = binary_cross_entropy(scores, torch.tensor([1]))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad is not None
    assert scores.grad.eq(0).all()


def test_cross_entropy_stays_finite_for_large_scores_in_float32() -> None:
    queries, catalogue, targets = (each.detach() for each in inputs(scale=300.0))
    expected = F.cross_entropy(masked_scores(queries, catalogue), targets)
    small = (queries.float(), catalogue.float(), targets)
    torch.testing.assert_close(factorised_cross_entropy(*small).double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(blockwise_cross_entropy(*small, 4).double(), expected, rtol=1e-4, atol=1e-4)


def test_session_loss_is_the_same_by_scores_by_products_and_in_blocks() -> None:
    batch = batch_of(torch.tensor([3, 8, 1]))
    model = TinyModel()
    expected = F.cross_entropy(model.score(batch), batch.targets)
    torch.testing.assert_close(session_loss(model, batch, "cross-entropy"), expected)
    torch.testing.assert_close(session_loss(model, batch, "cross-entropy", block=3), expected)
    torch.testing.assert_close(session_loss(TinyModel(factorised=False), batch, "cross-entropy"), expected)


def test_a_model_with_its_own_likelihood_is_trained_on_its_negative_mean() -> None:
    batch = batch_of(torch.tensor([3, 8, 1]))
    assert session_loss(LikelihoodModel(), batch, "cross-entropy").item() == 1.0
    with pytest.raises(ConfigError, match=r"LikelihoodModel defines its own likelihood.*found 'bce'"):
        session_loss(LikelihoodModel(), batch, "bce")


def test_bce_in_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="catalogue_block"):
        session_loss(TinyModel(), batch_of(torch.tensor([3])), "bce", block=4)


def test_settings_of_older_versions_are_read_and_the_option_that_is_gone_is_refused() -> None:
    assert validate(LossConfig, {"products": "float32"}, prefix="training.loss") == LossConfig()
    with pytest.raises(ConfigError, match="products"):
        validate(LossConfig, {"products": "bfloat16"}, prefix="training.loss")


def test_knowledge_loss_is_a_mean_and_the_margin_stops_at_zero() -> None:
    ones = torch.ones(2, dtype=torch.long)
    true = TripleBatch(torch.tensor([1, 3]), ones, torch.tensor([1, 1]))
    corrupted = TripleBatch(torch.tensor([1, 3]), ones, torch.tensor([0, 3]))
    assert knowledge_loss(TinyModel(), true).item() == 12.0
    assert knowledge_loss(TinyModel(), true, "norm").item() == pytest.approx((math.sqrt(11) + math.sqrt(13)) / 2)
    # Distances 11 and 13 against 1 and 33: max(0, 5 + 10) and max(0, 5 - 20).
    assert knowledge_loss(TinyModel(), true, corrupted=corrupted, margin=5.0).item() == 7.5


def test_a_model_without_knowledge_task_cannot_take_the_knowledge_loss() -> None:
    ones = torch.ones(1, dtype=torch.long)
    with pytest.raises(ConfigError, match="no knowledge task"):
        knowledge_loss(SessionModel(ModelSizes(1, 1)), TripleBatch(ones, ones, ones))
