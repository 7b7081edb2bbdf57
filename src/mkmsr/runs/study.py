"""The memory of a hyper-parameter search: an Optuna study in a file that outlives a kill as if nothing had been."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mkmsr.errors import ConfigError
from mkmsr.models.entry import Choice, Range, SearchSpace, Value

if TYPE_CHECKING:
    import optuna

STUDY_FILE = "study.sqlite3"
STARTUP_TRIALS = 3
"""Trials that are never stopped early, and the fewest that are drawn at random before the search learns from them."""

_SEEDS_PER_STUDY = 100_000


@dataclass(frozen=True)
class TrialRecord:
    """One trial that is over: what was tried, and what it came to.

    Number 0 has the settings that the search begins with. "Pruned" ones were stopped early, below the median of the
    others. `value` is the selection metric on validation at the best epoch, 0..1, None for a failed trial; `best_epoch`
    is 0 for a model without weights, and `seconds` are of its epochs, without validation.
    """

    number: int
    state: Literal["complete", "pruned", "failed"]
    settings: Mapping[str, Value]
    value: float | None = None
    best_epoch: int = 0
    epochs: int = 0
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Proposal:
    """A trial to be carried out: its number and what to try."""

    number: int
    settings: Mapping[str, Value]
    trial: optuna.Trial

    def is_hopeless(self, epoch: int, value: float) -> bool:
        """Take note of an epoch's value; whether it is below the median of the other trials at that epoch."""
        self.trial.report(value, epoch)
        return bool(self.trial.should_prune())


class Study:
    """A study in `folder/study.sqlite3`, over a space, beginning with the defaults.

    It must agree on `depends_on`, plain data, when it is taken up again: another search raises ConfigError. No trial is
    stopped in the first `warmup` epochs.
    """

    def __init__(
        self,
        folder: Path,
        space: SearchSpace,
        *,
        defaults: Mapping[str, Value],
        depends_on: Mapping[str, Any],
        seed: int,
        warmup: int,
        parallel: bool,
    ):
        self._space, self._seed, self._parallel = space, seed, parallel
        self._study = _open(folder, depends_on, warmup)
        self._clean_up(defaults)

    def counted(self) -> int:
        """Return how many trials are over or running, without those that a kill cut short."""
        return len(self._numbers())

    def propose(self) -> Proposal:
        """Return the next trial.

        Each has a sampler with a seed of its own, so that a search that was killed proposes what it would have anyway.
        """
        from optuna.samplers import TPESampler

        taken = self._numbers()
        number = next(each for each in range(len(taken) + 1) if each not in taken)
        self._study.sampler = TPESampler(
            seed=self._seed * _SEEDS_PER_STUDY + number,
            n_startup_trials=max(STARTUP_TRIALS, len(self._space)),
            constant_liar=self._parallel,  # Running trials count as poor ones, so that others try something else.
        )
        trial = self._study.ask()
        trial.set_user_attr("number", number)
        return Proposal(number, {key: _suggest(trial, key, each) for key, each in self._space.items()}, trial)

    def finish(self, proposal: Proposal, record: TrialRecord) -> None:
        """Enter the end of a trial."""
        from optuna.trial import TrialState

        proposal.trial.set_user_attr("record", {**asdict(record), "settings": dict(record.settings)})
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        value = record.value if record.state == "complete" else None
        self._study.tell(proposal.trial, value, state=states[record.state])

    def records(self) -> tuple[TrialRecord, ...]:
        """Return the trials that are over, by number."""
        found = [each.user_attrs.get("record") for each in self._study.get_trials(deepcopy=False)]
        return tuple(sorted((TrialRecord(**each) for each in found if each), key=lambda record: record.number))

    def best(self) -> TrialRecord | None:
        """Return the complete trial with the highest value, the first of equals."""
        complete = [each for each in self.records() if each.state == "complete"]
        return max(complete, key=lambda each: each.value or 0.0, default=None)

    def _numbers(self) -> set[int]:
        """The numbers of trials that are over or running; those that a kill cut short are free again."""
        from optuna.trial import TrialState

        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        taken = {each.user_attrs["number"] for each in running if "number" in each.user_attrs}
        return taken | {record.number for record in self.records()}

    def _clean_up(self, defaults: Mapping[str, Value]) -> None:
        """Give trials that were running when an earlier process was killed another turn, the first one in any case."""
        from optuna.trial import TrialState

        cut_short = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        again = [each.params for each in cut_short if each.params.keys() == self._space.keys()]
        if all(record.number > 0 for record in self.records()):
            again.insert(0, dict(defaults))
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        queued = [each.system_attrs["fixed_params"] for each in waiting]
        for settings in again:  # Queued before the old turn is closed: a kill in between loses none.
            if settings not in queued:
                self._study.enqueue_trial(settings)
                queued.append(settings)
        for trial in cut_short:
            self._study.tell(trial.number, state=TrialState.FAIL)


_SHOWN_KEYS = {"base": "model or settings", "space": "search space"}
"""What messages call an entry of what a search depends on, where its name says too little."""


def _open(folder: Path, depends_on: Mapping[str, Any], warmup: int) -> optuna.Study:
    try:
        import optuna
    except ImportError:
        raise ConfigError("tuning needs Optuna; install it with: pip install 'mkmsr[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="mkmsr",
        storage=f"sqlite:///{folder / STUDY_FILE}",
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=warmup + 1),
        load_if_exists=True,
    )
    new = json.loads(json.dumps(depends_on))
    old = study.user_attrs.get("identity")  # The name in studies of older versions too.
    if old is None:
        study.set_user_attr("identity", new)
    elif old != new:
        different = ", ".join(_SHOWN_KEYS.get(key, key) for key in new if old.get(key) != new[key])
        raise ConfigError(f"holds a search that differs in {different}; choose another folder", path=folder)
    return study


def _suggest(trial: optuna.Trial, key: str, each: Choice | Range) -> Value:
    if isinstance(each, Range):
        return trial.suggest_float(key, each.low, each.high, log=True)
    value = trial.suggest_categorical(key, each.values)
    assert value is not None
    return value
