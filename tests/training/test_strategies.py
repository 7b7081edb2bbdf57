"""The order of steps of each strategy, and false triples."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from mkmsr.data.batching import TripleBatch
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.models.base import ModelSizes, Negatives, SessionModel, TrainingData
from mkmsr.runtime.process_group import Processes
from mkmsr.training.config import TrainingConfig
from mkmsr.training.strategies import Plan, Step, TripleCorruptor, effective_strategy
from tests.training.tiny import TinyModel, tiny_training


def plan(strategy: str, seed: int = 3, **settings: object) -> tuple[Plan, TrainingData]:
    values = {"strategy": strategy, "batch_size": 7, "triple_batch_size": 10, "pretrain_epochs": 2, **settings}
    config = TrainingConfig.model_validate(values)
    training = tiny_training()
    return Plan(config.strategy, training, config, seed), training


def shape(step: Step) -> str:
    return ("s" if step.sessions is not None else "") + ("t" if step.triples is not None else "")


def triples_of(steps: list[Step]) -> Counter[tuple[int, ...]]:
    rows = [
        zip(each.triples.items.tolist(), each.triples.relations.tolist(), each.triples.attributes.tolist(), strict=True)
        for each in steps
        if each.triples is not None
    ]
    return Counter(tuple(triple) for part in rows for triple in part)


def true_triples(knowledge: KnowledgeGraph) -> Counter[tuple[int, ...]]:
    shifted = knowledge.triples - np.array([0, 0, knowledge.num_items])
    return Counter(tuple(each) for each in shifted.tolist())


@pytest.mark.parametrize("strategy", ["alternating", "triples-first", "joint", "pretrain", "sessions"])
def test_every_epoch_over_sessions_visits_each_example_once(strategy: str) -> None:
    made, training = plan(strategy)
    steps = list(made.steps(made.knowledge_epochs + 1))
    seen = Counter(
        (int(session), int(length), int(target))
        for step in steps
        if step.sessions is not None
        for session, length, target in zip(
            step.sessions.sessions, step.sessions.lengths, step.sessions.targets, strict=True
        )
    )
    examples = training.examples
    expected = zip(examples.session.tolist(), examples.lengths.tolist(), examples.targets.tolist(), strict=True)
    assert seen == Counter(expected)
    assert len(steps) == made.num_steps(made.knowledge_epochs + 1)


def test_alternating_takes_all_sessions_and_then_every_triple_once() -> None:
    made, training = plan("alternating")
    steps = list(made.steps(1))
    order = "".join(shape(step) for step in steps)
    assert order.lstrip("s").strip("t") == ""
    assert order.startswith("s")
    assert triples_of(steps) == true_triples(training.knowledge)


def test_triples_first_is_alternating_the_other_way_round() -> None:
    made, training = plan("triples-first")
    steps = list(made.steps(1))
    order = "".join(shape(step) for step in steps)
    assert order.lstrip("t").strip("s") == ""
    assert order.startswith("t")
    assert triples_of(steps) == true_triples(training.knowledge)


def test_pretrain_begins_with_epochs_of_triples_alone() -> None:
    made, training = plan("pretrain")
    assert [made.phase(epoch) for epoch in (1, 2, 3, 4)] == ["knowledge", "knowledge", "sessions", "sessions"]
    first = list(made.steps(1))
    assert {shape(step) for step in first} == {"t"}
    assert len(first) == made.num_steps(1)
    assert triples_of(first) == true_triples(training.knowledge)
    assert {shape(step) for step in made.steps(3)} == {"s"}


def test_joint_adds_the_triples_of_each_batchs_own_items() -> None:
    made, training = plan("joint")
    for step in made.steps(1):
        assert step.sessions is not None
        assert step.triples is not None
        items = set(step.sessions.items.tolist()) | set(step.sessions.targets.tolist())
        expected = {triple for triple in true_triples(training.knowledge) if triple[0] in items}
        assert triples_of([step]) == Counter(expected)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def targets(seed: int, epoch: int) -> list[int]:
        steps = plan("alternating", seed)[0].steps(epoch)
        return [int(each) for step in steps if step.sessions is not None for each in step.sessions.targets]

    assert targets(1, 2) == targets(1, 2)
    assert targets(1, 2) != targets(1, 3)
    assert targets(1, 2) != targets(2, 2)


def test_without_a_knowledge_task_every_strategy_is_sessions() -> None:
    training = tiny_training()
    without_task = SessionModel(ModelSizes(20, 2))
    assert effective_strategy(TrainingConfig(), without_task, training) == "sessions"


def test_without_triples_or_weight_on_them_every_strategy_is_sessions() -> None:
    training, model = tiny_training(), TinyModel()
    one = replace(training.knowledge, triples=training.knowledge.triples[:1])
    weightless = TrainingConfig.model_validate({"loss": {"knowledge_weight": 0}})
    assert effective_strategy(TrainingConfig(), model, replace(training, knowledge=one)) == "alternating"
    none = replace(training.knowledge, triples=training.knowledge.triples[:0])
    assert effective_strategy(TrainingConfig(), model, replace(training, knowledge=none)) == "sessions"
    assert effective_strategy(weightless, model, training) == "sessions"


@pytest.mark.parametrize(
    ("strategy", "alone"),
    [("alternating", True), ("triples-first", True), ("pretrain", True), ("joint", False), ("sessions", False)],
)
def test_some_strategies_have_steps_of_triples_alone(strategy: str, alone: bool) -> None:
    made, _ = plan(strategy)
    epochs = range(1, made.knowledge_epochs + 2)
    assert made.has_triple_steps is alone is ("t" in {shape(step) for epoch in epochs for step in made.steps(epoch)})


def test_triples_come_in_batches_and_in_another_order_each_epoch() -> None:
    made, _ = plan("pretrain")
    orders = [[step.triples.items.tolist() for step in made.steps(epoch) if step.triples] for epoch in (1, 2)]
    assert [len(each) for each in orders[0]] == [10, 10, 10, 10]
    assert orders[0] != orders[1]


def test_only_the_margin_loss_gets_false_triples() -> None:
    margin, training = plan("joint", loss={"knowledge": "margin"})
    corruptor = TripleCorruptor(training.knowledge)
    for step in margin.steps(1):
        assert step.corrupted is not None
        false = [each.numpy() for each in (step.corrupted.items, step.corrupted.relations, step.corrupted.attributes)]
        assert len(step.corrupted) == len(step.triples)
        assert not corruptor.are_true(*false).any()
    assert all(step.corrupted is None for step in plan("joint")[0].steps(1))
    assert all(step.corrupted is None for step in plan("sessions", loss={"knowledge": "margin"})[0].steps(1))


def test_only_sampled_losses_get_negatives_with_the_targets_among_them() -> None:
    sampled, _ = plan("alternating", loss={"session": "bpr", "negatives": {"number": 5}})
    for step in sampled.steps(1):
        assert (step.negatives is None) == (step.sessions is None)
        if step.sessions is not None:
            assert step.negatives.items[:-5].tolist() == step.sessions.targets.tolist()
    assert all(step.negatives is None for step in plan("alternating")[0].steps(1))


def test_processes_divide_a_step_and_share_its_negatives() -> None:
    sessions = next(plan("sessions")[0].steps(1)).sessions
    triples = TripleBatch(*(torch.tensor([each]) for each in (1, 2, 3)))
    step = Step(sessions, triples, None, Negatives(torch.tensor([1]), torch.tensor([0.0])))
    first, second = (step.part(Processes(rank, 2)) for rank in (0, 1))
    assert first.sessions.targets.tolist() + second.sessions.targets.tolist() == sessions.targets.tolist()
    assert len(first.sessions) == 3
    assert first.triples is None
    assert second.triples.items.tolist() == [1]
    assert first.corrupted is second.corrupted is None
    assert first.negatives is second.negatives is step.negatives
    assert replace(step, corrupted=triples).part(Processes(1, 2)).corrupted.attributes.tolist() == [3]
    assert step.part(Processes()) is step


def test_false_triples_are_false_and_change_one_end_only() -> None:
    knowledge = tiny_training().knowledge
    corruptor = TripleCorruptor(knowledge)
    rows = knowledge.triples
    triples = TripleBatch(*(torch.from_numpy(each.copy()) for each in (rows[:, 0], rows[:, 1], rows[:, 2] - 20)))
    false = corruptor.corrupt(triples, np.random.default_rng(0))
    same_item, same_attribute = false.items == triples.items, false.attributes == triples.attributes
    assert (same_item ^ same_attribute).all()
    assert same_item.any()
    assert same_attribute.any()
    assert not corruptor.are_true(false.items.numpy(), false.relations.numpy(), false.attributes.numpy()).any()
    assert corruptor.are_true(triples.items.numpy(), triples.relations.numpy(), triples.attributes.numpy()).all()
    relation_of = dict(zip(triples.attributes.tolist(), triples.relations.tolist(), strict=True))
    assert [relation_of[each] for each in false.attributes.tolist()] == triples.relations.tolist()


def test_half_of_the_false_triples_have_another_attribute_and_half_another_item() -> None:
    knowledge, count = tiny_training().knowledge, 20_000
    triples = TripleBatch(*(torch.full((count,), each) for each in (1, 1, 2)))  # item 1 has the second of five colours
    false = TripleCorruptor(knowledge).corrupt(triples, np.random.default_rng(0))
    items, attributes = np.bincount(false.items, minlength=21) / count, np.bincount(false.attributes) / count
    # One of four other colours, or one of sixteen items of another colour (1, 6, 11 and 16 have this one).
    expected = np.where(np.arange(21) % 5 == 1, 0, 0.5 / 16)
    expected[[0, 1]] = 0, 0.5
    np.testing.assert_allclose(items, expected, atol=0.01)
    np.testing.assert_allclose(attributes, [0, 0.125, 0.5, 0.125, 0.125, 0.125], atol=0.01)


def test_attributes_that_two_relations_share_are_true_of_each_by_itself() -> None:
    names = Vocabulary(["likes", "shuns"], kind="relation"), Vocabulary(["red", "blue"], kind="attribute")
    knowledge = KnowledgeGraph(np.array([[1, 1, 3], [1, 2, 4], [2, 2, 3]]), *names, num_items=2)
    every = np.array([(item, relation, colour) for item in (1, 2) for relation in (1, 2) for colour in (1, 2)])
    assert TripleCorruptor(knowledge).are_true(*every.T).tolist() == [
        True,
        False,
        False,
        True,
        False,
        False,
        True,
        False,
    ]


def test_a_triple_that_cannot_be_made_false_stays_as_it_is() -> None:
    names = Vocabulary(["colour"], kind="relation"), Vocabulary(["colour=red"], kind="attribute")
    everything = KnowledgeGraph(np.array([[1, 1, 3], [2, 1, 3]]), *names, num_items=2)
    triples = TripleBatch(torch.tensor([1, 2]), torch.tensor([1, 1]), torch.tensor([1, 1]))
    false = TripleCorruptor(everything).corrupt(triples, np.random.default_rng(0))
    assert false.items.tolist() == [1, 2]
    assert false.attributes.tolist() == [1, 1]
