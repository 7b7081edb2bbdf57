"""MKM-SR from prefix to score against the formulae, and what each of its six names stands for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mkmsr.config import read_toml, validate
from mkmsr.data.batching import SessionBatch, TripleBatch
from mkmsr.errors import ConfigError
from mkmsr.models.base import ModelSizes
from mkmsr.models.capabilities import has_knowledge_task
from mkmsr.models.mkm_sr import MKMSR, MKMSRConfig, transh_distance
from mkmsr.models.registry import model_entry
from mkmsr.runs.config import ExperimentConfig
from mkmsr.training.losses import knowledge_loss, session_loss
from tests import oracles

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
DIM = 6
SIZES = ModelSizes(num_items=9, num_operations=3, num_attributes=4, num_relations=2)
SEQUENCES = [
    ([3, 1, 3, 1, 2], [1, 1, 2, 1, 3]),
    ([2], [3]),
    ([4, 4, 4], [1, 2, 2]),
    ([9, 8, 9, 3], [1, 1, 2, 3]),
]
NAMES = ["mkm-sr", "km-sr", "m-sr", "m-gru-sr", "m-ggnn-sr", "m-ggnnx2-sr"]
SHARED_GROUPS = {"items", "readout", "log_scale"}
OWN_GROUPS = {
    "mkm-sr": {"item_ggnn", "operations", "operation_gru", "transh"},
    "km-sr": {"item_ggnn", "transh"},
    "m-sr": {"item_ggnn", "operations", "operation_gru"},
    "m-gru-sr": {"pairs", "pair_gru"},
    "m-ggnn-sr": {"pairs", "pair_ggnn"},
    "m-ggnnx2-sr": {"item_ggnn", "operations", "operation_ggnn"},
}
SLIDES = {"aggregation": "sum", "gate": "slides", "scorer": "mlp", "readout_start": "uniform"}
AUTHORS_CODE = {"aggregation": "concat", "gate": "gru", "scorer": "dot", "readout_start": "uniform"}


def build(name: str, sizes: ModelSizes = SIZES, **settings: Any) -> MKMSR:
    """A model in double precision, so that an oracle may be compared closely."""
    entry = model_entry(name)
    torch.manual_seed(1)
    model = entry.build(entry.configure({"dim": DIM, **settings}), sizes)
    assert isinstance(model, MKMSR)
    return model.double().eval()


def score(model: MKMSR, sequences: list[tuple[list[int], list[int]]]) -> np.ndarray:
    with torch.no_grad():
        return model.score(SessionBatch.from_sequences(sequences)).numpy()


def literal_micro_behaviours(model: MKMSR, items: list[int], operations: list[int]) -> np.ndarray:
    """m_t of every event of one session. Shape [L, D or 2 D]."""
    parts = []
    if model.config.item_encoder == "ggnn":
        parts.append(oracles.ggnn(model.item_ggnn, model.items.weight.detach().numpy(), items))
    if model.config.operation_encoder == "gru":
        parts.append(oracles.gru(model.operation_gru, model.operations.weight.detach().numpy(), operations))
    if model.config.operation_encoder == "ggnn":
        parts.append(oracles.ggnn(model.operation_ggnn, model.operations.weight.detach().numpy(), operations))
    pairs = [item * (SIZES.num_operations + 1) + operation for item, operation in zip(items, operations, strict=True)]
    if model.config.pair_encoder == "gru":
        parts.append(oracles.gru(model.pair_gru, model.pairs.weight.detach().numpy(), pairs))
    if model.config.pair_encoder == "ggnn":
        parts.append(oracles.ggnn(model.pair_ggnn, model.pairs.weight.detach().numpy(), pairs))
    return np.concatenate(parts, axis=1)


def literal_scores(model: MKMSR, items: list[int], operations: list[int]) -> np.ndarray:
    """The score of every item after one session, item by item. Shape [V]."""
    _, s = oracles.attention(model.readout, literal_micro_behaviours(model, items, operations))
    scores = [-np.inf]
    for j in range(1, SIZES.num_items + 1):
        i = model.items.weight[j].detach().numpy()
        if model.config.scorer == "dot":
            scores.append(s @ i)
        elif model.config.scorer == "cosine":
            scores.append(np.exp(model.log_scale.item()) * (s @ i) / np.sqrt((s @ s) * (i @ i)))
        else:
            weights = oracles.weights_of(model.pair_scorer)
            both = np.concatenate([weights["of_session.weight"], weights["of_item.weight"]], axis=1)
            hidden = np.maximum(both @ np.concatenate([s, i]) + weights["of_session.bias"], 0)
            scores.append(weights["weight"] @ hidden)
    return np.array(scores)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("settings", [SLIDES, AUTHORS_CODE, {}], ids=["slides", "authors-code", "default"])
@pytest.mark.parametrize("name", NAMES)
def test_the_score_of_every_item_is_what_the_formulae_give(name: str, settings: dict[str, str], steps: int) -> None:
    model = build(name, **settings, steps=steps)
    expected = [literal_scores(model, items, operations) for items, operations in SEQUENCES]
    np.testing.assert_allclose(score(model, SEQUENCES), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_owns_exactly_the_parts_that_it_stands_for(name: str) -> None:
    groups = {parameter.split(".")[0] for parameter, _ in build(name).named_parameters()}
    assert groups == SHARED_GROUPS | OWN_GROUPS[name]


@pytest.mark.parametrize(("scorer", "group"), [("cosine", {"log_scale"}), ("dot", set()), ("mlp", {"pair_scorer"})])
def test_a_scorer_owns_exactly_its_parameters(scorer: str, group: set[str]) -> None:
    model = build("m-sr", scorer=scorer)
    groups = {parameter.split(".")[0] for parameter, _ in model.named_parameters()}
    assert groups == {"items", "readout", *OWN_GROUPS["m-sr"], *group}
    assert model.is_factorised == (scorer != "mlp")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["item_encoder", "operation_encoder", "pair_encoder", "knowledge"])
def test_a_setting_that_contradicts_the_name_is_an_error(name: str, key: str) -> None:
    fixed = dict(model_entry(name).preset)[key]
    other = (not fixed) if key == "knowledge" else next(each for each in ("gru", "ggnn", "none") if each != fixed)
    with pytest.raises(ConfigError, match=f"this model is defined by {key}") as caught:
        model_entry(name).configure({key: other})
    assert caught.value.key == f"model.{key}"
    assert model_entry(name).configure({key: fixed}) == model_entry(name).configure()


@pytest.mark.parametrize(
    "settings",
    [
        {"item_encoder": "none"},
        {"pair_encoder": "gru"},
        {"item_encoder": "none", "pair_encoder": "gru", "operation_encoder": "gru"},
    ],
)
def test_encoders_that_do_not_go_together_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must be"):
        MKMSRConfig.model_validate(settings)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_talks_loss_is_the_sum_over_sessions_items_and_triples(steps: int) -> None:
    settings = read_toml(EXPERIMENTS / "talk" / "mkm-sr.toml")
    model = build("mkm-sr", **{key: value for key, value in settings["model"].items() if key != "name"}, steps=steps)
    targets, triples = [2, 7, 4, 3], [(2, 1, 4), (5, 2, 1), (2, 2, 3)]
    of_sessions = 0.0
    for (items, operations), target in zip(SEQUENCES, targets, strict=True):
        powers = np.exp(literal_scores(model, items, operations)[1:])
        for j, y_hat in enumerate(powers / powers.sum(), start=1):
            of_sessions -= np.log(y_hat) if j == target else np.log(1 - y_hat)
    of_triples = 0.0
    weights = {name: array.detach().numpy() for name, array in model.transh.named_parameters()}
    for item, relation, attribute in triples:
        i, a = model.items.weight[item].detach().numpy(), weights["attributes.weight"][attribute]
        w = weights["normals.weight"][relation] / np.linalg.norm(weights["normals.weight"][relation])
        of_triples += (((i - (w @ i) * w) + weights["translations.weight"][relation] - (a - (w @ a) * w)) ** 2).sum()

    batch = replace(SessionBatch.from_sequences(SEQUENCES), targets=torch.tensor(targets))
    loss = validate(ExperimentConfig, settings).training.loss
    assert len(targets) * session_loss(model, batch, loss.session).item() == pytest.approx(of_sessions, rel=1e-5)
    found = knowledge_loss(model, TripleBatch(*torch.tensor(triples).T), loss.knowledge)
    assert len(triples) * found.item() == pytest.approx(of_triples, rel=1e-5)


@pytest.mark.parametrize(("folder", "literal"), [("talk", SLIDES), ("authors", AUTHORS_CODE)])
def test_ablations_share_all_literal_settings_with_mkm_sr(folder: str, literal: dict[str, str]) -> None:
    whole = validate(ExperimentConfig, read_toml(EXPERIMENTS / folder / "mkm-sr.toml"))
    assert {key: whole.model[key] for key in literal} == literal
    for name in NAMES:
        ablation = validate(ExperimentConfig, read_toml(EXPERIMENTS / folder / f"{name}.toml"))
        preset = model_entry(name).preset
        expected = {**whole.model, **preset, "name": name}
        ignored = {"aggregation", "gate"} if "ggnn" not in preset.values() else set()
        assert {k: v for k, v in ablation.model.items() if k not in ignored} == {
            k: v for k, v in expected.items() if k not in ignored
        }
        shared = ("epochs", "patience", "batch_size", "optimiser", "select", "keep", "shuffle")
        for key in shared:
            assert getattr(ablation.training, key) == getattr(whole.training, key), (name, key)
        assert ablation.training.loss.session == whole.training.loss.session
        if preset["knowledge"]:
            assert ablation.training == whole.training


def test_an_unknown_model_is_named_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="no model 'mkmsr', did you mean 'mkm-sr'"):
        model_entry("mkmsr")


@pytest.mark.parametrize(("name", "blind"), [(name, name == "km-sr") for name in NAMES])
def test_operations_matter_to_all_but_km_sr(name: str, blind: bool) -> None:
    model = build(name)
    other = [(items, [1 + operation % 3 for operation in operations]) for items, operations in SEQUENCES]
    assert np.array_equal(score(model, SEQUENCES), score(model, other)) == blind


def test_an_item_has_one_vector_however_often_it_recurs_and_an_operation_several() -> None:
    model = build("mkm-sr")
    batch = SessionBatch.from_sequences([([5, 7, 5], [1, 1, 1])])
    items, operations = model.micro_behaviours(batch)
    assert torch.equal(items.table[items.alias[0]], items.table[items.alias[2]])
    vectors = operations.table[operations.alias]
    assert not torch.allclose(vectors[0], vectors[1])
    assert not torch.allclose(vectors[1], vectors[2])


def test_the_knowledge_task_moves_the_item_vectors_of_the_main_task() -> None:
    model = build("mkm-sr")
    triples = TripleBatch(torch.tensor([2, 5]), torch.tensor([1, 2]), torch.tensor([4, 1]))
    distances = model.triple_distances(triples)
    parts = model.items.weight[[2, 5]], model.transh.normals.weight[[1, 2]], model.transh.translations.weight[[1, 2]]
    torch.testing.assert_close(distances, transh_distance(*parts, model.transh.attributes.weight[[4, 1]]))
    distances.sum().backward()
    assert model.items.weight.grad is not None
    assert model.items.weight.grad.any(dim=1).nonzero().flatten().tolist() == [2, 5]


def test_a_log_without_knowledge_gives_a_model_without_the_task() -> None:
    model = build("mkm-sr", ModelSizes(num_items=9, num_operations=3))
    assert not has_knowledge_task(model)
    assert {each.split(".")[0] for each, _ in model.named_parameters()} == SHARED_GROUPS | OWN_GROUPS["m-sr"]


def test_cosine_scores_stay_within_the_scale() -> None:
    model = build("m-sr", scorer="cosine", scale=5.0)
    with torch.no_grad():
        model.items.weight *= torch.logspace(-3, 3, 10)[:, None]
    scores = score(model, SEQUENCES)[:, 1:]
    assert np.abs(scores).max() <= 5.0 + 1e-9
    assert np.linalg.norm(model.queries(SessionBatch.from_sequences(SEQUENCES)).detach(), axis=1) == pytest.approx(5.0)


def test_the_readout_starts_near_the_newest_item_or_like_the_rest() -> None:
    near = build("mkm-sr").readout.combine.weight.detach()
    like_the_rest = build("mkm-sr", readout_start="uniform").readout.combine.weight.detach()
    depends_on = torch.eye(DIM, near.shape[1], dtype=near.dtype)
    torch.testing.assert_close(near, like_the_rest / 3 + depends_on)
    assert like_the_rest.abs().max() <= DIM**-0.5


@pytest.mark.parametrize("name", ["m-gru-sr", "m-ggnn-sr"])
def test_pairs_without_an_item_or_an_operation_start_at_zero(name: str) -> None:
    pairs = build(name).pairs.weight.view(SIZES.num_items + 1, SIZES.num_operations + 1, DIM)
    assert not pairs[0].any()
    assert not pairs[:, 0].any()
    assert pairs[1:, 1:].all()


def test_dropout_is_for_training_alone() -> None:
    model = build("mkm-sr", dropout=0.5)
    assert np.array_equal(score(model, SEQUENCES), score(model, SEQUENCES))
    model.train()
    assert not np.array_equal(score(model, SEQUENCES), score(model, SEQUENCES))
