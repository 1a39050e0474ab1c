"""Finds messages by one text, and lists them by filters, newest first, page by page.

Messages are ordered by the time of their first status. That time hardly ever changes, so a page stays as it is while
statuses arrive.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncEngine

from console.queries.statuses.figures import Capped

Match = Literal["message_uuid", "client_ref", "number", "event_id", "entry"]

PAGE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """The messages to list. None selects all."""

    text: str | None = None
    """A message id, client_ref, number (also with ``+``, blanks, dots, dashes or brackets), event id or entry id."""
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
    raise NotImplementedError(engine, chosen, after, limit)


async def count_newer(engine: AsyncEngine, chosen: MessageFilter, newest: str, limit: int = 1000) -> Capped:
    """Return how many messages were added to the list above its newest message. Raises as ``find_messages``."""
    raise NotImplementedError(engine, chosen, newest, limit)
