"""Models as ONNX graphs, for runtimes without Python: padded sessions go in, scores of the whole catalogue come out.

A graph has no ragged arrays. Its sessions stand in rectangles padded with 0 at the end, and events of the same item are
found by comparing all pairs; the weights are the model's own. COMPASS's neighbours are not in the graph: their votes
are an input, as an index gives them.
Dimension letters: B sessions, L events, D embedding size, V catalogue + 1, A attributes + 1, K attributes of an item.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mkmsr.bundle.model_bundle import ModelBundle
from mkmsr.data.batching import SessionBatch
from mkmsr.errors import ConfigError
from mkmsr.layers.attention import SoftAttention
from mkmsr.layers.fast.tree_gru import TreeGRU
from mkmsr.layers.ggnn import GGNN
from mkmsr.models.compass.model import Compass
from mkmsr.models.mkm_sr import MKMSR
from mkmsr.runtime.files import atomic_file

_OPSET = 20


def export_onnx(bundle: ModelBundle, out: Path) -> None:
    """Write a bundle's model as an ONNX file whose first dimension, sessions, is free; ConfigError without one.

    Inputs are those of `graph_inputs`, by name. Item i of the scores is row i of the bundle's `items.parquet`, from 1;
    the length of sessions and the bundle's SHA-256 stand in the file's metadata.
    """
    graph = graph_of(bundle)
    try:
        import onnx
        import onnxscript  # noqa: F401 - what PyTorch writes graphs with
    except ImportError as error:
        raise ConfigError(f"needs {error.name}: pip install 'mkmsr[onnx]'", key="format") from None
    length = bundle.max_session_events - 1
    example = SessionBatch.from_sequences([([1] * length, [1] * length), ([1], [1])])
    inputs = graph_inputs(bundle, example)
    sessions = torch.export.Dim("sessions", min=1)
    program = torch.onnx.export(
        graph,
        (),
        kwargs=inputs,
        input_names=list(inputs),
        output_names=["scores"],
        dynamic_shapes={name: {0: sessions} for name in inputs},
        opset_version=_OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(
        model, {"session_events": str(length), "bundle_sha256": str(bundle.metadata.get("sha256", ""))}
    )
    with atomic_file(out) as part:
        part.write_bytes(model.SerializeToString())


def graph_inputs(bundle: ModelBundle, batch: SessionBatch) -> dict[str, Tensor]:
    """Return what a bundle's graph takes for a batch.

    `items` and `operations`, int64 [B, L], 0 behind the last event. COMPASS with neighbours: `votes`, the sum of
    neighbours' votes for each item, and `shared`, how many items their sessions share with this one, summed alike; both
    float [B, V]. COMPASS with a target operation: `wanted`, int64 [B], 0 for any.
    """
    model, length = bundle.model, bundle.max_session_events - 1
    inputs = {}
    for name in ("items", "operations"):
        padded = batch.padded(getattr(batch, name))
        inputs[name] = F.pad(padded, (0, length - padded.shape[1]))
    if isinstance(model, Compass) and model.config.neighbours:
        found = model.similar.index.vote(batch, model.similar.settings)
        for name, votes in zip(("votes", "shared"), found, strict=True):
            dense_BV = torch.zeros(len(batch), len(bundle.items) + 1)
            inputs[name] = dense_BV.index_put((votes.rows, votes.items), votes.weights.float(), accumulate=True)
    if isinstance(model, Compass) and model.config.target_operation:
        wanted = batch.wanted
        inputs["wanted"] = torch.zeros(len(batch), dtype=torch.int64) if wanted is None else wanted
    return inputs


def graph_of(bundle: ModelBundle) -> nn.Module:
    """Return a module of plain operations that scores as the model does in evaluation; ConfigError without one."""
    model = bundle.model
    with torch.inference_mode(False), torch.no_grad():
        if isinstance(model, Compass) and not model.config.earlier_visits:
            return _CompassGraph(model).eval()
        if isinstance(model, MKMSR):
            config = model.config
            if config.item_encoder == "ggnn" and config.operation_encoder != "ggnn" and config.scorer != "mlp":
                return _NetworkGraph(model).eval()
    raise ConfigError(
        f"{bundle.name!r} as trained has no graph; mkm-sr, m-sr, km-sr and compass (without earlier_visits) have one",
        key="format",
    )


class _Sessions:
    """Padded sessions and what is read off them."""

    def __init__(self, items: Tensor, operations: Tensor):
        self.items, self.operations, self.mask = items, operations, items > 0
        self.lengths = self.mask.sum(1)
        self.is_last = (torch.arange(items.shape[1]) == self.lengths[:, None] - 1).float()
        self.same = ((items[:, :, None] == items[:, None, :]) & self.mask[:, None, :]).float()
        self.last_item = (items * self.is_last.long()).sum(1)
        self.last_operation = (operations * self.is_last.long()).sum(1)


class _Encoder(nn.Module):
    """The network of MKM-SR and COMPASS: a graph network over items, a GRU over operations, soft attention."""

    def __init__(self, ggnn: GGNN, readout: SoftAttention, operations: nn.Embedding | None, gru: TreeGRU | None):
        super().__init__()
        if ggnn.aggregation != "concat" or ggnn.gate != "gru":
            raise ConfigError("a graph needs aggregation 'concat' and gate 'gru'", key="format")
        self.ggnn, self.readout, self.operations, self.gru = ggnn, readout, operations, gru

    def forward(self, vectors_BLD: Tensor, sessions: _Sessions) -> Tensor:
        parts = [self._over_items(vectors_BLD, sessions)]
        if self.operations is not None and self.gru is not None:
            parts.append(self._over_operations(self.gru, self.operations(sessions.operations)))
        events = torch.cat(parts, dim=2)
        last = (events * sessions.is_last[:, :, None]).sum(1)
        readout = self.readout
        hidden = torch.sigmoid(readout.of_last(last)[:, None] + readout.of_each(events))
        alpha_BL = (hidden @ readout.weight) * sessions.mask
        session: Tensor = readout.combine(torch.cat([last, (alpha_BL[:, :, None] * events).sum(1)], dim=1))
        return session

    def _over_items(self, states: Tensor, sessions: _Sessions) -> Tensor:
        """States of the graph network, every event with the one of its item; a transition goes to the next event."""
        ggnn, dim = self.ggnn, self.ggnn.dim
        goes = sessions.mask[:, 1:].float()[:, None]
        arrives, leaves = sessions.same[:, :, 1:] * goes, sessions.same[:, :, :-1] * goes
        incoming = arrives / arrives.sum(2, keepdim=True).clamp(min=1)
        outgoing = leaves / leaves.sum(2, keepdim=True).clamp(min=1)
        weight = ggnn.from_message.weight
        for _ in range(ggnn.steps):
            along = F.linear(ggnn.message_in(states), weight[:, :dim])
            against = F.linear(ggnn.message_out(states), weight[:, dim:])
            gates = F.linear(ggnn.message_bias, weight, ggnn.from_message.bias)
            gates = gates + incoming @ along[:, :-1] + outgoing @ against[:, 1:]
            states = _gru_step(gates, ggnn.from_state(states), states)
        return states

    def _over_operations(self, gru: TreeGRU, inputs_BLD: Tensor) -> Tensor:
        gates, states = gru.from_input(inputs_BLD), []
        state = torch.zeros_like(gates[:, 0, : gru.dim])
        for place in range(inputs_BLD.shape[1]):
            state = _gru_step(gates[:, place], gru.from_state(state), state)
            states.append(state)
        return torch.stack(states, dim=1)


def _gru_step(given: Tensor, from_state: Tensor, state: Tensor) -> Tensor:
    reset_a, update_a, new_a = given.chunk(3, dim=-1)
    reset_h, update_h, new_h = from_state.chunk(3, dim=-1)
    update = torch.sigmoid(update_a + update_h)
    return (1 - update) * torch.tanh(new_a + torch.sigmoid(reset_a + reset_h) * new_h) + update * state


def _no_item(scores_BV: Tensor) -> Tensor:
    return scores_BV.masked_fill(torch.arange(scores_BV.shape[1]) == 0, -torch.inf)


class _NetworkGraph(nn.Module):
    """MKM-SR and its ablations over the item graph."""

    entering: Tensor
    items: Tensor

    def __init__(self, model: MKMSR):
        super().__init__()
        gru = model.operation_gru if model.config.operation_encoder == "gru" else None
        self.encoder = _Encoder(model.item_ggnn, model.readout, model.operations if gru else None, gru)
        self.register_buffer("entering", model.items.weight.detach())
        self.register_buffer("items", model.catalogue().detach())
        self.is_cosine = model.config.scorer == "cosine"
        self.scale = float(model.log_scale.exp()) if self.is_cosine else 1.0

    def forward(self, items: Tensor, operations: Tensor) -> Tensor:
        session = self.encoder(self.entering[items], _Sessions(items, operations))
        session = F.normalize(session) * self.scale if self.is_cosine else session
        return _no_item(session @ self.items.T)


class _CompassGraph(nn.Module):
    """COMPASS's mixture; see `mkmsr.models.compass.model` for what each part is."""

    vectors: Tensor
    candidates: Tensor
    popularity: Tensor
    relation_of: Tensor
    attributes: Tensor
    shares: Tensor

    def __init__(self, model: Compass):
        super().__init__()
        encoder, explore, self.gates = model.encoder, model.explore, model.gates
        gru = encoder.operation_gru if encoder.uses_operations else None
        self.encoder = _Encoder(encoder.item_ggnn, encoder.readout, encoder.operations if gru else None, gru)
        self.copying = model.copying if model.config.copy_past else None
        self.wanted = model.wanted if model.config.target_operation else None
        vectors_VD = model.vectors().detach()
        self.register_buffer("vectors", vectors_VD)
        self.register_buffer("candidates", explore.candidates(model.vectors, vectors_VD).detach())
        self.register_buffer("popularity", explore.popularity)
        self.weights = {name: float(weight) for name, weight in explore.weights().items()}
        self.scale, self.matching = float(explore.log_scale.exp()), explore.matching
        if self.matching is not None:
            self.register_buffer("relation_of", model.vectors.relation_of)
            owner, attributes, shares = model.vectors.by_item.of(torch.arange(len(vectors_VD)))
            place = torch.arange(len(owner)) - model.vectors.by_item.rows[owner]
            size = (len(vectors_VD), int(model.vectors.by_item.sizes.max()))
            self.register_buffer(
                "attributes", torch.zeros(size, dtype=torch.int64).index_put((owner, place), attributes)
            )
            self.register_buffer("shares", torch.zeros(size).index_put((owner, place), shares))

    def forward(
        self,
        items: Tensor,
        operations: Tensor,
        votes: Tensor | None = None,
        shared: Tensor | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        sessions = _Sessions(items, operations)
        session = self.encoder(self.vectors[items], sessions)
        if self.wanted is not None and wanted is not None:
            session = self.wanted(session, wanted)
        own_BV = torch.zeros_like(session[:, :1]).expand(-1, len(self.vectors))
        own_BV = own_BV.scatter_add(1, items, sessions.mask.float())
        query = torch.cat(
            [self.weights["vector"] * self.scale * F.normalize(session), torch.ones_like(session[:, :1])], dim=1
        )
        scores = query @ self.candidates.T + self.weights["own"] * (own_BV > 0)
        if self.matching is not None:
            scores = scores + self._matches(sessions)
        lists: list[Tensor] = []
        features, speaks = [self._session_features(sessions)], [sessions.lengths > 0]
        if self.copying is not None:
            logits_BL = self._copies(sessions, wanted)
            features.append(_softmax(logits_BL, sessions.mask).amax(1, keepdim=True).log())
            speaks.append(sessions.lengths > 0)
            sharp_BL = _softmax(self.gates.sharpness[len(lists)] * logits_BL, sessions.mask)
            lists.append(torch.zeros_like(own_BV).scatter_add(1, items, sharp_BL))
        if votes is not None and shared is not None:
            elsewhere = own_BV == 0
            scores = scores + self.weights["evidence"] * torch.log1p(shared * elsewhere)
            voted = (votes > 0) & elsewhere
            log_votes = votes.clamp(min=1e-30).log()
            count = voted.float().sum(1)
            features += [(count > 0).float()[:, None], count.log1p()[:, None]]
            features.append(_softmax(log_votes, voted).amax(1, keepdim=True))
            speaks.append(count > 0)
            lists.append(_softmax(self.gates.sharpness[len(lists)] * log_votes, voted))
        gates = self.gates.bias + torch.cat(features, dim=1) @ self.gates.of_features
        gates = gates + self.gates.by_operation[sessions.last_operation]
        if wanted is not None:
            gates = gates + self.gates.by_wanted[wanted] * (wanted > 0)[:, None]
        log_gates = gates.masked_fill(~torch.stack(speaks, dim=1), -torch.inf).log_softmax(1)
        explored = _no_item(scores).log_softmax(1) + log_gates[:, :1]
        if not lists:
            return explored
        listed = torch.stack([log_gates[:, each + 1, None].exp() * part for each, part in enumerate(lists)]).sum(0)
        return torch.where(listed > 0, torch.logaddexp(explored, listed.clamp(min=1e-38).log()), explored)

    def _matches(self, sessions: _Sessions) -> Tensor:
        """What the attributes of events add to the scores of items that have them. Shape [B, V]."""
        assert self.matching is not None
        attributes, shares = self.attributes[sessions.items], self.shares[sessions.items]
        by_age = self.matching.by_age
        ages = (sessions.lengths[:, None] - 1 - torch.arange(sessions.items.shape[1])).clamp(0, by_age.shape[1] - 1)
        theta = by_age[self.relation_of[attributes], ages[:, :, None]]
        worth = theta * (1 + self.matching.by_attribute.weight[:, 0][attributes]) * shares
        worth_BA = torch.zeros_like(worth[:, 0, :1]).expand(-1, len(self.relation_of))
        worth_BA = worth_BA.scatter_add(1, attributes.flatten(1), worth.flatten(1))
        return self.weights["match"] * (worth_BA[:, self.attributes] * self.shares).sum(2)

    def _copies(self, sessions: _Sessions, wanted: Tensor | None) -> Tensor:
        """Logits of the session's own events. Shape [B, L]."""
        copying: Any = self.copying
        ages = (sessions.lengths[:, None] - 1 - torch.arange(sessions.items.shape[1])).clamp(
            0, copying.age.num_embeddings - 1
        )
        before = sessions.operations * copying.num_columns if copying.num_columns > 1 else 0 * sessions.operations
        newest = sessions.last_operation if copying.num_columns > 1 else 0 * sessions.last_operation
        logits: Tensor = copying.age(ages).squeeze(2) + copying.pair(before + newest[:, None]).squeeze(2)
        if copying.wanted is not None and wanted is not None:
            logits = logits + copying.wanted(before + wanted[:, None]).squeeze(2) * (wanted > 0)[:, None]
        return logits

    def _session_features(self, sessions: _Sessions) -> Tensor:
        lengths = sessions.lengths.float()
        distinct = (sessions.mask / sessions.same.sum(2).clamp(min=1)).sum(1)
        again = ((sessions.items == sessions.last_item[:, None]) & sessions.mask).sum(1).float()
        popular = self.popularity[sessions.last_item]
        return torch.stack([lengths.log(), (lengths == 1).float(), distinct / lengths, again.log(), popular], dim=1)


def _softmax(logits_BV: Tensor, named_BV: Tensor) -> Tensor:
    """Probabilities over the named items, or events, of each session; zeros where there are none."""
    logits_BV = torch.where(named_BV, logits_BV, -1e30)
    weights_BV = torch.exp(logits_BV - logits_BV.amax(1, keepdim=True)) * named_BV
    return weights_BV / weights_BV.sum(1, keepdim=True).clamp(min=1e-30)
