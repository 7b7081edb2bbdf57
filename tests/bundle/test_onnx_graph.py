"""Graphs score as the models do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_shop import batch_of, fitted, small_shop

from mkmsr.bundle.model_bundle import ModelBundle, new_bundle, save_bundle
from mkmsr.bundle.onnx_graph import export_onnx, graph_inputs, graph_of
from mkmsr.cli.app import run
from mkmsr.data.batching import SessionBatch, session_batches
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import read_log
from mkmsr.errors import ConfigError

CLOSE = 1e-4
IMPOSSIBLE = -1e3
"""Log probabilities below this are those of items that cannot come."""


def bundle_of(name: str, dataset: PreparedDataset, **settings: object) -> ModelBundle:
    """A bundle whose gates and tables have weights other than their first ones, which are mostly zeros."""
    torch.manual_seed(0)
    config, model = fitted(name, dataset, **settings)
    with torch.no_grad():
        for part, weight in model.named_parameters():
            if part.startswith(("gates", "copying", "wanted")) or "by_attribute" in part:
                weight.add_(0.5 * torch.randn_like(weight))
    return new_bundle(model, name=name, config=config, dataset=dataset)


def asked(bundle: ModelBundle, batch: SessionBatch) -> SessionBatch:
    """The batch; where that can be, with an operation asked for in some rows."""
    if "wanted" not in graph_inputs(bundle, batch):
        return batch
    return replace(batch, wanted=torch.arange(len(batch)) % (len(bundle.operations) + 1))


def check_scores(found: torch.Tensor, wanted: torch.Tensor) -> None:
    possible = wanted > IMPOSSIBLE
    assert torch.allclose(found[possible], wanted[possible], rtol=0, atol=CLOSE)
    assert bool((found[~possible] <= IMPOSSIBLE).all())


MODELS = [
    ("mkm-sr", {}),
    ("km-sr", {"scorer": "dot", "steps": 2}),
    ("compass", {}),
    ("compass", {"target_operation": True}),
    ("compass", {"neighbours": False, "attributes": False}),
    ("compass", {"copy_past": False, "operations": False}),
]


@pytest.mark.parametrize(("name", "settings"), MODELS)
def test_a_graph_of_plain_operations_scores_as_the_model(name: str, settings: dict[str, object]) -> None:
    dataset = small_shop()
    bundle = bundle_of(name, dataset, dim=8, **settings)
    batch = asked(bundle, batch_of(dataset))
    with torch.inference_mode():
        check_scores(graph_of(bundle)(**graph_inputs(bundle, batch)), bundle.model.scorer()(batch))


def test_a_model_without_a_graph_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"format: 'narm' as trained has no graph; mkm-sr, m-sr, km-sr and compass"):
        graph_of(bundle_of("narm", small_shop()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mkm-sr", "compass"])
def test_onnx_runtime_scores_all_test_prefixes_of_demo_as_the_model(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    dataset = prepare(read_log("jdata-demo", shared_data / "jdata_demo"), PrepareOptions(new_items="drop"))
    bundle = bundle_of(name, dataset)
    export_onnx(bundle, tmp_path / "graph.onnx")
    graph = runtime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
    score = bundle.model.scorer()
    for batch in session_batches(dataset.evaluation_split("test").examples, 64):
        inputs = {key: each.numpy() for key, each in graph_inputs(bundle, batch).items()}
        with torch.inference_mode():
            check_scores(torch.from_numpy(graph.run(None, inputs)[0]), score(batch))


@pytest.mark.slow
def test_the_program_writes_a_graph_that_takes_any_number_of_sessions(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    dataset = small_shop()
    bundle = bundle_of("compass", dataset, dim=8)
    save_bundle(tmp_path / "bundle", bundle)
    assert run(["export", str(tmp_path / "bundle"), "--out", str(tmp_path / "graph.onnx")]) == 0
    graph = runtime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
    assert graph.get_modelmeta().custom_metadata_map["session_events"] == str(dataset.max_session_events - 1)
    for sessions in (1, 3):
        batch = SessionBatch.from_sequences([([1, 2], [1, 1])] * sessions)
        inputs = {key: each.numpy() for key, each in graph_inputs(bundle, batch).items()}
        assert np.isfinite(graph.run(None, inputs)[0][:, 1:]).any(axis=1).tolist() == [True] * sessions
