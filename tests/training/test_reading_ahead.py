"""Drawing steps ahead changes neither the steps nor their order."""

from __future__ import annotations

from dataclasses import replace

from mkmsr.training import TrainingConfig
from mkmsr.training.reading_ahead import read_ahead
from mkmsr.training.strategies import Plan, Step
from tests.training.tiny import tiny_training


def steps(number: int | None = None) -> list[Step]:
    config = TrainingConfig.model_validate({"batch_size": 8, "triple_batch_size": 8})
    return list(Plan("alternating", tiny_training(), config, seed=0).steps(1))[:number]


def same(one: Step, other: Step) -> bool:
    if (one.sessions is None) != (other.sessions is None):
        return False
    if one.sessions is not None and other.sessions is not None:
        return one.sessions.items.tolist() == other.sessions.items.tolist()
    assert one.triples is not None
    assert other.triples is not None
    return one.triples.items.tolist() == other.triples.items.tolist()


def test_the_steps_are_the_same_in_the_same_order() -> None:
    plain = steps()
    found = list(read_ahead(iter(steps())))
    assert len(found) == len(plain) > 16
    assert all(same(one, other) for one, other in zip(found, plain, strict=True))


def test_what_was_asked_of_a_batch_is_there_already_in_later_ones() -> None:
    batches = [each.sessions for each in steps(20) if each.sessions is not None]
    found = []
    for step in read_ahead(Step(sessions=replace(batch)) for batch in batches):
        assert step.sessions is not None
        found.append(step.sessions.derived)
        _ = step.sessions.graph
    assert found[0] == ()
    assert found[-1] == ("lengths", "rows", "graph")
    assert found == sorted(found, key=len)


def test_no_steps_are_no_steps() -> None:
    assert list(read_ahead(iter(()))) == []
