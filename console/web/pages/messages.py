"""The list of messages: one search box, filters, pages by cursor, and the list as a CSV file."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from aiohttp import web
from pydantic import BaseModel, StringConstraints
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from console.queries.statuses.figures import Capped
from console.queries.statuses.funnel import list_choices
from console.queries.statuses.reading import QueryTooSlow
from console.queries.statuses.search import InvalidCursor, MessageFilter, MessageRow, count_newer, find_messages
from console.queries.statuses.selection import StatusFilter
from console.queries.timeline.positions import read_entries
from console.queries.timeline.timeline import find_timeline
from console.web.access.roles import Identity, Role
from console.web.lists.csv_stream import send_csv
from console.web.lists.moments import MomentText, parse_moment
from console.web.live import LivePage
from console.web.pages.message import DATABASE_ERRORS
from console.web.render import WrongParameter, json_reply, parameters, render_page
from console.web.route import API, Json, Parameters, Route
from console.web.state import ConsoleState, identity_of, state_of
from stream.entry import Entry, EntryId, InvalidEntry
from stream.keys import Shard
from worker.events.event import InvalidStatus, mask
from worker.events.vonage import parse

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


async def read(state: ConsoleState, chosen: MessagesPage, _identity: Identity) -> Json:
    """Return a page of messages.

    If no message in the tables matches the text, ``waiting`` has the message in Redis that does. Raises WrongParameter,
    QueryTooSlow, and the errors of the database.
    """
    try:
        page = await find_messages(state.engine, chosen.make_filter(state), chosen.after)
    except InvalidCursor:
        raise WrongParameter({"after": "It does not belong to this list."}) from None
    waiting, searched = await _search_redis(state, chosen.q) if chosen.q and not page.messages else ([], [])
    return {
        "messages": [_describe(row) for row in page.messages],
        "next": page.next,
        "newest": page.newest,
        "matched": list(page.matched),
        "searched": ["tables", *searched] if chosen.q and not page.messages else [],
        "waiting": waiting,
    }


def _describe(row: MessageRow, *, reveal: bool = False) -> Json:
    show = str if reveal else mask
    values = {name: getattr(row, name) for name in CSV_COLUMNS}
    times = {name: at.isoformat() if (at := values[name]) else None for name in ("first_at", "status_at")}
    return {**values, **times, "to": row.to and show(row.to), "sender": row.sender and show(row.sender)}


async def _search_redis(state: ConsoleState, text: str) -> tuple[list[Json], list[str]]:
    """Return the message that Redis has and the tables do not, and the places that were searched."""
    entry_id = _parse_entry_id(text)
    try:
        for shard in state.shards:
            if entry_id is None:
                timeline = await find_timeline(state.server, shard, text, [], reveal=False)
                matches = [text] if timeline.webhooks else []
            else:
                matches = await _read_entry(state.server, shard, entry_id) if entry_id.shard == shard.number else []
            if matches:
                return [{"message_uuid": matches[0], "entry": text if entry_id else None}], []
    except RedisError:
        return [], ["redis away"]
    return [], ["stream"] if entry_id else ["unsettled entries", "delayed retries", "dead letters"]


async def _read_entry(server: Redis, shard: Shard, entry_id: EntryId) -> list[str]:
    """Return the message of a live entry; nothing if the stream does not have it, or its payload is not a status."""
    entries = await read_entries(server, shard, [entry_id])
    try:
        return [parse(Entry.from_fields(fields), str(entry_id)).message_uuid for fields in entries.values()]
    except (InvalidEntry, InvalidStatus):
        return []


def _parse_entry_id(text: str) -> EntryId | None:
    try:
        return EntryId.from_text(text)
    except ValueError:
        return None


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
        data["waiting"], data["searched"] = await _search_redis(state, chosen.q)
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
    entry = chosen.q if chosen.q and _parse_entry_id(chosen.q) else None
    path = f"/messages/{quote(matches[0]['message_uuid'], safe='')}"
    return f"{path}?{urlencode({'entry': entry})}" if entry else path


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
        with suppress(QueryTooSlow, InvalidCursor):
            newer = await count_newer(state.engine, chosen.make_filter(state), chosen.newest, NEWER_AT_MOST)
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
