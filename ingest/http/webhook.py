"""The handler of every webhook: raw bytes in, authenticated, appended, answered. The body is never parsed here.

What the provider does with an answer decides which one is right: it sends again after 429 and 5xx only, so any other
4xx loses that status for good (https://developer.vonage.com/en/messages/concepts/message-status).
"""

import secrets
from collections.abc import Callable
from itertools import count

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.web_request import BaseRequest

from ingest.append.group_commit import Appender, NotKept
from ingest.auth.jwt import Proof, Unsigned, WrongSignature
from ingest.auth.policy import UNPROVED, Authentication
from ingest.auth.quarantine import Quarantine
from ingest.http.body import Bodies, Body, BodyRefused, TooSlow
from ingest.http.connections import Connections
from ingest.http.responses import KEPT
from ingest.settings import IngestSettings
from runtime.metrics import CONNECTIONS_CLOSED, WEBHOOKS
from stream.entry import Entry

RETRY_AFTER = {"Retry-After": "5"}
ALLOW = {"Allow": "GET,POST"}
FORM = "application/x-www-form-urlencoded"
LENGTH_DIGITS = 20  # Python reads no number of thousands of digits
HEADER_CHARACTERS = 256
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

ClockMs = Callable[[], int]


class _Refused(Exception):  # noqa: N818 - named for what becomes of the request
    """The request is answered with this status, and nothing of it is appended."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Webhook:
    """Answers every request: 200 with an empty body means Redis has confirmed the payload."""

    def __init__(
        self,
        appender: Appender,
        authentication: Authentication,
        quarantine: Quarantine,
        connections: Connections,
        clock_ms: ClockMs,
        settings: IngestSettings,
    ) -> None:
        self._appender = appender
        self._authentication = authentication
        self._quarantine = quarantine
        self._connections = connections
        self._clock_ms = clock_ms
        self._paths = frozenset(settings.routes)
        self._bodies = Bodies(settings.max_body, settings.body_seconds)
        self._wrong_signature = int(settings.wrong_signature)
        process = secrets.token_hex(8)
        self._receipts = (f"{process}-{n:x}" for n in count())

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Append the request's payload and answer, or refuse it."""
        try:
            self._require_good_head(request)
            with self._bodies.open() as body:
                query = _raw_query(request)
                payload = query if request.method == hdrs.METH_GET else await _read(request, body)
                _require_payload(payload)
                proof = self._authenticate(request, payload, query)
                await self._appender.append(self._entry(request, payload, query, proof))
        except TooSlow:
            return await _cut_off(request)
        except (_Refused, BodyRefused) as refused:
            return _answer(request, refused.status)
        except NotKept:
            return _answer(request, 503)
        self._connections.was_of_use(request.transport)
        if not KEPT.fits(request):
            return _answer(request, 200)
        WEBHOOKS.count("200")
        return KEPT

    def _require_good_head(self, request: web.BaseRequest) -> None:
        if not _is_framed_well(request):
            raise _Refused(400)
        if request.raw_path not in self._paths and request.path not in self._paths:  # the first needs no parsing
            raise _Refused(404)
        if request.method not in {hdrs.METH_GET, hdrs.METH_POST}:
            raise _Refused(405)
        if not _is_plain(request):
            raise _Refused(415)

    def _authenticate(self, request: web.BaseRequest, payload: bytes, query: bytes) -> Proof:
        authorizations = request.headers.getall(hdrs.AUTHORIZATION, ())
        try:
            return self._authentication.check(authorizations, payload)
        except Unsigned:  # a fault of the provider's, which sends it again, signed, after a 5xx
            raise _Refused(503) from None
        except WrongSignature as exc:
            entry = self._entry(request, payload, query, UNPROVED)
            self._quarantine.put(entry, exc.reason, authorizations[0] if authorizations else "")
            raise _Refused(self._wrong_signature) from None

    def _entry(self, request: web.BaseRequest, payload: bytes, query: bytes, proof: Proof) -> Entry:
        headers = request.headers
        by_get = request.method == hdrs.METH_GET
        return Entry(
            payload=payload,
            content_type=FORM if by_get else _clean(headers.get(hdrs.CONTENT_TYPE, "")),
            received_ms=self._clock_ms(),
            receipt=next(self._receipts),
            verified=proof.verified,
            account=proof.account,
            application=proof.application,
            signature=proof.signature,
            query=query or None if not by_get else None,
            traceparent=_clean(traceparent) if (traceparent := headers.get("traceparent")) else None,
        )


def _is_framed_well(request: web.BaseRequest) -> bool:
    """Whether everybody on the way must agree where the request ends.

    The parser refuses most of what could be read in two ways; these it lets through: Transfer-Encoding beside a
    Content-Length or in HTTP/1.0, codings other than chunked (https://www.rfc-editor.org/rfc/rfc9112#section-6.1), a
    length of endless zeros, and versions of HTTP that it does not speak.
    """
    if request._version not in (HttpVersion11, HttpVersion10):  # noqa: SLF001 - the property remembers what it gave
        request._version = HttpVersion10  # noqa: SLF001 - aiohttp would answer in the client's version
        return False
    length, codings = request.headers.get(hdrs.CONTENT_LENGTH), request.headers.get(hdrs.TRANSFER_ENCODING)
    if codings is not None:
        return codings.lower() == "chunked" and length is None and request.version == HttpVersion11
    return length is None or len(length) <= LENGTH_DIGITS


def _is_last(request: BaseRequest) -> bool:
    """Whether the connection has to end with it: the parser drops what comes behind CONNECT and some upgrades."""
    return bool(request._message.upgrade)  # noqa: SLF001 - aiohttp tells it nowhere else


def _is_plain(request: web.BaseRequest) -> bool:
    lines = request.headers.getall(hdrs.CONTENT_ENCODING, ())
    return not lines or all(coding.strip().lower() in {"", "identity"} for line in lines for coding in line.split(","))


def _require_payload(payload: bytes) -> None:
    if not payload:
        raise _Refused(400)


async def _read(request: web.BaseRequest, body: Body) -> bytes:
    content = request.content
    if content.is_eof():
        return body.take(content)
    body.announce(request.content_length)
    await _ask_for_more(request)
    return await body.read(content)


async def _ask_for_more(request: web.BaseRequest) -> None:
    if request.transport is None:
        raise ConnectionResetError
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(CONTINUE)
        request.writer.output_size = 0  # the answer is still to come


def _raw_query(request: web.BaseRequest) -> bytes:
    """Return the query's bytes as sent; aiohttp's own query is decoded and normalised."""
    raw = request.raw_path
    return raw.partition("?")[2].encode(errors="surrogateescape") if "?" in raw else b""


def _clean(header: str) -> str:
    return (header if header.isascii() else header.encode(errors="replace").decode())[:HEADER_CHARACTERS]


def _answer(request: web.BaseRequest, status: int) -> web.Response:
    """Answer in aiohttp's own way. A client that has still to send of it is told that the connection ends here."""
    WEBHOOKS.count(str(status))
    response = web.Response(status=status, headers={503: RETRY_AFTER, 405: ALLOW}.get(status))
    if status == 400 or not request.content.is_eof() or _is_last(request):  # noqa: PLR2004 - the code
        response.force_close()
    return response


async def _cut_off(request: web.BaseRequest) -> web.Response:
    """Refuse it and hang up, without waiting for the rest."""
    CONNECTIONS_CLOSED.labels("body").inc()
    response = _answer(request, 503)
    await response.prepare(request)
    await response.write_eof()
    request.protocol.force_close()
    return response
