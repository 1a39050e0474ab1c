"""Reads when certificates end: of Redis, its sentinels or its cluster, of PostgreSQL and of targets of forward.

The standard library parses only certificates that it has verified. So the certificate is fetched without verification
first, and then trusted for a second connection: that one fails only if the certificate has ended. Whether the name and
the authority are right is seen by the connections of the other checks.
"""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from redis.exceptions import RedisError

from console.doctor.finding import Finding, make_finding
from console.doctor.setup import Setup
from runtime.errors import CommandError
from stream.redis.client import find_servers
from stream.redis.url import Target
from worker.handlers.request import parse_url
from worker.store.postgresql.url import SCHEMES, list_hosts
from worker.store.settings import DatabaseSettings

WARN_DAYS = 21
DAY_SECONDS = 86_400
ANSWER_SECONDS = 5.0
HAS_ENDED = 10
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED: https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/."""
SSL_REQUEST = struct.pack("!ii", 8, 80_877_103)
"""https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL."""

Connect = Callable[[ssl.SSLContext], Awaitable[ssl.SSLObject]]


@dataclass(frozen=True, slots=True)
class TlsServer:
    """A server that speaks TLS, and its name in a finding."""

    name: str
    host: str
    port: int
    is_postgresql: bool = False


async def check_certificates(setup: Setup) -> Sequence[Finding]:
    """Return the findings about certificates that have ended or end soon. Servers that do not answer are skipped."""
    servers = [server async for server in _list_redis(setup)]
    servers += [*_list_postgresql(setup), *_list_targets(setup)]
    ends = await asyncio.gather(*(read_end(server) for server in servers))
    return [finding for server, end in zip(servers, ends, strict=True) for finding in judge_end(server, end, setup)]


def judge_end(server: TlsServer, end: float | None, setup: Setup) -> Iterator[Finding]:
    """Yield a finding if the certificate ends soon. ``end`` is 0 if it has ended, None if it is not known."""
    if end is None:
        return
    days = (end - setup.clock()) / DAY_SECONDS
    if days <= 0:
        yield make_finding("tls.expired", server=server.name)
    elif days < WARN_DAYS:
        yield make_finding("tls.ends-soon", server=server.name, days=int(days))


async def _list_redis(setup: Setup) -> AsyncIterator[TlsServer]:
    """Yield Redis, or the sentinels and the primary that they name, or the primaries of a cluster."""
    url = setup.stream.redis_url
    target = Target.from_url(url)
    if target.scheme != "rediss":
        return
    for host, port in target.sentinels:
        yield TlsServer(f"the sentinel {host}:{port}", host, port)
    with suppress(RedisError):  # another check reports it
        for host, port in await find_servers(url):
            yield TlsServer(f"Redis ({host}:{port})", host, port)


def _list_postgresql(setup: Setup) -> Iterator[TlsServer]:
    settings = setup.worker or setup.console
    if isinstance(settings, DatabaseSettings) and settings.database_url.startswith(SCHEMES):
        for host, port in list_hosts(settings.database_url):
            if not host.startswith("/"):
                yield TlsServer(f"PostgreSQL ({host}:{port})", host, port, is_postgresql=True)


def _list_targets(setup: Setup) -> Iterator[TlsServer]:
    with suppress(CommandError):  # another check names an invalid file of handlers
        for spec in setup.worker.specs if setup.worker else ():
            url = parse_url(spec.url) if spec.url else None
            if url is not None and url.scheme == "https" and url.host:
                yield TlsServer(f"the target of group {spec.group} ({url.host})", url.host, url.port or 443)


async def read_end(server: TlsServer) -> float | None:
    """Return when the certificate of a server ends, in Unix seconds; 0 if it has ended, None if it does not answer."""
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            certificate = (await _connect(server, unverified)).getpeercert(binary_form=True)
            if certificate is None:
                return None
            pinned = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            pinned.check_hostname = False
            pinned.verify_flags = ssl.VERIFY_X509_PARTIAL_CHAIN
            pinned.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(certificate))
            details = (await _connect(server, pinned)).getpeercert()
    except ssl.SSLCertVerificationError as exc:
        return 0.0 if exc.verify_code == HAS_ENDED else None
    except (OSError, TimeoutError, EOFError):
        return None
    return float(ssl.cert_time_to_seconds(str(details["notAfter"]))) if details else None


async def _connect(server: TlsServer, context: ssl.SSLContext) -> ssl.SSLObject:
    """Return the TLS state of a new connection, which is closed at once. Raises OSError."""
    if not server.is_postgresql:
        _, writer = await asyncio.open_connection(server.host, server.port, ssl=context, server_hostname=server.host)
    else:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(SSL_REQUEST)
        if await reader.readexactly(1) != b"S":
            writer.close()
            raise OSError("no TLS")
        await writer.start_tls(context, server_hostname=server.host)
    state: ssl.SSLObject = writer.get_extra_info("ssl_object")
    writer.close()
    return state
