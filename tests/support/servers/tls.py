"""Servers that speak TLS, and a certificate that has ended or ends soon."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import trustme

from tests.support.servers.listen import run_listener


def make_context(authority: trustme.CA, days: float) -> ssl.SSLContext:
    """Return the TLS settings of a server on localhost whose certificate ends in this number of days."""
    now = datetime.now(UTC)
    certificate = authority.issue_cert(
        "localhost", "127.0.0.1", not_before=now - timedelta(days=90), not_after=now + timedelta(days=days)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


def _answer_nothing(_sent: bytes) -> bytes:
    return b""


@asynccontextmanager
async def run_tls_server(
    context: ssl.SSLContext, *, after: bytes = b"", answer: Callable[[bytes], bytes] = _answer_nothing
) -> AsyncIterator[int]:
    """Yield the port of a server that gives these answers until the end of each connection.

    With ``after`` it starts TLS once a client has sent something, and after these bytes, as PostgreSQL does.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if after:
            await reader.read(8)
            writer.write(after)
            await writer.start_tls(context)
        while sent := await reader.read(1024):
            writer.write(answer(sent))
        writer.close()

    async with run_listener(serve, None if after else context) as port:
        yield port
