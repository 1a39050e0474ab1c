"""The ``forward:URL`` handler: posts each event to a URL, with the headers of Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

=====================  =============================================================================================
the receiver           then
=====================  =============================================================================================
answers 2xx            the event is handled
answers 410            the group is paused until an operator resumes it
answers 429 or 503     with a ``Retry-After`` (seconds or a date, at most 24 h) it is tried again then; else as below
answers anything else  it is tried again by the schedule; a redirect is not followed
does not answer        likewise: cannot be reached, closes early, or takes longer than the timeout
=====================  =============================================================================================

``webhook-id`` is the event's id, the same at every attempt, so that the receiver can tell that it has seen it before.
An error's text quotes up to ANSWER_BYTES of the answer, without the secrets that were sent; its reason does not.
"""

import asyncio
import base64
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import aiohttp
import orjson
from standardwebhooks import Webhook
from yarl import URL

from stream.redis.client import name_error
from worker.events.event import StatusEvent
from worker.handlers.errors import LONGEST_DELAY_SECONDS, Gone, Refused, Throttled, TimedOut

ANSWER_BYTES = 1024
DRAINED_BYTES = 64 * 1024
SHORTEST_SECRET = 6  # characters; shorter texts come up by chance
DRAIN_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 4.0  # less than what common servers keep an idle connection for

ALL = ""
"""Stands for all groups that have no secrets of their own."""


def open_session() -> aiohttp.ClientSession:
    """Open what all forwarding of a process shares: idle connections are used again. Keeps no cookies."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        headers={"User-Agent": "ackstream", "Accept-Encoding": "identity"},
        auto_decompress=False,
    )


class Forward:
    """Posts to one URL. Without secrets what it sends is not signed."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        secrets: Sequence[str],
        timeout_seconds: float,
        *,
        headers: Mapping[str, str] | None = None,
        raw: bool = False,
        query: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._session = session
        self._url = url
        self._webhooks = [Webhook(secret) for secret in secrets]
        self._timeout_seconds = timeout_seconds
        self._headers = dict(headers or {})
        self._hidden = _texts_to_hide(url, self._headers.values())
        self._raw = raw
        self._query = query
        self._clock = clock

    def alone(self, _event: StatusEvent) -> bool:
        """Return True: every event is a request of its own."""
        return True

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        """Post the one event. Raises Gone, Throttled, Refused and TimedOut."""
        (event,) = events
        body, content_type = (
            original_body(event) if self._raw else (encode_event(event, query=self._query), "application/json")
        )
        headers = {**self._headers, "Content-Type": content_type, **self._signed(event.event_id, body)}
        try:
            async with asyncio.timeout(self._timeout_seconds) as limit:
                status, after, answer = await self._post(body, headers)
        except TimeoutError:
            if limit.expired():
                raise TimedOut(self._timeout_seconds) from None
            raise Refused("no answer (TimeoutError)") from None
        except (aiohttp.ClientError, OSError) as exc:  # its text may name the URL
            raise Refused(f"no answer ({name_error(exc)})") from None
        self._judge(status, after, self._without_secrets(answer))

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, str | None, bytes]:
        async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
            answer, is_whole = await _read_answer(response)
            if not is_whole:
                response.close()
            return response.status, response.headers.get("Retry-After"), answer

    def _signed(self, event_id: str, body: bytes) -> dict[str, str]:
        seconds = int(self._clock())
        headers = {"webhook-id": event_id, "webhook-timestamp": str(seconds)}
        if self._webhooks:
            at = datetime.fromtimestamp(seconds, UTC)
            headers["webhook-signature"] = " ".join(one.sign(event_id, at, body.decode()) for one in self._webhooks)
        return headers

    def _without_secrets(self, answer: bytes) -> str:
        """Return what the receiver said as text, with what was sent to it in confidence left out."""
        text = answer.decode(errors="replace")
        for secret in self._hidden:
            text = text.replace(secret, "…")
        return text[:ANSWER_BYTES].strip()

    def _judge(self, status: int, after: str | None, answer: str) -> None:
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return
        if status == HTTPStatus.GONE:
            raise Gone("answered 410")
        seconds = None
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE) and after is not None:
            seconds = after_seconds(after, self._clock())
        if seconds is not None:
            raise Throttled(seconds, f"answered {status}", answer)
        raise Refused(f"answered {status}", answer)


def _texts_to_hide(url: URL, values: Iterable[str]) -> Sequence[str]:
    """Return what an answer is quoted without, the longest first: the secrets of the URL and of the headers."""
    parts = [url.raw_path_qs if url.raw_query_string else "", url.password or "", *url.query.values()]
    texts = {text for value in values for text in (value, *value.split())} | set(parts)
    return sorted((text for text in texts if len(text) >= SHORTEST_SECRET), key=len, reverse=True)


async def _read_answer(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """Return the first bytes of the answer, and whether all was read: then the connection can be used again.

    What is long, slow or broken is not read to its end.
    """
    left, first = DRAINED_BYTES, b""
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while left > 0:
                piece = await response.content.read(left)
                if not piece:
                    return first, True
                left -= len(piece)
                if len(first) < 2 * ANSWER_BYTES:  # a secret at the cut is hidden whole
                    first += piece[: 2 * ANSWER_BYTES]
    return first, False


def after_seconds(value: str, now: float) -> float | None:
    """Return what a ``Retry-After`` asks for, 0 to 24 h; None if it cannot be read."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), LONGEST_DELAY_SECONDS)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, IndexError):
        return None
    at = date.replace(tzinfo=date.tzinfo or UTC).timestamp()
    return min(max(at - now, 0.0), LONGEST_DELAY_SECONDS)


def original_body(event: StatusEvent) -> tuple[bytes, str]:
    """Return the payload as the provider sent it, and its type; of a GET it is the query."""
    is_json = event.raw.lstrip()[:1] == b"{"
    return event.raw, "application/json" if is_json else "application/x-www-form-urlencoded"


def encode_event(event: StatusEvent, *, query: bool = False) -> bytes:
    """Return the event as JSON, the same shape for everything that the provider sends; None is null.

    ``query`` adds the parameters of the webhook's URL, which no signature proves.
    """
    left_out = {"raw", "attempt", "sender"} | (set() if query else {"query"})
    data = {name: getattr(event, name) for name in StatusEvent.__slots__ if name not in left_out}
    return orjson.dumps({"type": "message.status", "timestamp": event.time, "data": {**data, "from": event.sender}})


def parse_secrets(text: str) -> Mapping[str, Sequence[str]]:
    """Read ``whsec_…`` or ``GROUP=whsec_…``, comma separated or one a line. Raises ValueError.

    A group may stand there twice while its secret changes: then what is sent bears both signatures.
    """
    found: dict[str, list[str]] = {}
    for one in filter(None, (part.strip() for part in text.replace("\n", ",").split(","))):
        group, begins, rest = one.rpartition("whsec_")
        if not begins or (group and not group.endswith("=")):
            raise ValueError("a secret begins with whsec_")
        if not base64.b64decode(rest + "=" * (-len(rest) % 4), validate=True):
            raise ValueError("an empty secret")
        found.setdefault(group.removesuffix("=") or ALL, []).append(begins + rest)
    return found
