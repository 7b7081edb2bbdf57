"""The service against its own OpenAPI description, with requests that Schemathesis makes up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from live import Live

schemathesis = pytest.importorskip("schemathesis", reason="Schemathesis is not installed")

OPERATIONS = [
    "POST /v1/recommendations",
    "POST /v1/events",
    "GET /v1/items",
    "GET /v1/items/{id}/similar",
    "POST /v1/explanations",
    "GET /v1/sessions/{id}",
    "DELETE /v1/sessions/{id}",
    "POST /v1/catalogue/items",
    "POST /v1/catalogue/retire",
    "PUT /v1/catalogue/facts",
    "PATCH /v1/catalogue/facts",
    "POST /v1/admin/bundle",
]


@pytest.fixture(scope="module")
def description(live: Live) -> Any:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{live.port}/openapi.json")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_answers_are_as_described(description: Any, name: str, mode: str) -> None:
    check(description, name, mode, examples=30)


@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_lists_are_as_described(description: Any, mode: str) -> None:
    check(description, "POST /v1/recommendations", mode, examples=10)


def check(description: Any, name: str, mode: str, *, examples: int) -> None:
    """Send requests that fit the description, or do not, and compare what comes back with it."""
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi import checks

    method, path = name.split(" ")
    operation = description[path][method]
    chosen = [not_a_server_error, checks.content_type_conformance, checks.response_schema_conformance]

    @given(case=operation.as_strategy(generation_mode=GenerationMode[mode]))
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def send(case: Any) -> None:
        answer = case.call()
        is_too_long = answer.status_code == 413  # refused before anybody could tell what else is wrong
        case.validate_response(answer, checks=chosen if is_too_long else [*chosen, checks.negative_data_rejection])

    send()
