"""The list of messages: one search box, filters, pages by cursor, and the list as a CSV file."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from aiohttp import web
from pydantic import BaseModel, StringConstraints
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from console.queries.statuses.figures import Capped
from console.queries.statuses.funnel import list_choices
from console.queries.statuses.reading import QueryTooSlow
from console.queries.statuses.search import InvalidCursor, MessageFilter, MessageRow, count_newer, find_messages
from console.queries.statuses.selection import StatusFilter
from console.queries.timeline.waiting import find_live, read_entry_id, search_redis
from console.web.access.roles import Identity, Role
from console.web.lists.csv_stream import send_csv
from console.web.lists.moments import MomentText, parse_moment
from console.web.live import LivePage
from console.web.pages.message import DATABASE_ERRORS
from console.web.render import WrongParameter, json_reply, parameters, render_page
from console.web.route import API, Json, Parameters, Route
from console.web.state import ConsoleState, identity_of, state_of
from worker.events.event import mask

CSV_PAGE = 1000
CHOICES_DAYS = 30
NEWER_AT_MOST = 1000
CSV_COLUMNS = (
    "message_uuid",
    "first_at",
    "status",
    "status_at",
    "channel",
    "to",
    "sender",
    "client_ref",
    "account",
    "application",
    "error_code",
    "network_code",
    "price",
    "currency",
)

Text = Annotated[str, StringConstraints(max_length=255)]
Cursor = Annotated[str, StringConstraints(max_length=500)]


class MessageQuery(Parameters):
    """The filters. ``q`` is a message id, client_ref, number, event id or entry id."""

    q: Annotated[str, StringConstraints(max_length=255)] | None = None
    status: Text | None = None
    """A status, or ``open``: no final status yet."""
    channel: Text | None = None
    account: Text | None = None
    error: Text | None = None
    since: MomentText | None = None
    until: MomentText | None = None

    def make_filter(self, state: ConsoleState) -> MessageFilter:
        """Return the filter for the search."""
        return MessageFilter(
            text=self.q,
            status=None if self.status == "open" else self.status,
            is_open=self.status == "open",
            channel=self.channel,
            account=self.account,
            error=self.error,
            since=parse_moment(self.since) if self.since else None,
            until=parse_moment(self.until) if self.until else None,
            number_hash=state.settings.number_hash,
        )

    @property
    def given(self) -> dict[str, str]:
        """The filters that are set."""
        return self.model_dump(exclude_none=True, include=set(MessageQuery.model_fields))


class MessagesPage(MessageQuery):
    """A page of the list. ``after`` is the ``next`` of the page before."""

    after: Cursor | None = None


class NewerMessages(MessageQuery):
    """A list on a screen. ``newest`` is that of its first page."""

    newest: Cursor | None = None
    after: Cursor | None = None


class RevealedExport(MessageQuery):
    """The list with whole numbers."""

    why: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class MessagesReply(BaseModel):
    """A page of messages. ``searched`` are the places where the text was looked for and not found."""

    messages: list[dict[str, Any]]
    next: str | None
    newest: str | None
    matched: list[str]
    searched: list[str]
    waiting: list[dict[str, Any]]
    away: list[dict[str, Any]]


async def read(state: ConsoleState, chosen: MessagesPage, _identity: Identity) -> Json:
    """Return a page of messages.

    If no message in the tables matches the text, ``waiting`` has the message in Redis that does. The stream is asked
    first for an entry, because it names the message at once. Raises WrongParameter, QueryTooSlow, and the errors of the
    database.
    """
    entry_id, live = read_entry_id(chosen.q or ""), None
    with suppress(RedisError):
        shards = await state.find_answering()  # also for the sentence that names the others
        live = await find_live(state.server, shards, entry_id) if entry_id is not None else None
    try:
        page = await find_messages(
            state.engine, replace(chosen.make_filter(state), text=live or chosen.q), chosen.after
        )
    except InvalidCursor:
        raise WrongParameter({"after": "It does not belong to this list."}) from None
    is_missing = bool(chosen.q) and not page.messages
    waiting, searched = (
        await search_redis(state.server, state.find_answering, chosen.q or "") if is_missing else ([], [])
    )
    return {
        "messages": [_describe(row) for row in page.messages],
        "next": page.next,
        "newest": page.newest,
        "matched": ["entry"] if live and page.messages else list(page.matched),
        "searched": ["tables", *searched] if chosen.q and not page.messages else [],
        "waiting": waiting,
        "away": state.describe_away(),
    }


def _describe(row: MessageRow, *, reveal: bool = False) -> Json:
    show = str if reveal else mask
    values = {name: getattr(row, name) for name in CSV_COLUMNS}
    times = {name: at.isoformat() if (at := values[name]) else None for name in ("first_at", "status_at")}
    return {**values, **times, "to": row.to and show(row.to), "sender": row.sender and show(row.sender)}


async def view(request: web.Request) -> web.Response:
    """Show the list; or the message itself if it is the only one that the text finds."""
    state, chosen = state_of(request), await parameters(request, MessagesPage)
    data: Json = {"messages": [], "next": None, "newest": None, "matched": [], "searched": [], "waiting": []}
    database_away = False
    try:
        data = await read(state, chosen, identity_of(request))
    except DATABASE_ERRORS:
        if not chosen.q:
            raise
        database_away = True
        data["waiting"], data["searched"] = await search_redis(state.server, state.find_answering, chosen.q)
    if (path := _find_only(chosen, data)) is not None:
        raise web.HTTPSeeOther(path)
    shown = {
        **data,
        "chosen": chosen.model_dump(),
        "given": chosen.given,
        "database_away": database_away,
        "first": f"/messages?{urlencode(chosen.given)}" if chosen.after else "",
        "next_page": f"/messages?{urlencode({**chosen.given, 'after': data['next']})}" if data["next"] else "",
        "csv": f"/messages.csv?{urlencode(chosen.given)}",
        "choices": {"channels": [], "accounts": []} if database_away else await _list_choices(state.engine),
        "newer": {"number": 0, "is_exact": True},
    }
    live = {"newest": data["newest"]} if data["newest"] and not chosen.after else None
    return render_page(
        request,
        "messages.html",
        shown,
        title="Messages",
        twin=f"{API}/messages",
        live="messages" if live else "",
        live_query=live or {},
    )


def _find_only(chosen: MessagesPage, data: Json) -> str | None:
    """Return the path of the message if it is the only one, and the text is all that was asked for."""
    matches = data["messages"] or data["waiting"]
    if chosen.given.keys() != {"q"} or chosen.after or len(matches) != 1:
        return None
    entry_id = read_entry_id(chosen.q or "")
    path = f"/messages/{quote(matches[0]['message_uuid'], safe='')}"
    return f"{path}?{urlencode({'entry': str(entry_id)})}" if entry_id else path


async def _list_choices(engine: AsyncEngine) -> Json:
    now = datetime.now(UTC)
    choices = await list_choices(engine, StatusFilter(since=now - timedelta(days=CHOICES_DAYS), until=now))
    return {"channels": list(choices.channels), "accounts": list(choices.accounts)}


async def twin(request: web.Request) -> web.Response:
    """Return a page of the list as JSON."""
    return json_reply(await read(state_of(request), await parameters(request, MessagesPage), identity_of(request)))


async def read_newer(state: ConsoleState, chosen: NewerMessages, _identity: Identity) -> Json:
    """Return how many messages were added to the list."""
    newer = Capped(0, is_exact=True)
    if chosen.newest and not chosen.q:
        try:
            newer = await count_newer(state.engine, chosen.make_filter(state), chosen.newest, NEWER_AT_MOST)
        except QueryTooSlow:
            newer = Capped(0, is_exact=False)
        except InvalidCursor:
            pass
    return {"newer": {"number": newer.number, "is_exact": newer.is_exact}}


async def export(request: web.Request) -> web.StreamResponse:
    """Send the list as CSV, with masked numbers."""
    return await _send(request, await parameters(request, MessageQuery), reveal=False)


async def export_revealed(request: web.Request) -> web.StreamResponse:
    """Send the list as CSV, with whole numbers. The audit log has it."""
    body = await parameters(request, RevealedExport)
    scope = " ".join(f"{name}={value}" for name, value in body.given.items()) or "all"
    await state_of(request).audit.record(
        identity_of(request), action="messages.export", scope=scope, why=body.why, result="numbers shown"
    )
    return await _send(request, body, reveal=True)


async def _send(request: web.Request, chosen: MessageQuery, *, reveal: bool) -> web.StreamResponse:
    state = state_of(request)
    pages = _read_pages(state.engine, chosen.make_filter(state), reveal=reveal)
    return await send_csv(request, "messages.csv", CSV_COLUMNS, pages)


async def _read_pages(
    engine: AsyncEngine, chosen: MessageFilter, *, reveal: bool
) -> AsyncGenerator[Sequence[Sequence[object]], None]:
    after: str | None = None
    until = chosen.until or datetime.now(UTC)
    while True:
        page = await find_messages(engine, replace(chosen, until=until), after, CSV_PAGE)
        rows = (_describe(row, reveal=reveal) for row in page.messages)
        yield [[row[name] for name in CSV_COLUMNS] for row in rows]
        if page.next is None:
            return
        after = page.next


ROUTES = [
    Route("GET", "/messages", view, Role.VIEWER, MessagesPage, summary="Messages"),
    Route("GET", "/messages.csv", export, Role.VIEWER, MessageQuery, summary="Messages as CSV"),
    Route("POST", "/messages.csv", export_revealed, Role.OPERATOR, RevealedExport, summary="Messages with numbers"),
    Route("GET", f"{API}/messages", twin, Role.VIEWER, MessagesPage, MessagesReply, "Messages"),
]
LIVE = LivePage("messages", "messages.html", ("newer",), read_newer, NewerMessages, seconds=5)
