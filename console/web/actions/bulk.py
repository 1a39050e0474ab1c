"""Actions on many entries: the number of the confirmation is counted again, and each action is in the audit log."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Generic, TypeVar
from urllib.parse import urlencode

from aiohttp import web
from pydantic import AfterValidator, Field, StringConstraints
from redis.exceptions import RedisError

from console.format import parse_entry_id
from console.queries.causes.cause import ID_LENGTH, NEWEST, Words
from console.queries.causes.counting import Counted, sort_key
from console.web.access.roles import Identity, Role
from console.web.actions.interruption import explain_interruption, record_interruption
from console.web.actions.replies import DoneReply
from console.web.render import Note, json_reply, parameters, see_other
from console.web.route import API, Json, Parameters, Route
from console.web.state import ConsoleState, identity_of, state_of
from runtime.errors import CommandError
from stream.entry import EntryId

CONFLICT, AWAY_STATUS = 409, 503
IDS_AT_MOST = 100
NEWS_SECONDS = 5.0


def _entry_id(text: str) -> str:
    try:
        parse_entry_id(text)
    except CommandError as exc:
        raise ValueError(str(exc)) from None
    return text


EntryText = Annotated[str, StringConstraints(max_length=50), AfterValidator(_entry_id)]
CauseId = Annotated[str, StringConstraints(pattern=f"^[0-9a-f]{{{ID_LENGTH}}}$")]
Why = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class CausePage(Parameters):
    """A list of causes. ``cause`` is the one to open, by default the most frequent one.

    ``before`` is the last id of the previous page of its entries, and ``position`` the number of entries before.
    """

    cause: CauseId | None = None
    before: EntryText | None = None
    position: int = Field(0, ge=0, le=1_000_000)


class BulkBody(Parameters):
    """The entries of an action: these ids, or a sample of a cause, or all of the cause up to the id ``through``.

    ``expected`` is their number, as the person has confirmed it.
    """

    cause: CauseId | None = None
    ids: Annotated[Sequence[EntryText], Field(max_length=IDS_AT_MOST)] = ()
    sample: int | None = Field(None, ge=1, le=NEWEST)
    through: EntryText | None = None
    expected: int = Field(ge=0, le=1_000_000_000)
    why: Why

    def scope(self, words: Words | None = None) -> str:
        """Return the entries as text, for the audit log. ``words`` are those of the cause."""
        chosen = words or {"cause": self.cause or ""}
        values = {"id": ",".join(self.ids)} if self.ids else {**chosen, "sample": str(self.sample or "")}
        return " ".join(f"{name}={value}" for name, value in values.items() if value) or "all"

    @property
    def last(self) -> EntryId | None:
        """The newest entry to act on."""
        return None if self.through is None else EntryId.from_text(self.through)

    def require(self, number: int) -> None:
        """Raise NumberChanged unless the person has confirmed this number."""
        if number != self.expected or not number:
            raise NumberChanged(number)


class NumberChanged(Exception):  # noqa: N818 - named for what happened
    """The number of entries is not the one that the person has confirmed. Nothing is done."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def sentence(self) -> str:
        """The sentence for the person."""
        return f"Nothing was done: {self.number:,} match now. Look again, then confirm this number."


@dataclass(frozen=True, slots=True)
class ActionResult:
    """The effect of an action. ``result`` is its line in the audit log."""

    count: int
    scope: str
    result: str
    note: Note
    reply: Json = field(default_factory=dict)


B = TypeVar("B", bound=BulkBody)


@dataclass(frozen=True, slots=True)
class BulkAction(Generic[B]):
    """An action with a form and a JSON route. ``name`` is written in the audit log; its end is the path below ``home``.

    ``show`` renders the page again with an open dialog and a sentence, after the number has changed.
    """

    name: str
    home: str
    body: type[B]
    act: Callable[[ConsoleState, Identity, B], Awaitable[ActionResult]]
    show: Callable[[web.Request, B, str, str], Awaitable[web.Response]]
    summary: str
    role: Role = Role.OPERATOR
    reply: type[DoneReply] = DoneReply

    def routes(self) -> list[Route]:
        """Return the route of the form and that of the API."""
        path = f"{self.home}/{self._verb}"
        return [
            Route("POST", path, self._submit, self.role, self.body, summary=self.summary),
            Route("POST", f"{API}{path}", self._answer, self.role, self.body, self.reply, self.summary),
        ]

    @property
    def _verb(self) -> str:
        return self.name.partition(".")[2]

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        body = await parameters(request, self.body)
        page = link(self.home, cause=body.cause)
        try:
            done = await self._run(request, body)
        except RedisError as exc:  # while Redis is away, the page says so, and comes back by itself
            return see_other(
                request, page, Note(f"Not finished: {explain_interruption(exc)}.", "Check what is left.", "bad")
            )
        except NumberChanged as exc:
            if body.ids:
                return see_other(request, page, Note(exc.sentence, tone="bad"))
            return await self.show(request, body, "sample" if body.sample else self._verb, exc.sentence)
        except CommandError as exc:
            return see_other(request, page, Note("Nothing was done.", str(exc), "bad"))
        return see_other(request, page, done.note)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await parameters(request, self.body)
        try:
            done = await self._run(request, body)
        except NumberChanged as exc:
            return json_reply({"error": exc.sentence, "number": exc.number}, CONFLICT)
        except CommandError as exc:
            return json_reply({"error": str(exc)}, CONFLICT)
        except RedisError as exc:
            return json_reply({"error": f"Not finished: {explain_interruption(exc)}."}, AWAY_STATUS)
        return json_reply({"count": done.count, **done.reply})

    async def _run(self, request: web.Request, body: B) -> ActionResult:
        state, identity = state_of(request), identity_of(request)
        async with record_interruption(state.audit, identity, action=self.name, scope=body.scope(), why=body.why):
            done = await self.act(state, identity, body)
        await state.audit.record(
            identity, action=self.name, scope=done.scope, count=done.count, why=body.why, result=done.result
        )
        return done


def summarize(counted: Counted, most: int) -> Json:
    """Return the numbers of a list of causes: ``counted`` of the ``total`` entries, at most ``counted_at_most``."""
    return {
        "total": counted.total,
        "counted": counted.number,
        "counted_at_most": most,
        "is_complete": counted.is_complete,
        "matching": sum(cause.count for cause in counted.causes.ordered),
        "through": None if counted.through is None else str(counted.through),
        "causes": [cause.summary() for cause in counted.causes.ordered if cause.words],
        "others": sum(cause.count for cause in counted.causes.ordered if not cause.words),
    }


def link(path: str, **values: object) -> str:
    """Return a path with a query of those values that are given."""
    query = urlencode({name: value for name, value in values.items() if value not in (None, "", 0)})
    return f"{path}?{query}" if query else path


def newest_keys(data: Json) -> list[str]:
    """Return the key of the newest entry of a list of causes, to compare with those of a live page."""
    return [sort_key(EntryId.from_text(data["through"]))] if data["through"] else []
