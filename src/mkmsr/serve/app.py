"""The service as a whole: which endpoints there are, what describes them, and who answers.

The two busiest endpoints are found without a router. All others, and the page, go through Starlette's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from mkmsr.recommend import Condition, Filters
from mkmsr.serve.access import Access
from mkmsr.serve.changes import Changes, Record
from mkmsr.serve.endpoint import Call, Endpoint, Gate, Problem, Raw, Served
from mkmsr.serve.engine import Engine, Serving, Slot
from mkmsr.serve.service import Cards, Keeper, Visitors
from mkmsr.serve.settings import Settings
from mkmsr.serve.types import (
    LONGEST_ID,
    BundleRequest,
    CatalogueAnswer,
    Erasure,
    EventsAnswer,
    EventsRequest,
    ExplanationsAnswer,
    ExplanationsRequest,
    FactsRequest,
    Health,
    IdsRequest,
    ItemPage,
    ItemsQuery,
    ItemsRequest,
    ProblemDocument,
    RecommendationsAnswer,
    RecommendationsRequest,
    ServiceDescription,
    SessionAnswer,
    SimilarAnswer,
    SimilarQuery,
)

_PAGE = Path(__file__).parent / "page"
_MEDIA = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
_BUSY = ("/v1/recommendations", "/v1/events")
_CATALOGUE_BYTES = 16 * 1024 * 1024


class Application:
    """Answers every request of a worker.

    `run` is the name of this run of the service. Counts are those of `visitors`.
    """

    def __init__(
        self,
        settings: Settings,
        access: Access,
        run: str,
        *,
        engine: Engine,
        keeper: Keeper,
        changes: Changes,
        cards: Cards,
        visitors: Visitors,
    ):
        self._settings, self._run = settings, run
        self._engine, self._keeper, self._changes = engine, keeper, changes
        self._cards, self._visitors, self._feedback = cards, visitors, visitors.feedback
        self._searched: tuple[Any, list[tuple[str, str]]] = None, []
        self.is_ready = False
        self.endpoints = self._endpoints()
        self._description = msgspec.json.encode(describe(self.endpoints))
        served = [(each, Served(each, access.check)) for each in self.endpoints]
        self._busy = {(each.method, each.path): app for each, app in served if each.path in _BUSY}
        routes = [Route(each.path.replace("{id}", "{id:path}"), app, methods=[each.method]) for each, app in served]
        self._router = Router(routes, redirect_slashes=False)
        self.gate = Gate(self._route, cors=access.cors, observe=self._feedback.observe)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        busy = self._busy.get((scope["method"], scope["path"]))
        if busy is not None:
            await busy(scope, receive, send)
            return
        scope["app"] = self  # so that the router raises what becomes a problem document
        await self._router(scope, receive, send)

    def _endpoints(self) -> list[Endpoint]:
        """The table of all endpoints."""
        seen, to = self._visitors, Endpoint
        change = partial(Endpoint, gives=CatalogueAnswer, scope="admin", most_bytes=_CATALOGUE_BYTES)
        table = [
            to("POST", "/v1/recommendations", "The items most likely to come next in a session.", seen.recommendations,
               RecommendationsRequest, RecommendationsAnswer),
            to("POST", "/v1/events", "Store events of a session.", seen.events, EventsRequest, EventsAnswer),
            to("GET", "/v1/items/{id}/similar", "Items like one.", seen.similar, None, SimilarAnswer,
               query=SimilarQuery),
            to("GET", "/v1/items", "Items of the catalogue, the most popular first.", self._items, None, ItemPage,
               query=ItemsQuery),
            to("POST", "/v1/explanations", "Why items got their scores.", seen.explanations, ExplanationsRequest,
               ExplanationsAnswer),
            to("GET", "/v1/sessions/{id}", "What is stored of a session.", seen.session, None, SessionAnswer),
            to("DELETE", "/v1/sessions/{id}", "Erase a session.", seen.erase, None, Erasure),
            to("GET", "/v1/service", "What is served, and how it does.", self._service, None, ServiceDescription,
               "secret"),
            change("POST", "/v1/catalogue/items", "Add items.", self._add, ItemsRequest),
            change("POST", "/v1/catalogue/retire", "Take items off every list.", self._ids("retire"), IdsRequest),
            change("POST", "/v1/catalogue/restore", "Let retired items appear again.", self._ids("restore"),
                   IdsRequest),
            change("PUT", "/v1/catalogue/facts", "State all facts anew.", self._facts("set"), FactsRequest),
            change("PATCH", "/v1/catalogue/facts", "State some facts.", self._facts("update"), FactsRequest),
            to("POST", "/v1/admin/bundle", "Serve another bundle, or the one before.", self._bundle, BundleRequest,
               CatalogueAnswer, "admin"),
            to("GET", "/health/live", "Whether the process answers.", self._live, None, Health, "open"),
            to("GET", "/health/ready", "Whether requests should come here.", self._ready, None, Health, "open"),
            to("GET", "/metrics", "Metrics for Prometheus.", self._metrics, scope="admin"),
            to("GET", "/openapi.json", "This description.", self._openapi, scope="open"),
            to("GET", "/", "The demo page.", self._page("index.html"), scope="open"),
        ]  # fmt: skip
        for file in sorted(each.name for each in _PAGE.glob("*.*") if each.suffix in _MEDIA):
            table.append(to("GET", f"/page/{file}", "A file of the demo page.", self._page(file), scope="open"))
        return table

    async def _items(self, call: Call) -> ItemPage:
        asked: ItemsQuery = call.query
        slot = self._visitors.slot(asked.model or None, None)
        if bool(asked.relation) != bool(asked.value):
            raise Problem(422, "relation and value belong together, as in relation=brand&value=acme")
        version = self._engine.version

        def found() -> ItemPage:
            serving = slot.serving
            recommender = serving.recommender
            where = []
            if asked.relation:
                where = [Condition(asked.relation, "in", frozenset([asked.value]))]
            allowed = recommender.allowed(Filters(where=where))
            text, ids = asked.search.casefold(), recommender.bundle.items
            rows = self._texts(slot, serving, version)
            chosen = [item for item, words in rows if text in words and allowed[ids.index(item)]]
            page = [self._cards.item(slot, serving, version, item) for item in chosen[asked.offset :][: asked.limit]]
            return ItemPage(len(chosen), page)

        return await asyncio.to_thread(found)

    def _texts(self, slot: Slot, serving: Serving, version: int) -> list[tuple[str, str]]:
        """Items, the most popular first, and the text in which is searched."""
        key = slot.name, serving.digest, version
        kept, rows = self._searched
        if kept != key:
            bundle = serving.recommender.bundle
            order = (-bundle.item_counts[1:]).argsort(kind="stable").tolist()
            named = [bundle.items.ids[each] for each in order]
            texts = ["\n".join([item, *slot.shown(serving, item).values()]).casefold() for item in named]
            rows = list(zip(named, texts, strict=True))
            self._searched = key, rows  # in one assignment, since other threads search too
        return rows

    async def _service(self, call: Call) -> ServiceDescription:
        bundle, slots = self._engine.first.recommender.bundle, self._engine.slots
        data = bundle.metadata["data"]
        relations = list(dict.fromkeys([*bundle.knowledge.relations.ids, *bundle.unlearnt, *self._changes.facts]))
        return ServiceDescription(
            bundle={
                "name": data["name"],
                "model": bundle.name,
                "made": self._engine.first.serving.made,
                "items": len(bundle.items),
                "digest": self._engine.first.serving.digest,
                "fitted_on": data.get("fitted_on"),
            },
            models=list(slots),
            index={name: asdict(slot.serving.index) for name, slot in slots.items()},
            operations=list(bundle.operations.ids),
            relations=relations,
            simulated=str(data["name"]).startswith("simulated"),
            catalogue=self._engine.version,
            workers=self._settings.workers,
            store=self._keeper.sessions.store.name,
            ab=self._feedback.compared(self._settings.split) if len(slots) > 1 else None,
            live=self._feedback.live(),
        )

    async def _add(self, call: Call) -> CatalogueAnswer:
        asked: ItemsRequest = call.body
        items = {each.item: {"attributes": each.attributes, "display": each.display} for each in asked.items}
        if len(items) < len(asked.items):
            raise Problem(422, "an item stands twice among those to be added")
        return await self._change(Record("add", items=items))

    def _ids(self, kind: str) -> Callable[[Call], Awaitable[CatalogueAnswer]]:
        return lambda call: self._change(Record(kind, ids=call.body.items))

    def _facts(self, kind: str) -> Callable[[Call], Awaitable[CatalogueAnswer]]:
        return lambda call: self._change(Record(kind, facts=call.body.facts))

    async def _bundle(self, call: Call) -> CatalogueAnswer:
        asked: BundleRequest = call.body
        if (asked.path is None) != asked.rollback:
            raise Problem(422, "give either `path`, a bundle on this machine, or `rollback`: true")
        slot = self._visitors.slot(asked.model, None)
        if asked.path is None:
            return await self._change(Record("rollback", slot=slot.name, run=self._run))
        path = str(Path(asked.path).expanduser().absolute())
        return await self._change(Record("bundle", path=path, slot=slot.name, run=self._run))

    async def _change(self, record: Record) -> CatalogueAnswer:
        number, outcome = await self._changes.make(record)
        self._feedback.catalogue.set(number)
        return CatalogueAnswer(number, outcome)

    async def _live(self, call: Call) -> Health:
        return Health("ok")

    async def _ready(self, call: Call) -> Health:
        if not self.is_ready:
            raise Problem(503, "starting or ending")
        return Health("ok")

    async def _metrics(self, call: Call) -> Raw:
        return Raw(self._feedback.text(), "text/plain; version=0.0.4; charset=utf-8")

    async def _openapi(self, call: Call) -> Raw:
        return Raw(self._description, "application/json")

    def _page(self, name: str) -> Callable[[Call], Awaitable[Raw]]:
        images = " ".join(["'self'", "data:", *(f"https://{host}" for host in self._settings.image_hosts)])
        policy = (
            f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {images}; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

        async def answer(call: Call) -> Raw:
            file = _PAGE / name
            if not file.is_file():
                raise Problem(404, "this installation has no demo page")
            media = f"{_MEDIA[file.suffix]}; charset=utf-8"
            return Raw(file.read_bytes(), media, headers={"content-security-policy": policy})

        return answer


def describe(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI description of endpoints."""
    types = [each for endpoint in endpoints for each in (endpoint.takes, endpoint.gives) if each is not None]
    unique = list(dict.fromkeys([*types, ProblemDocument]))
    schemas, components = msgspec.json.schema_components(unique, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(unique, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in endpoints:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "mkmsr", "version": "1", "summary": "Recommendations for the sessions of a shop."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, schema_of: Mapping[type, Any]) -> dict[str, Any]:
    def content(media: str, schema: Any) -> dict[str, Any]:
        return {"content": {media: {"schema": schema}}}

    done: dict[str, Any] = {"description": "Done."}
    if endpoint.gives is not None:
        done |= content("application/json", schema_of[endpoint.gives])
    problem = {"description": "A problem."} | content("application/problem+json", schema_of[ProblemDocument])
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "responses": {"200": done, "default": problem},
        "security": [] if endpoint.scope == "open" else [{"key": []}, {}],
    }
    id_schema = {"type": "string", "minLength": 1, "maxLength": LONGEST_ID}
    names = [{"name": "id", "in": "path", "required": True, "schema": id_schema}]
    parameters = names if "{id}" in endpoint.path else []
    for name, schema in msgspec.json.schema(endpoint.query)["$defs"][endpoint.query.__name__]["properties"].items():
        parameters.append({"name": name, "in": "query", "description": schema.pop("description"), "schema": schema})
    if parameters:
        operation["parameters"] = parameters
    if endpoint.takes is not None:
        operation["requestBody"] = {"required": True} | content("application/json", schema_of[endpoint.takes])
    return operation
