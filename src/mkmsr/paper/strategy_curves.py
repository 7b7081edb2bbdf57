"""Figure 3 done again: learning curves of the training strategies, and what the paper concludes from them, tested.

Curves of the test split are drawn and labelled as such; epochs are chosen on validation alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TypeAlias

from mkmsr.evaluation.ranks import RankTable
from mkmsr.evaluation.significance import PairedDifference
from mkmsr.paper.system_table import METRICS, corrected_by_holm, paired, pooled, verdict
from mkmsr.reports.canvas import INKS, MissingMatplotlibError, canvas, render
from mkmsr.reports.tables import TextTable, difference_text, metric_title, p_value_text, percent
from mkmsr.reports.write_up import Drawing, Section, WriteUp
from mkmsr.runtime.events import EpochRecord

__all__ = ["STRATEGIES", "TEST_PREFIX", "StrategyRuns", "figure_3"]

STRATEGIES: Mapping[str, str] = {
    "alternating": "alternating",
    "joint": "joint",
    "pretrain": "pre-training",
}
"""The strategies by the name that settings use, and what the figure calls them."""

TEST_PREFIX = "test "
"""What the test split's metrics are called in a history, beside validation's."""

_INKS = {"alternating": ("accent", "-"), "joint": ("warm", "--"), "pretrain": ("muted", "-.")}


_CLAIMS = (
    ("alternating", "pretrain", "alternating training overtakes pre-training"),
    ("joint", "pretrain", "joint training overtakes pre-training"),
    ("alternating", "joint", "alternating training is better than joint training"),
)
"""First strategy, second strategy, and what the paper says of them."""

_SAMPLES = 10_000


@dataclass(frozen=True)
class StrategyRuns:
    """The runs of one strategy, one a seed.

    Args:
        strategy: A key of `STRATEGIES`.
        histories: Epochs of each run; the validation metrics hold the test's too, with `TEST_PREFIX`.
        best_epochs: The epoch that validation chose, of each run.
        ranks: Ranks of the test examples at that epoch, of each run.
    """

    strategy: str
    histories: tuple[tuple[EpochRecord, ...], ...]
    best_epochs: tuple[int, ...]
    ranks: tuple[RankTable, ...]

    @property
    def label(self) -> str:
        """What the figure calls it."""
        return STRATEGIES[self.strategy]

    def curves(self, metric: str) -> list[list[float]]:
        """The metric after each epoch over sessions, of each run; epochs over triples alone are left out."""
        return [
            [record.validation[metric] for record in history if record.phase == "sessions"]
            for history in self.histories
        ]


def figure_3(data: Mapping[str, Sequence[StrategyRuns]], *, command: str) -> WriteUp:
    """The whole write-up.

    Args:
        data: The strategies' runs by what tables call the data; each strategy with the same seeds.
        command: What writes it.
    """
    return WriteUp(
        name="figure3",
        title="Figure 3: three ways to learn knowledge beside sessions",
        lead=(
            "Pre-training learns from the triples first and from the sessions afterwards; joint training adds to every "
            "batch of sessions the triples of its items; alternating training visits all sessions, then every triple "
            "once, in each epoch. All else is equal. Fitted on the training sessions alone; the curve of the test "
            "split is only drawn: epochs are chosen on validation."
        ),
        sections=tuple(_section(title, runs) for title, runs in data.items()),
        command=command,
    )


def _section(title: str, runs: Sequence[StrategyRuns]) -> Section:
    tests = _tests(runs)
    return Section(
        title,
        _sentences(runs, tests),
        _drawings(title, runs),
        (_results(title, runs), _differences(title, tests)),
    )


def _drawings(title: str, runs: Sequence[StrategyRuns]) -> tuple[Drawing, ...]:
    name = "".join(letter for letter in title.lower() if letter.isalnum())
    drawings = []
    for metric in METRICS:
        try:
            svg = _draw(runs, metric)
        except MissingMatplotlibError:
            return ()
        kind = metric_title(metric)
        drawings.append(
            Drawing(
                f"figure3-{name}-{metric.partition('@')[0]}",
                svg,
                f"{kind} of three training strategies on {title} after each epoch, on validation and on test.",
                f"{kind} after each epoch over sessions: mean over seeds, with the range over seeds as a band. Dots: "
                "the epochs that validation chose. The test curve is only drawn, nothing is chosen on it.",
            )
        )
    return tuple(drawings)


def _draw(runs: Sequence[StrategyRuns], metric: str) -> bytes:
    from matplotlib.ticker import MaxNLocator

    with canvas(width=8.4, height=3.1, panels=2) as (figure, panels):
        for axes, prefix, name in zip(panels, ("", TEST_PREFIX), ("validation", "test (only drawn)"), strict=True):
            for each in runs:
                curves = each.curves(prefix + metric)
                epochs = range(1, min(len(curve) for curve in curves) + 1)
                columns = [[100 * curve[epoch - 1] for curve in curves] for epoch in epochs]
                ink, style = _INKS[each.strategy]
                means = [mean(column) for column in columns]
                axes.plot(epochs, means, style, color=INKS[ink], linewidth=1.8, label=each.label)
                low, high = [min(column) for column in columns], [max(column) for column in columns]
                axes.fill_between(epochs, low, high, color=INKS[ink], alpha=0.15, linewidth=0)
                for curve, chosen in zip(curves, _chosen(each), strict=True):
                    axes.plot([chosen], [100 * curve[chosen - 1]], "o", color=INKS[ink], markersize=4)
            axes.set_title(f"{metric_title(metric)}, {name}", loc="left", fontsize=10, fontweight="bold")
            axes.set_xlabel("epoch over sessions")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(axis="y", linewidth=0.6)
            axes.tick_params(length=0)
        panels[0].set_ylabel("per cent")
        panels[0].legend(frameon=False, fontsize=8, loc="lower right")
        return render(figure, "svg", f"figure3-{metric}")


def _chosen(runs: StrategyRuns) -> list[int]:
    """The chosen epochs, counted over sessions alone."""
    knowledge = [sum(record.phase == "knowledge" for record in history) for history in runs.histories]
    return [epoch - before for epoch, before in zip(runs.best_epochs, knowledge, strict=True)]


def _results(title: str, runs: Sequence[StrategyRuns]) -> TextTable:
    header = ["strategy", "chosen epochs"]
    for metric in METRICS:
        kind = metric_title(metric)
        header += [f"{kind} validation, epoch 1", "at the chosen epoch", f"{kind} test, at the chosen epoch"]
    rows = []
    for each in runs:
        cells = [each.label, ", ".join(str(epoch) for epoch in _chosen(each))]
        for metric in METRICS:
            curves = each.curves(metric)
            at_best = [curve[epoch - 1] for curve, epoch in zip(curves, _chosen(each), strict=True)]
            test = pooled(each.ranks).metrics((int(metric.partition("@")[2]),))[metric]
            cells += [percent(mean(curve[0] for curve in curves)), percent(mean(at_best)), percent(test)]
        rows.append(tuple(cells))
    return TextTable(f"{title}: strategies, per cent, mean over seeds", tuple(header), tuple(rows))


_Tests: TypeAlias = Mapping[tuple[str, str], Mapping[str, PairedDifference]]
"""First strategy against second on the test split at the chosen epochs, by metric."""


def _tests(runs: Sequence[StrategyRuns]) -> _Tests:
    tables = {each.strategy: pooled(each.ranks) for each in runs}
    found = [
        {metric: paired(tables[one], tables[other], metric, samples=_SAMPLES, seed=0) for metric in METRICS}
        for one, other, _ in _CLAIMS
    ]
    pairs = [(one, other) for one, other, _ in _CLAIMS]
    return dict(zip(pairs, corrected_by_holm(found), strict=True))


def _differences(title: str, tests: _Tests) -> TextTable:
    header = ["first against second"]
    for metric in METRICS:
        header += [f"{metric_title(metric)} difference", "p"]
    rows = tuple(
        (
            f"{STRATEGIES[first]} against {STRATEGIES[second]}",
            *(cell for each in found.values() for cell in (difference_text(each), p_value_text(each.p_value))),
        )
        for (first, second), found in tests.items()
    )
    note = (
        "Test split at the epochs that validation chose, percentage points [95 % interval over sessions]; p: paired "
        "bootstrap over sessions, corrected by Holm over this table."
    )
    return TextTable(f"{title}: strategies in pairs", tuple(header), rows, (note,))


def _sentences(runs: Sequence[StrategyRuns], tests: _Tests) -> tuple[str, ...]:
    """The paper's statements, each confirmed, refuted or undecided, with numbers."""
    return (_start(runs), *(_end(tests[one, other], text) for one, other, text in _CLAIMS))


def _start(runs: Sequence[StrategyRuns]) -> str:
    first = {each.strategy: [curve[0] for curve in each.curves("mrr@20")] for each in runs}
    others = [max(pair) for pair in zip(first["alternating"], first["joint"], strict=True)]
    ahead = sum(own > other for own, other in zip(first["pretrain"], others, strict=True))
    word = "Confirmed" if ahead == len(others) else "Refuted" if ahead == 0 else "Undecided"
    values = ", ".join(f"{STRATEGIES[name]} {percent(mean(values))}" for name, values in first.items())
    return (
        f"{word}: pre-training has the better start. Validation MRR@20 after the first epoch over sessions: {values} "
        f"per cent; pre-training is ahead of both in {ahead} of {len(others)} seeds. {_lead(runs)}"
    )


def _lead(runs: Sequence[StrategyRuns]) -> str:
    """After which epochs pre-training is ahead, so that nobody need read it off the figure."""
    courses = {each.strategy: [mean(column) for column in zip(*each.curves("mrr@20"), strict=True)] for each in runs}
    together = zip(courses["pretrain"], courses["alternating"], courses["joint"], strict=True)
    epochs = [str(epoch) for epoch, (own, *others) in enumerate(together, 1) if own > max(others)]
    where = f"epochs {', '.join(epochs)}" if epochs else "no epoch"
    return f"By the mean over seeds it is ahead of both after {where}."


def _end(found: Mapping[str, PairedDifference], text: str) -> str:
    parts = [
        f"{metric_title(metric)} {difference_text(each)} points (p {p_value_text(each.p_value)})"
        for metric, each in found.items()
    ]
    return f"{verdict(found['mrr@20']).capitalize()}: {text}. Test, at the chosen epochs: {', '.join(parts)}."
