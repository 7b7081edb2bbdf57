"""What a run will need, before its first epoch: memory by counting, time by a few steps on a copy of the model."""

from __future__ import annotations

import copy
import time
from itertools import islice
from statistics import median

import numpy as np

from mkmsr.models.base import SessionModel, TrainingData
from mkmsr.runtime.compute import own_random_state
from mkmsr.runtime.events import TrainingEstimate
from mkmsr.runtime.process_group import ALONE, Processes
from mkmsr.training.config import TrainingConfig
from mkmsr.training.optimisation import build_optimiser, take_step
from mkmsr.training.strategies import Plan, effective_strategy

_WARM_UP, _TIMED_STEPS = 2, 20
_ENOUGH_SECONDS = 2.0
"""No further step is timed after so long."""


def estimate_training(
    model: SessionModel, training: TrainingData, config: TrainingConfig, processes: Processes = ALONE
) -> TrainingEstimate:
    """Count memory and time a few steps on a copy; weights and random state stay as they are.

    The model has observed the training data and stands on its device. Of several processes that share every step,
    memory and time are those of one, without what they exchange.
    """
    config = config.for_catalogue(model.sizes.num_items)
    plan = Plan(effective_strategy(config, model, training), training, config, seed=0)
    first = plan.knowledge_epochs + 1
    weights = sum(each.nbytes for each in model.parameters() if each.requires_grad)
    held = sum(each.nbytes for each in model.state_dict().values())
    columns = min(config.loss.catalogue_block or model.sizes.num_items + 1, model.sizes.num_items + 1)
    batch = -(-min(config.batch_size, len(training.examples)) // processes.size)
    per_step = _seconds_per_step(model, plan, config, first, processes)
    steps = {epoch: plan.num_steps(epoch) for epoch in (1, first)}
    of_sessions = -(-len(training.examples) // config.batch_size)
    of_triples = steps[first] - of_sessions
    seconds = of_sessions * per_step["sessions"] + of_triples * per_step["triples"]
    return TrainingEstimate(
        examples=len(training.examples),
        triples=len(training.knowledge) if plan.strategy != "sessions" else 0,
        steps=steps[first],
        epochs=plan.knowledge_epochs + config.epochs,
        seconds_per_epoch=seconds,
        total_seconds=config.epochs * seconds + plan.knowledge_epochs * steps[1] * per_step["triples"],
        mib=(2 * held + 3 * weights + 4 * batch * columns) / 2**20,
    )


def _seconds_per_step(
    model: SessionModel, plan: Plan, config: TrainingConfig, first: int, processes: Processes
) -> dict[str, float]:
    """Median wall time of a step with sessions and of one with triples alone (0 where the plan has none).

    A few real steps are taken, drawing their batches included. The median leaves out steps that something else delayed.
    """
    triples = plan.triple_steps(np.random.default_rng(0)) if plan.has_triple_steps else iter(())
    device = next(model.parameters()).device
    with own_random_state(0, device):
        trial = copy.deepcopy(model).train()
        optimiser = build_optimiser(trial, config.optimiser)
        medians = {}
        for name, steps in (("sessions", plan.steps(first)), ("triples", triples)):
            began, seconds = time.perf_counter(), []
            for step in islice(steps, _WARM_UP + _TIMED_STEPS):
                take_step(trial, optimiser, step.part(processes), config.loss, clip_norm=config.optimiser.clip_norm)
                float(next(trial.parameters()).detach().sum())  # Waits for the device.
                seconds.append(time.perf_counter() - began)
                if len(seconds) > _WARM_UP + 1 and sum(seconds) > _ENOUGH_SECONDS:
                    break
                began = time.perf_counter()
            medians[name] = median(seconds[_WARM_UP:] or seconds or [0.0])
    return medians
