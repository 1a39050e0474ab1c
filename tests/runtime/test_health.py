"""The admin port of a process."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime.health import CONSOLE_AGENT, run_health_server

READ_AT = "ackstream_metrics_read_timestamp_seconds"
REFUSED = b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def fail() -> str | None:
    raise ValueError("a secret")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Yield the port of a process whose check of readiness has a fault."""
    async with run_health_server("127.0.0.1", 0, fail) as port:
        yield port


async def talk(port: int, request: bytes) -> bytes:
    """Return all that comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        async with asyncio.timeout(60):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /live HTTP/1.1\r\nHost: x\r\nquoted text\r\n\r\n",
        b"GET /quoted\x01text HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01quoted text\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: x\r\nA: " + b"quoted" * 2000 + b"\r\n\r\n",
    ],
    ids=["no colon", "control character", "TLS", "long line"],
)
async def test_a_malformed_request_is_not_quoted(
    port: int, request_bytes: bytes, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer has no body and no Server header, and the log has no line."""
    assert await talk(port, request_bytes) == REFUSED % b"400 Bad Request"
    assert not caplog.records
    assert not capsys.readouterr().out


async def test_an_error_of_a_check_is_logged_by_its_class(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The text of the error may be private, so it is neither sent nor logged."""
    assert await talk(port, b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n") == REFUSED % b"500 Internal Server Error"
    logged = capsys.readouterr().out
    assert "ValueError" in logged
    assert "a secret" not in logged


async def test_other_answers_have_no_server_header(port: int) -> None:
    """A good request on the same connection is answered, and so is a path that does not exist."""
    answers = await talk(
        port,
        b"GET /live HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    assert answers.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\nlive\nHTTP/1.1 404 Not Found\r\n" in answers
    assert b"Server:" not in answers


async def read_metric(http: aiohttp.ClientSession, port: int, agent: str) -> float:
    async with http.get(f"http://127.0.0.1:{port}/metrics", headers={"User-Agent": agent}) as answer:
        families = text_string_to_metric_families(await answer.text())
        return next(sample.value for family in families for sample in family.samples if sample.name == READ_AT)


async def test_metrics_say_when_another_program_read_them() -> None:
    """Prometheus leaves its time; the console, which starts no alert, does not."""
    async with run_health_server("127.0.0.1", 0, lambda: None) as port, aiohttp.ClientSession() as http:
        before = await read_metric(http, port, CONSOLE_AGENT)
        again = await read_metric(http, port, CONSOLE_AGENT)
        after = await read_metric(http, port, "Prometheus/3.5.0")

    assert before == again < after
