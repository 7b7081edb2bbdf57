"""COMPASS's explore component: exact, in blocks and from a sample; attribute matches; priors of known and new items."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_shop import batch_of, fitted, small_shop
from torch import Tensor

from mkmsr.data.batching import SessionBatch
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import ExampleTable, SessionTable
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.models.base import ModelSizes, Negatives, TrainingData
from mkmsr.models.compass.explore import Sample
from mkmsr.models.compass.model import Compass
from mkmsr.models.registry import model_entry
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
        model.vectors.id_dropout = 0.0
        for table in item_tables(model):
            table.weight[0] = 0
    return model


def compass_in_training(shop: PreparedDataset, **settings: object) -> Compass:
    """The same in training, where nothing is dropped."""
    model = compass(shop, dropout=0.0, **settings)
    model.train()
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


WITHOUT = [{}, {"attributes": False}, {"ids": False}, {"neighbours": False, "copy_past": False}]


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
    model, batch = compass_in_training(shop, **settings), batch_of(shop)
    for table in item_tables(model):
        table.sparse = sparse
    assert_same_loss(model, model.log_likelihood(batch), model.sampled_log_likelihood(batch, every_item_once(model)))


def test_a_sample_estimates_the_sum_over_the_catalogue_without_bias(shop: PreparedDataset) -> None:
    model, batch = compass_in_training(shop, neighbours=False, copy_past=False), batch_of(shop)
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
    model, batch = compass_in_training(shop), batch_of(shop)
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
    negatives = Negatives(torch.tensor([4, 4, 9]), torch.tensor([2.0, 2.0, 0.5]).log())
    batch = replace(SessionBatch.from_sequences([([9], [1]), ([7], [1])]), targets=torch.tensor([9, 7]))
    sample = Sample.draw(batch, negatives)
    assert sample.items.tolist() == [0, 4, 7, 9]
    torch.testing.assert_close(sample.log_weights[[1, 3]].exp(), torch.tensor([1.0, 2.0]))
    assert float(sample.log_weights[2].exp()) < 1e-12
    exact = sample.corrections
    assert list(zip(exact.rows.tolist(), exact.columns.tolist(), strict=True)) == [(0, 3), (1, 2)]
    torch.testing.assert_close(exact.values + sample.log_weights[exact.columns], torch.zeros(2))


@torch.no_grad()
def test_weights_of_attributes_follow_the_formula(shop: PreparedDataset) -> None:
    model, batch = compass(shop), batch_of(shop)
    vectors, matching = model.vectors, model.explore.matching
    assert matching is not None
    expected = torch.zeros(len(vectors.relation_of), len(batch))
    for row, item, age in zip(batch.rows.tolist(), batch.items, batch.ages.tolist(), strict=True):
        _, attributes, shares = vectors.by_item.of(item[None])
        for attribute, share in zip(attributes.tolist(), shares.tolist(), strict=True):
            theta = matching.by_age[vectors.relation_of[attribute], min(age, 27)]
            expected[attribute, row] += float(theta * (1 + matching.by_attribute.weight[attribute, 0]) * share)
    found = matching(batch, vectors)
    torch.testing.assert_close(
        torch.zeros_like(expected).index_put((found.items, found.rows), found.weights, accumulate=True), expected
    )


@torch.no_grad()
@pytest.mark.parametrize("common", [0, 3, 8])
def test_scores_of_all_items_are_those_of_whole_arrays(
    shop: PreparedDataset, common: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mkmsr.models.compass.explore._COMMON", common)
    model = compass(shop).eval()
    model.explore.fitted.copy_(torch.tensor([0.6, 0.9, 0.5, 1.5, 0.8, -0.5]))
    vectors_VD = model.vectors()
    for rows in (slice(0, 1), slice(0, 9)):
        batch = batch_of(shop).part(rows)
        session, explore = model.said(batch, vectors_VD.__getitem__)[0], model.explore
        (query_BD, extra), match_AB = explore.weighed(session), explore.match_weights(session, model.vectors)
        assert match_AB is not None
        plain_BV = query_BD @ model.explore.candidates(model.vectors, vectors_VD).T + model.vectors.spread(match_AB).T
        plain_BV.index_put_((extra.rows, extra.columns), extra.values, accumulate=True)
        plain_BV[:, 0] = -torch.inf
        gates_B = torch.linspace(-1, 0, len(batch))
        all_items = explore.all_items(model.vectors, vectors_VD)
        found_BV = explore.log_scores(session, model.vectors, all_items, gates_B)
        torch.testing.assert_close(found_BV, plain_BV.log_softmax(1) + gates_B[:, None])


NEW = 2.0


def model_of(catalogue: int, described: list[int], expects_new_items: bool = True) -> Compass:
    """Twenty sessions over items 1 to 4, of which 3 and 4 come in with the two newest; the `described` have triples."""
    sessions = [[1, 2]] * 18 + [[1, 3], [2, 4, 3]]
    items = np.array([item for each in sessions for item in each], np.int32)
    lengths = [len(each) for each in sessions]
    times = np.repeat(np.arange(len(sessions)), lengths).astype(np.int64)
    table = SessionTable(items, np.ones(len(items), np.int16), np.cumsum([0, *lengths]).astype(np.int64), times)
    triples = np.array([[item, 1, catalogue + 1] for item in described], np.int64)
    knowledge = KnowledgeGraph(
        triples, Vocabulary(["brand"], kind="relation"), Vocabulary(["brand=a"], kind="attribute"), catalogue
    )
    entry = model_entry("compass")
    model = entry.build(entry.configure({"dim": 4}), ModelSizes(catalogue, 1, 1, 1))
    assert isinstance(model, Compass)
    model.observe(TrainingData(table, ExampleTable.from_sessions(table), knowledge, expects_new_items))
    with torch.no_grad():
        model.explore.fitted[2:4] = torch.tensor([0.5, NEW])
    return model.eval()


def priors(model: Compass) -> list[float]:
    return [float(each) for each in model.explore.priors(model.vectors)]


def test_items_with_events_have_their_popularity() -> None:
    assert priors(model_of(6, [1, 5]))[1:5] == pytest.approx([0.5 * math.log1p(count) for count in (19, 19, 2, 1)])


def test_a_described_item_without_events_has_the_prior_of_new_items_and_an_unknown_one_comes_last() -> None:
    prior = priors(model_of(6, [1, 5]))
    assert prior[5] == pytest.approx(NEW)
    assert prior[6] < -1000


def test_more_new_items_than_came_in_lately_share_what_these_would_have_got() -> None:
    assert priors(model_of(6, [5, 6]))[5] == pytest.approx(NEW)  # two came in with the newest tenth
    assert priors(model_of(14, list(range(5, 15))))[5] == pytest.approx(NEW - math.log(5))


def test_in_training_items_that_cannot_be_the_target_take_no_part() -> None:
    model = model_of(6, [1, 5]).train()
    assert isinstance(model, Compass)
    assert max(priors(model)[5:]) < -1000
    model.eval()
    assert priors(model)[5] == pytest.approx(NEW)


def test_data_without_new_items_give_them_no_prior_until_some_are_added() -> None:
    model = model_of(6, [1, 5], expects_new_items=False)
    assert priors(model)[5] < -1000
    model.append_items(1, torch.tensor([[7, 1, 1]]))
    assert [priors(model)[item] for item in (5, 7)] == pytest.approx([NEW] * 2)
