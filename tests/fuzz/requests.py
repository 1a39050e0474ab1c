"""Mutated requests, sent to a real ingest: each gets whole answers without a body, none of them 500, and an end."""

import asyncio
import itertools
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.fuzz.mutations import mutate, splice
from tests.support.http.raw_http import LAST, Edge, good, open_socket, post
from tests.support.samples.events import body
from tests.support.samples.signed import bearer

AT_ONCE = 48
MOST_REQUESTS = 1_000_000
HANGS_SECONDS = 90.0
GROWTH_BYTES = 64 << 20
LOG_LINES = 100
ANSWER = re.compile(rb"HTTP/1\.[01] (\d{3}) [A-Za-z -]+\r\n((?:[A-Za-z-]+: [ -~]*\r\n)*)\r\n")
ALLOWED = {100, 200, 400, 401, 404, 405, 413, 415, 503}

Authorize = Callable[[bytes], Sequence[bytes]]
"""The headers that make a request with this body an authentic one."""


def leave_unsigned(_body: bytes) -> Sequence[bytes]:
    """None: ingest runs with signatures off."""
    return ()


def sign(body: bytes) -> Sequence[bytes]:
    """A token for it: ingest runs with signatures required."""
    return (b"Authorization: " + bearer(body).encode(),)


@dataclass(slots=True)
class RequestTally:
    """The answer."""

    sent: int = 0
    unanswered: int = 0
    answers: Counter[int] = field(default_factory=Counter)

    def __str__(self) -> str:
        answers = ", ".join(f"{number:,} of {status}" for status, number in sorted(self.answers.items()))
        return f"{self.sent:,} requests: {answers}; {self.unanswered:,} without an answer"


def request(seed: int, number: int, authorize: Authorize = leave_unsigned) -> bytes:
    """Return the one of this number, the same ones for the same seed."""
    rng = random.Random(f"{seed}/{number}")  # noqa: S311 - no secret
    first = mutate(rng, _valid(rng, authorize))
    if rng.random() < 0.25:
        second = _valid(rng, authorize)
        first = splice(rng, first, second) if rng.random() < 0.5 else first + mutate(rng, second)
    return first


def _valid(rng: random.Random, authorize: Authorize) -> bytes:
    payload = body(message_uuid=f"fuzz-{rng.randrange(10)}", text="x" * rng.choice((0, 0, 10, 100, 5000, 140_000)))
    extra = list(authorize(payload))
    if rng.random() < 0.3:
        extra.append(b"Content-Type: " + rng.choice((b"application/json", b"text/plain; charset=x", b"a/b")))
    kind = rng.randrange(6)
    if kind == 0:
        return post(*extra, line=b"GET /webhooks/dlr?messageId=a%20b&status=delivered&msisdn=447700900000 HTTP/1.1")
    if kind == 1:
        size = rng.choice((1, 7, 1000))
        parts = [payload[start : start + size] for start in range(0, min(len(payload), 200 * size), size)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        return post(b"Transfer-Encoding: chunked", *extra, body=chunks + b"0\r\n\r\n")
    if kind == 2:
        line = b"POST /webhooks/message-status HTTP/1.0"
        return post(b"Content-Length: %d" % len(payload), *extra, body=payload, line=line)
    if kind == 3:
        form = b"messageId=a&status=delivered&err-code=0"
        return good(form, b"Content-Type: application/x-www-form-urlencoded", *authorize(form))
    return good(payload, *extra)


async def fuzz(edge: Edge, seed: int, seconds: float, authorize: Authorize = leave_unsigned) -> RequestTally:
    """Send for this time, and check. An AssertionError names the request to repeat."""
    tally, deadline = RequestTally(), time.monotonic() + seconds
    numbers = itertools.takewhile(lambda _: time.monotonic() < deadline, range(MOST_REQUESTS))
    before, size = len(edge.process.said.splitlines()), edge.resident_bytes
    async with asyncio.TaskGroup() as senders:
        for _ in range(AT_ONCE):
            senders.create_task(_send(edge, seed, numbers, authorize, tally))
    assert edge.process.lives()
    assert edge.resident_bytes - size < GROWTH_BYTES, "ingest has grown"
    lines = edge.process.said.splitlines()[before:]
    assert not [line for line in lines if "Traceback" in line or '"ingest.failed"' in line], lines[-5:]
    assert len(lines) < LOG_LINES, f"{len(lines)} lines of log"
    checks = int((await edge.metrics()).get(("ackstream_webhooks_total", "check"), 0))  # empty requests
    appended = len(await edge.take_appended(tally.answers[200] - checks))
    assert appended >= tally.answers[200] - checks, (
        f"{tally.answers[200]} answers of 200, {checks} checks, {appended} entries"
    )
    return tally


async def _send(edge: Edge, seed: int, numbers: Iterable[int], authorize: Authorize, tally: RequestTally) -> None:
    for number in numbers:
        sent = request(seed, number, authorize)
        try:
            heard = await _converse(edge.port, sent)
        except TimeoutError:
            raise AssertionError(f"request {number} of seed {seed} hangs: {sent[:2000]!r}") from None
        answers = [int(status) for status, _ in ANSWER.findall(heard)]
        rest = ANSWER.sub(b"", heard)
        assert not rest, f"request {number} of seed {seed}: {rest[:1000]!r} after {sent[:2000]!r}"
        assert set(answers) <= ALLOWED, f"request {number} of seed {seed}: {answers} after {sent[:2000]!r}"
        tally.sent += 1
        tally.answers.update(answers)
        tally.unanswered += not answers


async def _sent(connection: socket.socket, data: bytes) -> None:
    with suppress(ConnectionError):
        await asyncio.get_running_loop().sock_sendall(connection, data)


async def _converse(port: int, sent: bytes) -> bytes:
    """Send it, and once there is an answer one more that ends the connection; return all until it is closed."""
    loop, heard = asyncio.get_running_loop(), b""
    with open_socket(port) as connection:
        async with asyncio.timeout(HANGS_SECONDS):
            with suppress(ConnectionError):
                sending = asyncio.create_task(_sent(connection, sent))
                try:
                    while part := await loop.sock_recv(connection, 1 << 16):
                        if not heard:
                            await sending
                            await _sent(connection, LAST)
                        heard += part
                finally:
                    sending.cancel()
                    await asyncio.wait([sending])
    return heard
