"""The ``forward:URL`` handler: posts each event to a URL, with the headers of Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

=====================  =============================================================================================
the receiver           the worker
=====================  =============================================================================================
answers 2xx            acks the entry
answers 410            pauses the group until an operator resumes it
answers 429 or 503     tries again after ``Retry-After`` (seconds or a date, at most 24 h), or else by the schedule
answers otherwise      tries again by the schedule; it does not follow redirects
does not answer        tries again by the schedule: cannot be reached, closes early, or exceeds the timeout
=====================  =============================================================================================

``webhook-id`` is the id of the event. It is the same at every attempt, so the receiver can detect repeats.
The text of an error quotes up to ANSWER_BYTES of the answer, without the secrets of the request. Its reason does not.
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

from stream.payload import FORM
from stream.redis.client import name_error
from worker.events.event import StatusEvent
from worker.handlers.errors import LONGEST_DELAY_SECONDS, Gone, Refused, Throttled, TimedOut

ANSWER_BYTES = 1024
DRAINED_BYTES = 64 * 1024
SHORTEST_SECRET = 6  # characters; shorter texts occur in answers by chance
DRAIN_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 4.0  # common servers keep an idle connection for longer

ALL = ""
"""The key of the secrets for all groups without secrets of their own."""


def open_session(trace_configs: Sequence[aiohttp.TraceConfig] = ()) -> aiohttp.ClientSession:
    """Open the HTTP client that all forward handlers share. It reuses idle connections and keeps no cookies."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        headers={"User-Agent": "ackstream", "Accept-Encoding": "identity"},
        auto_decompress=False,
        trace_configs=[*trace_configs],
    )


class Forward:
    """Posts events to one URL. Without secrets it does not sign the requests."""

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
        """Return True: every event has a request of its own."""
        return True

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        """Post the event. Raises Gone, Throttled, Refused or TimedOut."""
        (event,) = events
        body, content_type = (
            original_body(event) if self._raw else (encode_event(event, query=self._query), "application/json")
        )
        headers = {**self._headers, "Content-Type": content_type, **self._sign(event.event_id, body)}
        try:
            async with asyncio.timeout(self._timeout_seconds) as limit:
                status, after, answer = await self._post(body, headers)
        except TimeoutError:
            if limit.expired():
                raise TimedOut(self._timeout_seconds) from None
            raise Refused("no answer (TimeoutError)") from None
        except (aiohttp.ClientError, OSError) as exc:  # its text may name the URL
            raise Refused(f"no answer ({name_error(exc)})") from None
        self._raise_for_status(status, after, self._remove_secrets(answer))

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, str | None, bytes]:
        async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
            answer, is_whole = await _read_answer(response)
            if not is_whole:
                response.close()
            return response.status, response.headers.get("Retry-After"), answer

    def _sign(self, event_id: str, body: bytes) -> dict[str, str]:
        seconds = int(self._clock())
        headers = {"webhook-id": event_id, "webhook-timestamp": str(seconds)}
        if self._webhooks:
            at = datetime.fromtimestamp(seconds, UTC)
            headers["webhook-signature"] = " ".join(
                webhook.sign(event_id, at, body.decode()) for webhook in self._webhooks
            )
        return headers

    def _remove_secrets(self, answer: bytes) -> str:
        """Return the answer as text, without the secrets of the request."""
        text = answer.decode(errors="replace")
        for secret in self._hidden:
            text = text.replace(secret, "…")
        return text[:ANSWER_BYTES].strip()

    def _raise_for_status(self, status: int, after: str | None, answer: str) -> None:
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
    """Return the secrets of the URL and of the headers, the longest first."""
    parts = [url.raw_path_qs if url.raw_query_string else "", url.password or "", *url.query.values()]
    texts = {text for value in values for text in (value, *value.split())} | set(parts)
    return sorted((text for text in texts if len(text) >= SHORTEST_SECRET), key=len, reverse=True)


async def _read_answer(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """Return the first bytes of the answer, and whether it was read to its end, so that the connection can be reused.

    A long, slow or broken answer is not read to its end.
    """
    unread, first = DRAINED_BYTES, b""
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while unread > 0:
                piece = await response.content.read(unread)
                if not piece:
                    return first, True
                unread -= len(piece)
                # Keep more than is quoted, so that no part of a secret remains at the end of the quotation.
                if len(first) < 2 * ANSWER_BYTES:
                    first += piece[: 2 * ANSWER_BYTES]
    return first, False


def after_seconds(value: str, now: float) -> float | None:
    """Return the seconds of a ``Retry-After``, 0 to 24 h; None if it cannot be read."""
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
    """Return the payload as the provider sent it, and its content type. The payload of a GET is its query."""
    is_json = event.raw.lstrip()[:1] == b"{"
    return event.raw, "application/json" if is_json else FORM


def encode_event(event: StatusEvent, *, query: bool = False) -> bytes:
    """Return the event as JSON, with the same shape for all APIs of the provider. None is null.

    ``query`` adds the parameters of the URL of the webhook, which no signature covers.
    """
    excluded = {"raw", "attempt", "sender", "traceparent"} | (set() if query else {"query"})
    data = {name: getattr(event, name) for name in StatusEvent.__slots__ if name not in excluded}
    return orjson.dumps({"type": "message.status", "timestamp": event.time, "data": {**data, "from": event.sender}})


def parse_secrets(text: str) -> Mapping[str, Sequence[str]]:
    """Parse ``whsec_…`` or ``GROUP=whsec_…``, separated by commas or line ends. Raises ValueError.

    A group may have two secrets while its secret changes. Its requests then have both signatures.
    """
    secrets: dict[str, list[str]] = {}
    for item in filter(None, (part.strip() for part in text.replace("\n", ",").split(","))):
        group, prefix, rest = item.rpartition("whsec_")
        if not prefix or (group and not group.endswith("=")):
            raise ValueError("a secret starts with whsec_")
        if not base64.b64decode(rest + "=" * (-len(rest) % 4), validate=True):
            raise ValueError("an empty secret")
        secrets.setdefault(group.removesuffix("=") or ALL, []).append(prefix + rest)
    return secrets
