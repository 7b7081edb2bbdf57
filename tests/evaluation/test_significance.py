"""Bootstrap over sessions, paired differences and Holm's correction."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkmsr.errors import EvaluationError
from mkmsr.evaluation.ranks import RankTable
from mkmsr.evaluation.significance import (
    bootstrap_intervals,
    holm,
    paired_differences,
    pooled,
    pooled_difference,
)
from tests.reports.conftest import ranks_for


def ranks_by_session(sessions: np.ndarray, ranks: np.ndarray) -> RankTable:
    count = len(ranks)
    no = np.zeros(count, dtype=np.bool_)
    one = np.ones(count, dtype=np.int32)
    return RankTable(ranks.astype(np.int32), one, sessions.astype(np.int32), one, no, no)


def simulated(sessions: int, generator: np.random.Generator, *, shared: bool, rate: float = 0.3) -> RankTable:
    """Sessions of 1 to 9 examples; with `shared` the whole session is hit or missed together."""
    row = np.repeat(np.arange(sessions), generator.integers(1, 10, sessions))
    drawn = generator.random(sessions)[row] if shared else generator.random(len(row))
    return ranks_by_session(row, np.where(drawn < rate, 1, 50))


def bootstrap_oracle(table: RankTable, samples: int, seed: int) -> tuple[float, float]:
    """Interval of Hit@20 from resampled lists of sessions, one session at a time."""
    generator = np.random.default_rng(seed)
    groups = [table.rank[table.session == session] for session in np.unique(table.session)]
    means = []
    for _ in range(samples):
        drawn = [groups[index] for index in generator.integers(0, len(groups), len(groups))]
        hits = [rank <= 20 for group in drawn for rank in group]
        means.append(sum(hits) / len(hits))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def test_intervals_equal_resampling_lists_of_sessions_literally() -> None:
    table = simulated(40, np.random.default_rng(1), shared=True)
    assert bootstrap_intervals(table, samples=300, seed=5)["hit@20"] == pytest.approx(bootstrap_oracle(table, 300, 5))


def test_an_interval_holds_its_own_mean_and_has_every_metric_asked_for() -> None:
    table = simulated(300, np.random.default_rng(2), shared=False)
    intervals, metrics = bootstrap_intervals(table, (1, 7)), table.metrics((1, 7))
    assert list(intervals) == list(metrics)
    assert all(low < metrics[name] < high for name, (low, high) in intervals.items())


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    table = simulated(200, np.random.default_rng(3), shared=True)
    assert bootstrap_intervals(table, seed=1) == bootstrap_intervals(table, seed=1)
    assert bootstrap_intervals(table, seed=1) != bootstrap_intervals(table, seed=2)


def test_sessions_that_are_hit_or_missed_together_widen_the_interval() -> None:
    def width(shared: bool) -> float:
        low, high = bootstrap_intervals(simulated(2000, np.random.default_rng(4), shared=shared))["hit@20"]
        return high - low

    # 5 examples a session on average, 6.3 in the average example's session: the width grows by about its root, 2.5.
    assert width(True) > 2 * width(False)


def test_about_95_of_100_intervals_hold_the_true_value() -> None:
    generator = np.random.default_rng(5)
    held = 0
    for _ in range(300):
        low, high = bootstrap_intervals(simulated(150, generator, shared=True), (20,), samples=300)["hit@20"]
        held += low <= 0.3 <= high
    assert 0.90 <= held / 300 <= 0.99


def test_one_session_has_an_interval_without_width() -> None:
    assert bootstrap_intervals(ranks_by_session(np.zeros(4), np.array([1, 2, 30, 40])))["hit@5"] == (0.5, 0.5)


def test_no_examples_have_no_interval() -> None:
    with pytest.raises(EvaluationError, match="no examples to resample"):
        bootstrap_intervals(ranks_by_session(np.zeros(0), np.zeros(0)))


def test_a_run_does_not_differ_from_itself() -> None:
    table = simulated(100, np.random.default_rng(6), shared=True)
    for each in paired_differences(table, table, samples=200).values():
        assert (each.difference, each.low, each.high, each.p_value) == (0, 0, 0, 1)


def test_a_small_but_steady_gain_is_found_in_pairs_though_the_intervals_overlap() -> None:
    generator = np.random.default_rng(7)
    first = simulated(1500, generator, shared=True)
    worse = np.where((first.rank == 1) & (generator.random(len(first)) < 0.05), 50, first.rank)
    second = ranks_by_session(first.session, worse)
    found = paired_differences(first, second, samples=2000)["hit@20"]
    assert found.difference == pytest.approx(first.metrics()["hit@20"] - second.metrics()["hit@20"])
    assert 0 < found.low < found.difference < found.high
    assert found.p_value < 0.01
    assert bootstrap_intervals(second)["hit@20"][1] > bootstrap_intervals(first)["hit@20"][0]


def test_a_true_difference_of_the_stated_resolution_is_found_four_times_in_five() -> None:
    generator, sessions, found = np.random.default_rng(3), np.arange(600), []
    for _ in range(100):
        first, second = generator.random((2, 600)) < np.array([[0.58], [0.5]])
        tables = (ranks_by_session(sessions, np.where(hits, 1, 99)) for hits in (first, second))
        found.append(paired_differences(*tables, (1,), samples=200)["hit@1"])
    assert np.mean([each.resolution for each in found]) == pytest.approx(0.08, abs=0.002)
    assert np.mean([each.low > 0 for each in found]) == pytest.approx(0.8, abs=0.08)


def test_swapping_the_runs_turns_the_sign_and_keeps_the_p_value() -> None:
    generator = np.random.default_rng(8)
    first = simulated(200, generator, shared=True)
    second = ranks_by_session(first.session, generator.permutation(first.rank))
    there, back = paired_differences(first, second)["mrr@20"], paired_differences(second, first)["mrr@20"]
    assert (there.difference, there.low, there.high) == pytest.approx((-back.difference, -back.high, -back.low))
    assert there.p_value == pytest.approx(back.p_value)


def test_two_runs_of_equal_quality_are_seldom_told_apart() -> None:
    generator = np.random.default_rng(9)
    false_alarms = 0
    for _ in range(200):
        first = simulated(150, generator, shared=False)
        hits = np.where(generator.random(len(first)) < 0.3, 1, 50)
        second = ranks_by_session(first.session, hits)
        false_alarms += paired_differences(first, second, (20,), samples=300)["hit@20"].p_value < 0.05
    assert false_alarms / 200 < 0.11


def test_runs_over_other_examples_cannot_be_compared() -> None:
    first = simulated(20, np.random.default_rng(10), shared=True)
    with pytest.raises(EvaluationError, match="different examples"):
        paired_differences(first, first.rows(np.arange(len(first) - 1)))


def test_holm_multiplies_the_smallest_by_the_number_of_tests_and_keeps_the_order() -> None:
    # Worked by hand: sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, then never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_value_and_never_reorders_them(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))
    assert min(adjusted) == pytest.approx(min(1.0, min(p_values) * len(p_values)))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_pooling_one_seed_with_itself_changes_neither_intervals_nor_tests() -> None:
    one, other = ranks_for("a", 0.5), ranks_for("b", 0.6)
    tripled = bootstrap_intervals(pooled([one] * 3), (20,))
    assert tripled["mrr@20"] == pytest.approx(bootstrap_intervals(one, (20,))["mrr@20"])
    found = pooled_difference(pooled([one] * 3), other, "mrr@20", samples=400, seed=1)
    expected = paired_differences(one, other, (20,), samples=400, seed=1)["mrr@20"]
    assert astuple(found)[1:] == pytest.approx(astuple(expected)[1:])


def test_pooled_runs_must_rank_the_same_examples() -> None:
    one = ranks_for("a", 0.5)
    with pytest.raises(EvaluationError, match="different examples"):
        pooled([one, replace(one, target=one.target[::-1].copy())])
