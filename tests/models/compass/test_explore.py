"""COMPASS over large catalogues: blocks give the exact loss, a sample estimates it from few rows."""

from __future__ import annotations

import pytest
import torch
from small_shop import batch_of, fitted, small_shop
from torch import Tensor

from mkmsr.data.dataset import PreparedDataset
from mkmsr.layers.softmax import SparseScores
from mkmsr.models.base import Negatives
from mkmsr.models.compass.explore import AttributeMatch, Sample, fixed_masks
from mkmsr.models.compass.model import Compass
from mkmsr.training.optimisation import item_tables


@pytest.fixture(scope="module")
def shop() -> PreparedDataset:
    return small_shop()


def compass(shop: PreparedDataset, **settings: object) -> Compass:
    torch.manual_seed(1)
    _, model = fitted("compass", shop, dim=8, **settings)
    assert isinstance(model, Compass)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for table in item_tables(model):
            table.weight[0] = 0
    return model


def every_item_once(model: Compass) -> Negatives:
    items = torch.arange(1, model.sizes.num_items + 1)
    return Negatives(items, torch.zeros(len(items)))


def gradients(model: Compass, likelihood_B: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (-likelihood_B.mean()).backward()
    named = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    return {name: each.to_dense() if each.is_sparse else each for name, each in named.items()}


def assert_same_loss(model: Compass, one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    expected, found = gradients(model, one), gradients(model, other)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


WITHOUT = [{}, {"explore": {"matching": False}}, {"explore": {"ids": False}}, {"neighbours": False, "copy_past": False}]


@pytest.mark.parametrize("settings", WITHOUT)
@pytest.mark.parametrize("block", [1, 7, 40])
def test_in_blocks_likelihood_and_gradients_are_the_exact_ones(
    shop: PreparedDataset, block: int, settings: dict[str, object]
) -> None:
    model, batch = compass(shop, **settings), batch_of(shop)
    assert_same_loss(model, model.log_likelihood(batch), model.log_likelihood(batch, block=block))


@pytest.mark.parametrize("settings", WITHOUT)
@pytest.mark.parametrize("sparse", [False, True])
def test_a_sample_of_every_item_gives_the_exact_likelihood_and_gradients(
    shop: PreparedDataset, settings: dict[str, object], *, sparse: bool
) -> None:
    model, batch = compass(shop, **settings), batch_of(shop)
    for table in item_tables(model):
        table.sparse = sparse
    assert_same_loss(model, model.log_likelihood(batch), model.sampled_log_likelihood(batch, every_item_once(model)))


def test_a_sample_estimates_the_sum_over_the_catalogue_without_bias(shop: PreparedDataset) -> None:
    model, batch = compass(shop, neighbours=False, copy_past=False, explore={"masks": 1}), batch_of(shop)
    number, size = 12, model.sizes.num_items
    log_counts = torch.full((number,), number / size).log()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        exact_B = model.log_likelihood(batch)
        assert exact_B is not None
        ratios = []
        for _ in range(600):
            items = torch.randint(1, size + 1, (number,), generator=generator)
            sampled_B = model.sampled_log_likelihood(batch, Negatives(items, log_counts))
            assert sampled_B is not None
            ratios.append((exact_B - sampled_B).exp())  # estimated sum / exact sum
    ratios_B = torch.stack(ratios)
    error_B = ratios_B.std(0) / len(ratios) ** 0.5
    assert float(error_B.min()) > 0
    assert float(((ratios_B.mean(0) - 1).abs() / error_B).mean()) < 1.2


def test_only_the_rows_that_a_step_needs_get_a_gradient(shop: PreparedDataset) -> None:
    model, batch = compass(shop), batch_of(shop)
    assert model.vectors.ids is not None
    model.vectors.ids.sparse = True
    negatives = Negatives(torch.tensor([3, 3, 5]), torch.zeros(3))
    likelihood_B = model.sampled_log_likelihood(batch, negatives)
    likelihood_B.sum().backward()
    gradient = model.vectors.ids.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    needed = {0, 3, 5, *batch.items.tolist(), *batch.targets.tolist()}
    assert needed <= set(gradient.coalesce().indices()[0].tolist())


def test_some_items_are_composed_as_among_all(shop: PreparedDataset) -> None:
    model, items = compass(shop), torch.tensor([0, 4, 2, 2, 30])
    torch.testing.assert_close(model.vectors.rows_of(items), model.vectors()[items])


def test_a_column_counts_as_often_as_it_was_drawn_beyond_expectation_and_once_where_it_is_exact() -> None:
    counts = torch.tensor([2.0, 2.0, 0.5]).log()
    negatives = Negatives(torch.tensor([4, 4, 9]), counts)
    sample = Sample.of(torch.tensor([1, 0, 1]), torch.tensor([7, 9, 7]), negatives)
    assert sample.items.tolist() == [0, 4, 7, 9]
    torch.testing.assert_close(sample.log_weights[[1, 3]].exp(), torch.tensor([1.0, 2.0]))
    assert float(sample.log_weights[2].exp()) < 1e-12
    nothing = torch.zeros(0, dtype=torch.int64)
    exact = sample.extra_scores(SparseScores(nothing, nothing, torch.zeros(0)))
    assert list(zip(exact.rows.tolist(), exact.columns.tolist(), strict=True)) == [(0, 3), (1, 2)]
    torch.testing.assert_close(exact.values + sample.log_weights[exact.columns], torch.zeros(2))


def test_scores_of_items_outside_the_sample_are_left_out() -> None:
    sample = Sample.of(torch.tensor([0]), torch.tensor([2]), Negatives(torch.tensor([4, 6]), torch.zeros(2)))
    evidence = SparseScores(torch.tensor([0, 1, 1]), torch.tensor([6, 5, 99]), torch.tensor([0.5, 1.0, 2.0]))
    rows, columns, values = (each[:-1].tolist() for each in sample.extra_scores(evidence))  # The last one is exact.
    assert (rows, columns, values) == ([0], [3], [0.5])


ATTRIBUTES, RELATIONS, SESSIONS = 9, 2, 3
# (attribute, relation, share, age, session), one line an attribute of an event
EVENTS = [(2, 1, 1.0, 0, 0), (7, 2, 0.5, 0, 0), (8, 2, 0.5, 0, 0), (2, 1, 1.0, 3, 0), (4, 1, 1.0, 40, 2)]


@torch.no_grad()
def test_weights_follow_the_formula() -> None:
    torch.manual_seed(0)
    matching = AttributeMatch(ATTRIBUTES, RELATIONS)
    matching.by_age.normal_()
    matching.by_attribute.weight[1:].normal_()
    expected = torch.zeros(ATTRIBUTES + 1, SESSIONS)
    for attribute, relation, share, age, session in EVENTS:
        theta = matching.by_age[relation, min(age, 27)]
        expected[attribute, session] += float(theta * (1 + matching.by_attribute.weight[attribute, 0]) * share)
    columns = [torch.tensor(column) for column in zip(*EVENTS, strict=True)]
    torch.testing.assert_close(matching(*columns, SESSIONS), expected)


@pytest.mark.parametrize(("count", "share", "kept"), [(4, 0.5, 2), (8, 0.6, 3), (16, 0.25, 12), (2, 0.9, 1)])
def test_fixed_masks_keep_every_component_equally_often(count: int, share: float, kept: int) -> None:
    masks = fixed_masks(count, 57, share)
    assert masks.shape == (count, 57)
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert masks.sum(0).tolist() == [kept] * 57
    assert len(masks.unique(dim=0)) == count


def test_fixed_masks_are_the_same_everywhere_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = fixed_masks(4, 9, 0.5)
    assert torch.equal(torch.rand(1), expected)
    torch.manual_seed(6)
    assert torch.equal(fixed_masks(4, 9, 0.5), first)


@pytest.mark.parametrize(("count", "share"), [(1, 0.5), (4, 0.0)])
def test_one_mask_and_no_dropout_keep_everything(count: int, share: float) -> None:
    assert torch.equal(fixed_masks(count, 5, share), torch.ones(1, 5))
