"""The service's lists are the recommender's, on all prefixes of the Demo data's test sessions."""

from __future__ import annotations

import http.client
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from live import JSON, running
from small_shop import fitted

from mkmsr.bundle.model_bundle import new_bundle, save_bundle
from mkmsr.data.dataset import PreparedDataset
from mkmsr.data.prepare import PrepareOptions, prepare
from mkmsr.data.readers import read_log
from mkmsr.recommend import Filters, Recommendations, Recommender, parse_condition
from mkmsr.serve.settings import Settings

pytestmark = pytest.mark.slow
CLIENTS = 8
TIE = 4e-6
"""Sums of float32 differ by so much in the service's compiled loops and in batches of other sizes."""


def prefixes_of(dataset: PreparedDataset) -> list[list[dict[str, str]]]:
    table, prefixes = dataset.test, []
    for begin, end in zip(table.offsets[:-1].tolist(), table.offsets[1:].tolist(), strict=True):
        pairs = zip(table.items[begin:end].tolist(), table.operations[begin:end].tolist(), strict=True)
        events = [{"item": dataset.items.id(i), "operation": dataset.operations.id(o)} for i, o in pairs]
        prefixes += [events[:length] for length in range(1, len(events))]
    return prefixes


def test_all_lists_are_the_recommenders(shared_data: Path, tmp_path: Path) -> None:
    dataset = prepare(read_log("jdata-demo", shared_data / "jdata_demo"), PrepareOptions(new_items="drop"))
    config, model = fitted("compass", dataset, target_operation=True)
    bundle = save_bundle(tmp_path / "b", new_bundle(model, name="compass", config=config, dataset=dataset, metrics={}))
    recommender = Recommender.load(bundle)
    relation = dataset.knowledge.relations.ids[0]
    values = recommender.attributes(dataset.items.ids[0])
    value = values.get(relation, ["1"])[0]
    operation = dataset.operations.ids[1]
    ways: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({"where": [f"{relation}!={value}"]}, {"filters": Filters(where=[parse_condition(f"{relation}!={value}")])}),
        ({"at_most": {relation: 2}}, {"filters": Filters(at_most={relation: 2})}),
        ({"exclude_session": True}, {"exclude_session": True}),
        ({"exclude_operations": [operation]}, {"filters": Filters(exclude_operations=[operation])}),
        ({"operation": operation}, {"operation": operation}),
    ]
    retired = list(dataset.items.ids[:50])
    new = {f"new-{n}": {relation: value} for n in range(3)}
    recommender.retire_items(retired)
    recommender.add_items(new)
    prefixes = prefixes_of(dataset)
    expected: list[Recommendations | None] = [None] * len(prefixes)
    for number, (_, options) in enumerate(ways):
        places = range(number, len(prefixes), len(ways))
        for place, found in zip(
            places, recommender.recommend_many([prefixes[p] for p in places], **options), strict=True
        ):
            expected[place] = found
    answers: list[Any] = [None] * len(prefixes)
    with running(Settings(bundle=bundle, patience=60)) as live:
        live.call("POST", "/v1/catalogue/retire", {"items": retired})
        added = [{"item": item, "attributes": attributes} for item, attributes in new.items()]
        live.call("POST", "/v1/catalogue/items", {"items": added})

        def ask(client: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", live.port)
            for place in range(client, len(prefixes), CLIENTS):
                asked = {"events": prefixes[place], "fields": [], **ways[place % len(ways)][0]}
                connection.request("POST", "/v1/recommendations", json.dumps(asked), JSON)
                answers[place] = json.loads(connection.getresponse().read())

        threads = [threading.Thread(target=ask, args=(client,)) for client in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for answer, found in zip(answers, expected, strict=True):
        assert found is not None
        scores = {each.item: each.score for each in found.items}
        assert len(answer["items"]) == len(found.items)
        for got, wanted in zip(answer["items"], found.items, strict=True):
            assert got["score"] == pytest.approx(wanted.score, rel=TIE, abs=TIE)
            if got["item"] != wanted.item:
                assert scores.get(got["item"], got["score"]) == pytest.approx(wanted.score, rel=TIE, abs=TIE)
