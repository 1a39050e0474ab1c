"""Handles every request: authenticates and stores the raw payload, then answers. The body is not parsed here."""

import secrets
from collections.abc import Callable
from http import HTTPStatus
from itertools import count
from time import perf_counter

from aiohttp import HttpVersion10, HttpVersion11, StreamReader, hdrs, web
from aiohttp.http import RawRequestMessage

from ingest.append.group_commit import NotStored
from ingest.append.message_appender import AnyAppender
from ingest.auth.policy import Authentication, count_verified
from ingest.auth.proof import UNPROVED, Proof, Unsigned, WrongSignature
from ingest.auth.quarantine import Quarantine
from ingest.http import responses
from ingest.http.body import Bodies
from ingest.http.connection import Connection
from ingest.http.request import Request
from ingest.http.responses import RequestRefused, Response
from ingest.http.server import report_fault
from ingest.metrics import CONNECTIONS_CLOSED
from ingest.settings import IngestSettings
from stream.entry import Entry
from stream.payload import FORM
from stream.probe import PREFIX, find_probe

LENGTH_DIGITS = 20  # Python cannot parse a number of thousands of digits
HEADER_CHARACTERS = 256

COMPRESSIONS = frozenset(
    ("aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "pack200-gzip", "x-compress", "x-gzip")
) | {"zstd"}
"""Content codings that change the bytes: https://www.iana.org/assignments/http-parameters without ``identity``."""

ClockMs = Callable[[], int]
NotReadyReason = Callable[[], str | None]


class Webhook:
    """Answers every request. A 200 to a request with a payload means that the payload is stored.

    ``not_ready_reason`` returns the reason why the process is not ready, None if it is ready.
    """

    traceparent: str | None = None
    """The context of the span of the requests that this object handles; None without a span."""

    def __init__(
        self,
        appender: AnyAppender,
        authentication: Authentication,
        quarantine: Quarantine,
        clock_ms: ClockMs,
        not_ready_reason: NotReadyReason,
        settings: IngestSettings,
    ) -> None:
        self._appender = appender
        self._authentication = authentication
        self._quarantine = quarantine
        self._clock_ms = clock_ms
        self._not_ready_reason = not_ready_reason
        self._paths = frozenset(settings.routes)
        self._spellings = frozenset(map(_normalize, settings.routes))
        self._bodies = Bodies(settings.max_body, settings.body_seconds)
        self._wrong_signature = int(settings.wrong_signature)
        process = secrets.token_hex(8)
        self._receipts = (f"{process}-{n:x}" for n in count())

    async def handle(self, request: Request) -> Response:
        """Store the payload of a request and return the answer, or refuse the request."""
        received = perf_counter()
        connection, content = request.transport, request.content
        if not isinstance(connection, Connection):  # the client is gone, so nothing is sent
            return responses.FAULT
        connection.start_request(content, is_chunked=bool(request.head.chunked))
        try:
            response = await self._take(request, connection, content)
        except RequestRefused as refused:
            response = refused.response
        except web.RequestPayloadError:
            response = responses.BROKEN_BODY
        except Exception as exc:  # noqa: BLE001 - an error of one request must not affect others
            if request.transport is None:  # the client left before its body was complete
                return responses.FAULT
            report_fault(exc)
            response = responses.FAULT
        response.record(perf_counter() - received)
        if response is responses.TOO_SLOW:
            CONNECTIONS_CLOSED.labels("body").inc()
            connection.send(response.last.render())
            connection.cut()
        return response if _stays_open(request.head, content, connection) else response.last

    def find_route(self, request: Request) -> str | None:
        """Return the path of webhooks that the request has; None for another path."""
        path = request.raw_path.partition("?")[0]
        if path in self._paths:
            return path
        spelling = _normalize(request.path)
        return spelling if spelling in self._spellings else None

    async def _take(self, request: Request, connection: Connection, content: StreamReader) -> Response:
        head = request.head
        _require_framing(head)
        path, _, query_text = head.path.partition("?")
        if path not in self._paths:  # the common case needs no URL parsing
            spelling = _normalize(request.path)
            if spelling not in self._spellings:
                return self._answer_elsewhere(spelling, head.method)
        query = query_text.encode(errors="surrogateescape")
        is_post = head.method == hdrs.METH_POST
        if is_post:
            if _is_compressed(head):
                raise RequestRefused(responses.COMPRESSED)
            payload = self._bodies.take(content) if content.is_eof() else await self._read(request, connection)
        elif head.method == hdrs.METH_GET or (head.method == hdrs.METH_HEAD and not query):
            payload = query
        else:
            raise RequestRefused(responses.WRONG_METHOD)
        try:
            if not payload:
                return self._answer_empty(request)
            proof = self._authenticate(head, payload, query)
            await self._appender.append(self._entry(head, payload, query, proof))
            count_verified(proof)
        except NotStored:
            raise RequestRefused(responses.NOT_STORED) from None
        finally:
            if is_post:
                self._bodies.release(payload)
        connection.count_use()
        return responses.STORED

    async def _read(self, request: Request, connection: Connection) -> bytes:
        self._bodies.announce(request.content_length)
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version == HttpVersion11:
            connection.send(responses.CONTINUE)
        return await self._bodies.read(request.content)

    def _answer_elsewhere(self, spelling: str, method: str) -> Response:
        """Answer a path without webhooks. Health checks are on this port too, for platforms with a single port."""
        if spelling not in {"/live", "/ready"}:
            raise RequestRefused(responses.UNKNOWN_PATH)
        if method not in {hdrs.METH_GET, hdrs.METH_HEAD}:
            raise RequestRefused(responses.WRONG_METHOD)
        if spelling == "/live":
            return responses.LIVE
        return responses.READY if self._not_ready_reason() is None else responses.NOT_READY

    def _answer_empty(self, request: Request) -> Response:
        """Answer a request without payload. Vonage sends one to check a URL before it saves the URL."""
        if request.method == hdrs.METH_POST:
            authorizations = request.headers.getall(self._authentication.header, ())
            try:
                is_lost = bool(authorizations) and self._authentication.check(authorizations, b"").signature == "wrong"
            except Unsigned:
                is_lost = False
            except WrongSignature:
                is_lost = True
            if is_lost:  # a proxy dropped the body; the provider sends it again
                raise RequestRefused(responses.LOST_BODY)
        elif request.body_exists:
            raise RequestRefused(responses.NO_PAYLOAD)
        return responses.CHECKED

    def _authenticate(self, head: RawRequestMessage, payload: bytes, query: bytes) -> Proof:
        authorizations = head.headers.getall(self._authentication.header, ())
        try:
            return self._authentication.check(authorizations, payload)
        except Unsigned as exc:  # the provider's mistake: after a 5xx it sends the webhook again with a signature
            status = int(HTTPStatus.SERVICE_UNAVAILABLE)
            raise RequestRefused(responses.refuse_signature(status, exc.reason, exc.account)) from None
        except WrongSignature as exc:
            budget = self._quarantine.find_budget(exc)
            if budget is not None:
                entry = self._entry(head, payload, query, UNPROVED)
                self._quarantine.put(entry, budget, exc.reason, authorizations)
            raise RequestRefused(responses.refuse_signature(self._wrong_signature, exc.reason, exc.account)) from None

    def _entry(self, head: RawRequestMessage, payload: bytes, query: bytes, proof: Proof) -> Entry:
        is_post = head.method == hdrs.METH_POST
        return Entry(  # names of the arguments would double the time
            payload,
            _clean(head.headers.get(hdrs.CONTENT_TYPE, "")) if is_post else FORM,
            self._clock_ms(),
            next(self._receipts),
            proof.verified,
            proof.account,
            proof.application,
            query or None if is_post else None,
            self.traceparent,
            proof.signature,
            find_probe(payload) if payload.startswith(PREFIX) else None,
        )


def _normalize(path: str) -> str:
    """Normalize a path: ignore letter case, trailing slashes, and slashes written twice."""
    return "/" + "/".join(filter(None, path.lower().split("/")))


def _require_framing(head: RawRequestMessage) -> None:
    """Raise RequestRefused if a proxy could disagree with us about the end of the request.

    The parser rejects most ambiguous requests. It accepts Transfer-Encoding together with Content-Length or in
    HTTP/1.0, codings other than chunked (https://www.rfc-editor.org/rfc/rfc9112#section-6.1), a Content-Length with
    thousands of leading zeros, and unsupported versions of HTTP.
    """
    version = head.version
    length, codings = head.headers.get(hdrs.CONTENT_LENGTH), head.headers.get(hdrs.TRANSFER_ENCODING)
    if codings is not None:
        is_clear = codings.lower() == "chunked" and length is None and version == HttpVersion11
    else:
        is_clear = version in (HttpVersion11, HttpVersion10) and (length is None or len(length) <= LENGTH_DIGITS)
    if not is_clear:
        raise RequestRefused(responses.MALFORMED.last)


def _is_compressed(head: RawRequestMessage) -> bool:
    lines = head.headers.getall(hdrs.CONTENT_ENCODING, ())
    return bool(lines) and any(coding.strip().lower() in COMPRESSIONS for line in lines for coding in line.split(","))


def _stays_open(head: RawRequestMessage, content: StreamReader, connection: Connection) -> bool:
    """Whether another request may follow. The parser drops the bytes after CONNECT and after some upgrades."""
    return (
        not head.should_close
        and content.is_eof()
        and head.version == HttpVersion11
        and hdrs.UPGRADE not in head.headers
        and head.method != hdrs.METH_CONNECT
        and not connection.is_stopping
    )


def _clean(header: str) -> str:
    return (header if header.isascii() else header.encode(errors="replace").decode())[:HEADER_CHARACTERS]
