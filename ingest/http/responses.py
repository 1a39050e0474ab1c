"""Every answer of the endpoint: its bytes, and for the operator the reason and the next step.

The provider sends a webhook again only after 429 and 5xx. Any other 4xx loses the status for good
(https://developer.vonage.com/en/messages/concepts/message-status).
"""

import re
import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

import structlog
from aiohttp import HttpVersion10, hdrs, web

from ingest.auth.proof import NEXT_STEPS, Reason
from ingest.http.connection import Connection
from ingest.metrics import ANSWER_SECONDS, WEBHOOKS
from runtime.log_throttle import LogThrottle
from runtime.metrics import SUPPRESSED

log = structlog.get_logger("ingest")

LOG_SECONDS = 10.0  # between two lines with the same answer, reason and account
SIGNATURE_REFUSALS = 1024
RETRY = "Retry-After: 5"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
REPEATED_HEADERS = 16
REPEATED = re.compile(
    rb"HTTP/1\.. 400 [^\0]*?\r\n\r\nDuplicate '(?!Host|Content-Length|Transfer-Encoding)([\w-]{1,32})' header"
)
"""aiohttp's answer to a header twice that may come once, unless it decides the host or the end of the request."""

_throttle = LogThrottle(1, seconds=LOG_SECONDS)
_suppressed = SUPPRESSED.labels("ackstream")


class Response(web.StreamResponse):
    """An answer as prebuilt bytes. It holds nothing of a request, so one object answers all requests.

    For the log, ``why`` is a word, ``what`` the next step, and ``account`` a configured account; an answer without
    ``what`` is not logged. ``last`` is the same answer for a connection that is closed after it.
    """

    def __init__(
        self,
        status: int,
        why: str = "",
        what: str = "",
        *,
        account: str | None = None,
        header: str = "",
        text: str = "",
        is_last: bool = False,
    ) -> None:
        super().__init__(status=status)
        self.why = why
        self.what = what
        self._account = account
        self._is_last = is_last
        self._labels = ("check" if what and not why else str(status),)
        self._text = text.encode()
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Length: {len(text)}"]
        lines += ["Content-Type: text/plain"] * bool(text) + [header] * bool(header) + ["Connection: close"] * is_last
        self._head = "".join(f"{line}\r\n" for line in lines).encode()
        self.last = (
            self if is_last else Response(status, why, what, account=account, header=header, text=text, is_last=True)
        )

    @property
    def keep_alive(self) -> bool:
        """Whether aiohttp waits for another request after this answer."""
        return not self._is_last

    def render(self) -> bytes:
        """Return the status line and the headers with the current date."""
        return self._head + _render_date(int(time.time()))

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send the answer, and wait for a slow client to read it. Raises ConnectionError if the client is gone."""
        connection = request.transport
        if not isinstance(connection, Connection):
            raise ConnectionResetError
        answer = self.render()
        if self._text and request.method != hdrs.METH_HEAD:
            answer += self._text
        if self._is_last and request.version == HttpVersion10:
            answer = answer.replace(b"HTTP/1.1", b"HTTP/1.0", 1)
        connection.send(answer)
        if request.protocol.writing_paused:
            await request.writer.drain()
        connection.finish_request(is_last=self._is_last)

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: `prepare` has sent everything."""

    def record(self, seconds: float | None = None) -> None:
        """Count the answer, unless it is a health check; log its next step, at most once per LOG_SECONDS.

        ``seconds`` is the time since the receipt of the request, None if unknown.
        """
        if self._text:
            return
        WEBHOOKS.count(self._labels)
        if seconds is not None:
            ANSWER_SECONDS.observe(seconds)
        if not self.what:
            return
        suppressed = _throttle.admit((self.status, self.why, self._account))
        if suppressed is None:
            _suppressed.inc()
            return
        more: dict[str, object] = {"account": self._account} if self._account else {}
        if suppressed:
            more["suppressed"] = suppressed
        if self.why:
            log.warning("webhook.refused", answer=self.status, reason=self.why, what=self.what, **more)
        else:
            log.info("webhook.check", answer=self.status, what=self.what, **more)


class RequestRefused(Exception):  # noqa: N818 - named for what becomes of the request
    """The request gets this answer and is not stored."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.why)
        self.response = response


STORED = Response(200)
CHECKED = Response(200, what="nothing: an empty request only checks that the URL answers, and is not stored")
LIVE = Response(200, text="live\n")
READY = Response(200, text="ready\n")
NOT_READY = Response(503, text="not ready\n", header=RETRY)
FAULT = Response(500, "fault", "report it, with the line ingest.failed of this log")

MALFORMED = Response(
    400,
    "malformed",
    "identify the client, or the proxy in front: this is not valid HTTP, or a proxy could disagree about its end",
)
BROKEN_BODY = Response(400, "body", "check the proxy in front: the chunks of a body were malformed")
NO_PAYLOAD = Response(400, "payload", "identify the client: a GET has its payload in the URL's query, not in a body")
UNKNOWN_PATH = Response(
    404,
    "path",
    "set the URL in the provider's dashboard to a path of ACKSTREAM_PATHS, or add the path to ACKSTREAM_PATHS",
)
WRONG_METHOD = Response(405, "method", "identify the client: webhooks use GET or POST", header="Allow: GET,POST")
TOO_LARGE = Response(413, "size", "raise ACKSTREAM_MAX_BODY if the provider sends such bodies")
COMPRESSED = Response(415, "encoding", "switch off compression of request bodies in the proxy in front")
TOO_SLOW = Response(
    503, "slow-body", "check the network, or raise ACKSTREAM_BODY_SECONDS; the provider sends it again", header=RETRY
)
NO_ROOM = Response(503, "bodies", "check ackstream_body_bytes: all bodies together use too much memory", header=RETRY)
NOT_STORED = Response(
    503, "not-stored", "see /ready: neither Redis nor the spool stores it; the provider sends it again", header=RETRY
)
LOST_BODY = Response(503, "lost-body", "check the proxy in front: a signed webhook came without its body", header=RETRY)


@lru_cache(maxsize=SIGNATURE_REFUSALS)
def refuse_signature(status: int, why: Reason, account: str | None) -> Response:
    """Return the answer to a webhook with a missing or wrong signature, by the reason and the configured account."""
    header = RETRY if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ""
    return Response(status, why, NEXT_STEPS[why], account=account, header=header)


@lru_cache(maxsize=REPEATED_HEADERS)
def refuse_repeated(header: str) -> Response:
    """Return the answer to a header that comes twice. A 4xx would lose the status."""
    what = f"let the proxy in front send {header} once; the provider sends the webhook again"
    return Response(503, "repeated-header", what, header=RETRY)


def replace_error(error: bytes) -> bytes:
    """Return the bytes to send instead of aiohttp's own error response, and record the answer."""
    if repeated := REPEATED.match(error):
        response = refuse_repeated(repeated[1].decode())
    else:
        response = MALFORMED if error[9:12] == b"400" else FAULT
    response.record()
    return response.last.render()


@lru_cache(maxsize=1)
def _render_date(seconds: int) -> bytes:
    return f"Date: {formatdate(seconds, usegmt=True)}\r\n\r\n".encode()
