"""What goes over the wire. The same types validate requests and make the OpenAPI description.

Times are seconds since 1970 (UTC). Unknown fields are refused, so that a misspelt one is no silent default.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

LONGEST_ID = 256
"""Characters of an id, in a body or a path."""

MOST_EVENTS_A_REQUEST = 1000
MOST_EXPLAINED = 50

Id: TypeAlias = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]
Text: TypeAlias = Annotated[str, Meta(max_length=4096)]
Time: TypeAlias = Annotated[float, Meta(ge=0, le=32_503_680_000)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=1000)]
Number: TypeAlias = Annotated[int, Meta(ge=-(2**53), le=2**53)]
Value: TypeAlias = Text | Number | float
RankedBy: TypeAlias = Literal["model", "neighbours", "popularity"]
Values: TypeAlias = Value | Annotated[list[Value], Meta(max_length=100)]


class Request(Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of what clients send."""


class Event(Request):
    """A micro-behaviour: `operation` missing counts as the most common one, `time` missing as now.

    An event whose `id` the session holds already is a duplicate. `recommendation` is the id of the list that led to it.
    """

    item: Id
    operation: Name | None = None
    time: Time | None = None
    id: Id | None = None
    recommendation: Id | None = None


Events: TypeAlias = Annotated[list[Event], Meta(max_length=MOST_EVENTS_A_REQUEST)]
Ids: TypeAlias = Annotated[list[Id], Meta(max_length=10_000)]


class EventsRequest(Request):
    """Events of one session. Without consent nothing is stored; `merge` names an anonymous session of the same visitor,
    whose events are taken over and which is then erased."""

    session: Id
    events: Events
    consent: bool = False
    merge: Id | None = None


class EventsAnswer(Struct):
    """What became of the events; `expires_in` seconds without another event, the session is forgotten."""

    accepted: int
    duplicates: int
    skipped: int
    expires_in: int


class RecommendationsRequest(Request):
    """A question for the next items of one session.

    The session is the stored one of `session` (with consent), or the given `events`, which also serve where the stored
    one cannot be read. `append` adds events, and stores them with consent, before the list is made. `where` holds
    conditions such as `price=10..50`, `at_most` caps by relation. `fields` are the names of attributes and display
    fields to return; missing means all.
    """

    session: Id | None = None
    events: Events | None = None
    append: Events = []
    consent: bool = False
    merge: Id | None = None
    k: Count = 20
    where: Annotated[list[Text], Meta(max_length=10)] = []
    exclude: Ids = []
    exclude_session: bool = False
    exclude_operations: Annotated[list[Name], Meta(max_length=50)] = []
    only: Ids | None = None
    at_most: Annotated[dict[Name, Count], Meta(max_length=10)] = {}
    operation: Name | None = None
    explain: bool = False
    fields: Annotated[list[Name], Meta(max_length=50)] | None = None
    model: Name | None = None


class Reason(Struct):
    """Why an item got its score: `parts` are the shares of the components, which sum to 1."""

    sentence: str
    parts: dict[str, float]


class ListedItem(Struct, omit_defaults=True):
    """An item of a list; `score` is the model's, or a share of neighbours' votes or of training events."""

    item: str
    rank: int
    score: float
    reason: Reason | None = None
    attributes: dict[str, list[str]] = {}
    display: dict[str, str] = {}


class RecommendationsAnswer(Struct):
    """A list and how it came about.

    `degraded` says in sentences what the service could not do as asked; `note` why the list is empty.
    `skipped` events have unknown items, `replaced` ones unknown operations. `exact`: all items were scored, not those
    alone that an index proposes. `catalogue` is the number of the last
    catalogue change that the list knows.
    """

    id: str
    items: list[ListedItem]
    ranked_by: RankedBy
    degraded: bool
    exact: bool
    skipped: int
    replaced: int
    accepted: int
    duplicates: int
    model: str
    bundle: str
    catalogue: int
    notes: list[str]


Model: TypeAlias = Annotated[str, Meta(description="Name of the model; missing means the first.")]


class SimilarQuery(Request):
    """Which items are like one."""

    k: Annotated[int, Meta(ge=1, le=1000, description="How many.")] = 20
    where: Annotated[str, Meta(description="A condition, such as price=10..50.")] = ""
    model: Model = ""


class SimilarAnswer(Struct):
    """Items that the model ranks highest after an event of this one alone."""

    item: str
    items: list[ListedItem]
    model: str
    bundle: str
    catalogue: int


class ExplanationsRequest(Request):
    """Items to be explained for a session, as in a question for recommendations."""

    items: Annotated[list[Id], Meta(min_length=1, max_length=MOST_EXPLAINED)]
    session: Id | None = None
    events: Events | None = None
    consent: bool = False
    operation: Name | None = None
    model: Name | None = None


class ExplanationsAnswer(Struct):
    """One explanation an item: a sentence and every part of the score."""

    items: list[dict[str, Any]]
    model: str
    bundle: str


class SessionAnswer(Struct):
    """What is stored of a session, oldest event first."""

    events: list[dict[str, Any]]
    expires_in: int


class Erasure(Struct):
    """`erased`: whether there was anything; it cannot be read any more. `bytes`: when the bytes themselves are gone."""

    erased: bool
    bytes: str


class NewItem(Request):
    """An item for the catalogue: attributes place it, display fields are shown with it."""

    item: Id
    attributes: Annotated[dict[Name, Values], Meta(max_length=100)] = {}
    display: Annotated[dict[Name, Text], Meta(max_length=50)] = {}


class ItemsRequest(Request):
    """Items to add."""

    items: Annotated[list[NewItem], Meta(min_length=1, max_length=10_000)]


class IdsRequest(Request):
    """Items to retire or to restore."""

    items: Annotated[list[Id], Meta(min_length=1, max_length=10_000)]


class FactsRequest(Request):
    """What filters see and the model does not: values by name and item id."""

    facts: Annotated[dict[Name, dict[Id, Values]], Meta(max_length=100)]


class CatalogueAnswer(Struct):
    """A change that every worker has: its number, and by model what it came to."""

    catalogue: int
    models: dict[str, dict[str, Any]]


class BundleRequest(Request):
    """A bundle to serve from now on, or a rollback to the one before; `model` names the place, missing is the first."""

    path: Text | None = None
    rollback: bool = False
    model: Name | None = None


class Item(Struct):
    """An item of the catalogue."""

    item: str
    display: dict[str, str]
    attributes: dict[str, list[str]]


class ItemsQuery(Request):
    """Which items of the catalogue."""

    search: Annotated[str, Meta(description="Text in the id or a display field.")] = ""
    relation: Annotated[str, Meta(description="Name of an attribute or a fact.")] = ""
    value: Annotated[str, Meta(description="Its value.")] = ""
    offset: Annotated[int, Meta(ge=0, le=10**8, description="Items to pass over.")] = 0
    limit: Annotated[int, Meta(ge=1, le=200, description="How many.")] = 24
    model: Model = ""


class ItemPage(Struct):
    """A page of the catalogue, the most popular first."""

    total: int
    items: list[Item]


class ServiceDescription(Struct):
    """What is served and how it does; `index` says by model whether lists come from an index, and its recall."""

    bundle: dict[str, Any]
    models: list[str]
    index: dict[str, dict[str, Any]]
    operations: list[str]
    relations: list[str]
    simulated: bool
    catalogue: int
    workers: int
    store: str
    ab: dict[str, Any] | None
    live: dict[str, Any]


class Health(Struct):
    """`ok`, or what is missing."""

    status: str


class ProblemDocument(Struct):
    """An error (RFC 9457): `title` names the status, `detail` says what is wrong and what would be right."""

    title: str
    status: int
    detail: str
