"""Finds messages by one text, and lists them by filters, newest first, page by page.

Messages are ordered by the time of their first status. That time hardly ever changes, so a page stays as it is while
statuses arrive.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, func, literal, literal_column, select, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from console.queries.statuses.figures import Capped
from console.queries.statuses.ranges import Range, plan_ranges
from console.queries.statuses.reading import open_reader
from worker.events.event import SUBMITTED
from worker.events.number_hash import PREFIX, NumberHash
from worker.events.numbers import digits_of
from worker.events.text import clean
from worker.store.contribution import FINAL
from worker.store.tables import INDEXED_LENGTH, UNKNOWN_STATUS, messages, status_events

Match = Literal["message_uuid", "client_ref", "number", "event_id", "entry"]

PAGE = 50
FIRST_ROWS = 10_000
"""A list looks at this many messages before it asks the roll-ups where the others are; not at those of an error."""
MOST_HOURS = 50
"""A count of newer messages looks at this many hours that have a message of the list."""

_LATEST = datetime.max.replace(tzinfo=UTC)
_ENTRY = re.compile(r"(\d{1,4}/)?\d{13,}-\d+", re.ASCII)
_EVENT_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NUMBER = re.compile(r"\+?\d{4,20}", re.ASCII)
_FILLERS = str.maketrans("", "", " .-()/\u00a0\u202f")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """The messages to list. None selects all."""

    text: str | None = None
    """A message id, client_ref, number (also with ``+``, blanks, dots, dashes or brackets), hash, event or entry id."""
    status: str | None = None
    """The current status."""
    is_open: bool = False
    """Only messages that are neither delivered, read, rejected nor undeliverable now."""
    channel: str | None = None
    account: str | None = None
    error: str | None = None
    """The error code of the current status."""
    since: datetime | None = None
    """The earliest time of the first status."""
    until: datetime | None = None
    """The first status is earlier than this."""
    number_hash: NumberHash | None = None
    """The hash of numbers in the tables. The text is then looked for as it is and hashed."""


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One message of a list. Numbers are as stored: the caller masks them."""

    message_uuid: str
    first_at: datetime | None
    """When the first status was reached; None if only an earlier version of the worker has written the message."""
    status: str
    status_at: datetime | None
    channel: str | None
    to: str | None
    sender: str | None
    client_ref: str | None
    account: str | None
    application: str | None
    error_code: str | None
    network_code: str | None
    price: str | None
    currency: str | None


@dataclass(frozen=True, slots=True)
class MessagePage:
    """One page of a list."""

    messages: Sequence[MessageRow]
    next: str | None
    """Pass it as ``after`` for the next page; None at the end."""
    matched: Sequence[Match]
    """The fields that the text of the filter was looked for in, and found; empty without a text."""
    newest: str | None
    """Pass it to ``count_newer``; None if the page is empty."""


class InvalidCursor(ValueError):  # noqa: N818 - named for what is wrong
    """The text is not a cursor of a page."""


async def find_messages(
    engine: AsyncEngine, chosen: MessageFilter, after: str | None = None, limit: int = PAGE
) -> MessagePage:
    """Return a page of messages. Raises InvalidCursor, or QueryTooSlow if the filter needs a shorter time."""
    cursor = None if after is None else _decode(after)
    async with open_reader(engine) as connection:
        if _plan_lookups(chosen):
            rows, matched = await _search(connection, chosen, cursor, limit)
        else:
            rows, matched = await _list(connection, chosen, cursor, limit), []
    page = [MessageRow(*row) for row in rows[:limit]]
    return MessagePage(
        page,
        next=_encode(page[-1]) if len(rows) > limit else None,
        matched=matched,
        newest=_encode(page[0]) if page else None,
    )


async def count_newer(engine: AsyncEngine, chosen: MessageFilter, newest: str, limit: int = 1000) -> Capped:
    """Return how many messages were added above the newest one of a list without a text. Raises as above."""
    cursor, until, number = _decode(newest), chosen.until or _LATEST, 0
    ids = _select(chosen).with_only_columns(messages.c.message_uuid).order_by(None)
    async with open_reader(engine) as connection:
        ranges: Sequence[Range] = [(cursor[0], until)]
        if _has_rollup(chosen):
            ranges = await _plan(connection, chosen, cursor[0], until, 1)
        for start, end in ranges[:MOST_HOURS]:
            conditions = _starts(max(start, chosen.since or start), cursor), *_ends(min(end, until))
            part = ids.where(*conditions).limit(limit + 1 - number)
            number += (await connection.execute(select(func.count()).select_from(part.subquery()))).scalar_one()
            if number > limit:
                break
    return Capped(min(number, limit), is_exact=number <= limit and len(ranges) <= MOST_HOURS)


_COLUMNS = [messages.c[name] for name in MessageRow.__dataclass_fields__]
_key = tuple_(messages.c.first_at, messages.c.message_uuid)
_NEWEST_FIRST = messages.c.first_at.desc(), messages.c.message_uuid.desc()

Cursor = tuple[datetime, str]


def _starts(since: datetime, newest: Cursor) -> ColumnElement[bool]:
    """Return the condition that a message is not earlier than a time, and comes before the cursor in a list."""
    return messages.c.first_at >= since if since > newest[0] else _key > newest


def _ends(until: datetime | None, after: Cursor | None = None) -> Sequence[ColumnElement[bool]]:
    """Return the condition for the end of a list: at most one, as SQLite may use any of several for its index."""
    if after is not None and (until is None or after[0] < until):
        return [_key < after]
    return [] if until is None else [messages.c.first_at < until]


def _bounds(chosen: MessageFilter, after: Cursor | None) -> Sequence[ColumnElement[bool]]:
    """Return the conditions for the time of a list, from a cursor on."""
    ends = _ends(chosen.until, after)
    return ends if chosen.since is None else [messages.c.first_at >= chosen.since, *ends]


def _select(chosen: MessageFilter, *conditions: ColumnElement[bool]) -> Select[Any]:
    """Return the statement for the messages of any time with these conditions and the filters, newest first."""
    statement = select(*_COLUMNS).where(*conditions).order_by(*_NEWEST_FIRST)
    for column, value in (
        (messages.c.status, chosen.status),
        (messages.c.channel, chosen.channel),
        (messages.c.account, chosen.account),
    ):
        if value is not None:
            statement = statement.where(column == clean(value))
    if chosen.status not in {None, SUBMITTED, *FINAL}:
        events = select(status_events.c.message_uuid).where(status_events.c.status == clean(chosen.status or ""))
        unknown = events.where(literal_column(UNKNOWN_STATUS))
        statement = statement.where(messages.c.message_uuid.in_(unknown))
    if chosen.error is not None:
        statement = statement.where(*_equals("error_code", chosen.error))
    if chosen.is_open:
        statement = statement.where(messages.c.status.not_in(FINAL))
    return statement


def _equals(column: str, value: str) -> Sequence[ColumnElement[bool]]:
    """Return conditions that the index of the column answers, in its order."""
    cleaned = clean(value)
    start = func.substr(messages.c[column], literal_column("1"), literal_column(str(INDEXED_LENGTH)))
    conditions = [messages.c[column].is_not(None), start == cleaned[:INDEXED_LENGTH]]
    if len(cleaned) >= INDEXED_LENGTH:
        # Not the column itself: SQLite would put its value into the first condition, and not use the index.
        conditions.append(messages.c[column].concat("") == cleaned)
    return conditions


def _plan_lookups(chosen: MessageFilter) -> Sequence[tuple[Match, Select[Any]]]:
    """Return a statement for each thing that the text can be, with one value each; none without a text."""
    text = clean((chosen.text or "").strip())
    if not text:
        return []
    message_uuid = messages.c.message_uuid
    lookups: list[tuple[Match, Select[Any]]] = [
        ("message_uuid", _select(chosen, message_uuid == text)),
    ]
    references = [text, *(chosen.number_hash.hide_reference(text) if chosen.number_hash else ())]
    lookups += [("client_ref", _select(chosen, *_equals("client_ref", value))) for value in dict.fromkeys(references)]
    if _EVENT_ID.fullmatch(text.lower()):
        ids = [text.lower(), *([chosen.number_hash.hash_id(text.lower())] if chosen.number_hash else [])]
        events = select(status_events.c.message_uuid).where(status_events.c.event_id.in_(ids))
        lookups.append(("event_id", _select(chosen, message_uuid.in_(events))))
    elif _ENTRY.fullmatch(text):
        entry = text if "/" in text else f"0/{text}"
        events = select(status_events.c.message_uuid).where(status_events.c.entry == entry)
        lookups.append(("entry", _select(chosen, message_uuid.in_(events))))
    elif _NUMBER.fullmatch(number := text.translate(_FILLERS)):
        digits = number.removeprefix("+").removeprefix("00")
        values = sorted({text, number, digits, f"+{digits}"})
        values += [chosen.number_hash.hash(digits_of(text) or digits)] if chosen.number_hash else []
        lookups += [("number", _select(chosen, *_equals("to", value))) for value in values]
    elif text.startswith(PREFIX):
        lookups.append(("number", _select(chosen, *_equals("to", text))))
    return lookups


async def _search(
    connection: AsyncConnection, chosen: MessageFilter, cursor: Cursor | None, limit: int
) -> tuple[Sequence[Any], Sequence[Match]]:
    """Return up to ``limit`` + 1 messages with the text, and the fields that have it."""
    parts = []
    for match, statement in _plan_lookups(chosen):
        page = statement.where(*_bounds(chosen, cursor)).add_columns(literal(match).label("match"))
        parts.append(select(page.limit(limit + 1).subquery()))
    union = union_all(*parts).subquery()
    order = union.c.first_at.desc(), union.c.message_uuid.desc()
    rows = (await connection.execute(select(union).order_by(*order).limit(len(parts) * (limit + 1)))).all()
    distinct = {row.message_uuid: tuple(row)[:-1] for row in rows}
    return list(distinct.values())[: limit + 1], list(dict.fromkeys(row.match for row in rows))


async def _list(connection: AsyncConnection, chosen: MessageFilter, cursor: Cursor | None, limit: int) -> Sequence[Any]:
    """Return up to ``limit`` + 1 messages of a list."""
    if chosen.is_open and chosen.status in FINAL:
        return []
    first_at, statement = messages.c.first_at, _select(chosen).limit(limit + 1)
    whole = _bounds(chosen, cursor) or [first_at.is_not(None)]
    if not _has_rollup(chosen):
        return list(await connection.execute(statement.where(*whole)))
    rows, until = list[Any](), chosen.until or _LATEST
    if chosen.error is None:
        edge_row = _select(MessageFilter(), *whole).with_only_columns(first_at).offset(FIRST_ROWS).limit(1)
        if (edge := (await connection.execute(edge_row)).scalar()) is None:
            return list(await connection.execute(statement.where(*whole)))
        rows += await connection.execute(statement.where(first_at >= edge, *_ends(chosen.until, cursor)))
        if len(rows) > limit:
            return rows
        until, cursor = edge, None
    for start, end in await _plan(connection, chosen, chosen.since, cursor[0] if cursor else until, limit):
        since = max(start, chosen.since or start)
        rows += await connection.execute(statement.where(first_at >= since, *_ends(min(end, until), cursor)))
        if len(rows) > limit:
            break
    return rows[: limit + 1]


async def _plan(
    connection: AsyncConnection, chosen: MessageFilter, since: datetime | None, before: datetime, enough: int
) -> Sequence[Range]:
    """Return the ranges of time that have such messages, newest first."""
    return await plan_ranges(
        connection,
        status="open" if chosen.is_open and chosen.status is None else chosen.status,
        channel=chosen.channel,
        account=chosen.account,
        error=chosen.error,
        since=since,
        before=before,
        enough=enough,
    )


def _has_rollup(chosen: MessageFilter) -> bool:
    """Whether the roll-ups say more about the places of these messages than an index."""
    if chosen.status not in {None, SUBMITTED, *FINAL}:
        return chosen.error is not None
    return chosen.is_open or any(value is not None for value in (chosen.status, chosen.channel, chosen.account))


def _encode(row: MessageRow) -> str | None:
    return f"{row.first_at.isoformat()}_{row.message_uuid}" if row.first_at else None


def _decode(cursor: str) -> Cursor:
    time, _, message_uuid = cursor.partition("_")
    try:
        first_at = datetime.fromisoformat(time)
        in_utc = first_at.astimezone(UTC)  # SQLite compares times as texts
    except (ValueError, OverflowError):
        raise InvalidCursor("the cursor is not one of a page") from None
    if first_at.tzinfo is None or not message_uuid:
        raise InvalidCursor("the cursor is not one of a page")
    return in_utc, clean(message_uuid)
