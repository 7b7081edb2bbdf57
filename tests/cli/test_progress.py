"""Progress, where standard error is no terminal: one line an epoch, one a job."""

from __future__ import annotations

import io
from collections.abc import Sequence

from mkmsr.cli.console import LineConsole
from mkmsr.cli.progress import progress_bars
from mkmsr.runtime.events import (
    BatchDone,
    EpochRecord,
    Event,
    JobEnded,
    JobProgress,
    JobsPlanned,
    JobStarted,
    PhaseStarted,
    RankingDone,
    TrainingEstimate,
)

EPOCH = EpochRecord(1, "sessions", 2.5, 0.5, {"mrr@20": 0.25, "mrr@5": 0.2}, seconds=1.5, examples_per_second=2000.0)


def drawn(events: Sequence[Event], *, announce: bool = True, terminal: bool = False) -> str:
    console = LineConsole(file=io.StringIO(), width=200, force_terminal=terminal)
    with progress_bars(console, announce=announce) as listener:
        for event in events:
            listener(event)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_run_says_what_it_will_need_and_a_line_for_each_phase_and_epoch() -> None:
    estimate = TrainingEstimate(3000, 40, 30, 2, 1.5, 3.0, 4.0)
    events = [PhaseStarted("fit"), estimate, BatchDone(30, 30, 2.5, 1, 2, 3000), EPOCH, PhaseStarted("network 2 of 3")]
    assert drawn([*events, PhaseStarted("test"), RankingDone(7, 7)]).splitlines() == [
        "fitting on train",
        "about 4 MiB for weights, gradients, optimiser and scores; 3,000 examples and 40 triples an epoch, about 1.5 s "
        "each; at most 3.0 s for 2 epochs, without validation",
        "epoch 1/2: loss 2.5000, knowledge 0.5000, mrr@20 25.00%, 2,000 examples/s, 1.5 s",
        "network 2 of 3",
        "ranking test",
    ]


def test_a_model_without_the_knowledge_task_is_not_said_to_learn_from_no_triples() -> None:
    estimate = TrainingEstimate(3000, 0, 30, 2, 1.5, 3.0, 4.0)
    assert "; 3,000 examples an epoch, about 1.5 s each;" in drawn([estimate])


def test_phases_of_a_small_matter_are_not_announced() -> None:
    assert drawn([PhaseStarted("fit"), PhaseStarted("test")], announce=False) == ""


def test_each_job_that_is_over_gets_a_line_with_its_result_or_why_it_failed() -> None:
    names = ["demo pop seed 0", "trial-000", "demo m-sr seed 0"]
    started: list[Event] = [JobStarted(name) for name in names]
    sent = [JobProgress(names[2], event) for event in (PhaseStarted("fit"), EPOCH, RankingDone(7, 7))]
    ended = [JobEnded(names[0], 2.0), JobEnded(names[1], 2.0, result="12.34 %"), JobEnded(names[2], 2.0, failure="no")]
    assert drawn([JobsPlanned("runs", 5, 2, 2), *started, *sent, *ended]).splitlines() == [
        "5 runs, 2 of them done already, 2 at a time",
        "[3/5] demo pop seed 0: done in 2.0 s",
        "[4/5] trial-000: 12.34 %",
        "[5/5] demo m-sr seed 0: FAILED: no",
    ]


def test_on_a_terminal_there_are_bars_beside_the_lines() -> None:
    run = [BatchDone(10, 30, 2.5, 1, 2, 1000), RankingDone(3, 7)]
    jobs = [JobsPlanned("runs", 2, 0, 1), JobStarted("demo pop seed 0"), JobProgress("demo pop seed 0", EPOCH)]
    found = drawn([*run, *jobs], terminal=True)
    assert "demo pop seed 0" in found
    assert "epoch 1/2" in found
