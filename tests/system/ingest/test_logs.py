import logging
import subprocess
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.escape import escape_unprintable
from runtime.log_throttle import LogThrottle, ThrottleFilter
from stream.keys import Shard
from tests.support.http.raw_http import Edge, good, post, talk
from tests.support.processes import ackstream, becomes
from tests.support.samples.events import body

NASTY = "a\x1b[31mb\r\nc\x00d\u202ee\x9bf\u2028g\ud800h"

# A process that configures its logs and writes lines with NASTY in them.
PROGRAM = f"""
import asyncio, logging, structlog
from runtime import logs
from runtime.metrics import SUPPRESSED
logs.configure("FORMAT")
nasty = {NASTY!r}
log = structlog.get_logger("test")
log.info("a.line", path=nasty, other=[nasty])
log.warning(nasty)
logging.getLogger("aiohttp.server").error("Error handling request from %s\\nand %s", nasty, "a payload")
try:
    raise ValueError("a payload")
except ValueError:
    logging.getLogger("asyncio").exception("failed")
for n in range(1000):
    logging.getLogger("asyncio").error("accept failed %d", n)
    log.warning("a.refusal", sampled=True, n=n)
    log.warning("another.refusal", n=n) if n < 20 else None
suppressed = [SUPPRESSED.labels(name)._value.get() for name in ("asyncio", "ackstream")]
log.info("the.end", suppressed_foreign=suppressed[0], suppressed_own=suppressed[1])
"""


def said(log_format: str) -> list[str]:
    program = PROGRAM.replace("FORMAT", log_format)
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=240)
    assert result.stderr == b""
    return result.stdout.decode().split("\n")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_in_a_log_steers_a_terminal_or_forges_a_line(log_format: str) -> None:
    """A name, a value or a foreign logger's text with control characters still makes one printable line."""
    lines = said(log_format)
    assert not [line for line in lines if not line.isprintable()]
    assert [line for line in lines if "a.line" in line and "31mb" in line and "202e" in line]
    assert len([line for line in lines if "31mb" in line]) == 3


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_of_foreign_loggers_only_the_first_line_and_the_class_are_kept(log_format: str) -> None:
    """Their texts and tracebacks may quote what a client sent."""
    lines = said(log_format)
    assert not [line for line in lines if "a payload" in line or "Traceback" in line]
    assert [line for line in lines if "failed" in line and "ValueError" in line]


def test_lines_that_a_client_can_cause_are_sampled_and_counted() -> None:
    """A few of a thousand equal lines are written, the metric counts the others, and different lines are written."""
    lines = [orjson.loads(line) for line in said("json") if line]
    foreign = [line for line in lines if line["event"].startswith("accept failed")]
    lines_of_ours = [line for line in lines if line["event"] == "a.refusal"]
    assert 5 <= len(foreign) <= 20
    assert 5 <= len(lines_of_ours) <= 20
    assert len([line for line in lines if line["event"] == "another.refusal"]) == 20
    assert lines[-1]["suppressed_foreign"] == 1000 - len(foreign)
    assert lines[-1]["suppressed_own"] == 1000 - len(lines_of_ours)


def test_the_next_line_tells_how_many_are_missing_before_it() -> None:
    """Two lines a second: the third and fourth are left out, and the first of the next second says so."""
    now = 0.0
    sampling = LogThrottle(limit=2, clock=lambda: now)
    assert [sampling.admit("a") for _ in range(4)] == [0, 0, None, None]
    assert sampling.admit("b") == 0
    now = 0.99
    assert sampling.admit("a") is None
    now = 1.0
    assert [sampling.admit("a") for _ in range(3)] == [3, 0, None]


@given(st.lists(st.floats(0, 20), max_size=200).map(sorted))
def test_no_second_has_more_lines_than_allowed_and_none_is_forgotten(times: list[float]) -> None:
    """In any second at most twice the limit passes, and each dropped line is reported or waits for its report."""
    now = 0.0
    sampling = LogThrottle(limit=3, clock=lambda: now)
    passed, counted_lines = [], 0
    for now in times:
        if (suppressed := sampling.admit("a")) is not None:
            passed.append(now)
            counted_lines += suppressed
    assert all(later - first >= 1 for first, later in zip(passed, passed[6:], strict=False))
    assert all(first <= later for first, later in pairwise(passed))
    assert counted_lines <= len(times) - len(passed)


def test_a_place_is_a_kind_whatever_it_says() -> None:
    """Foreign texts that quote a client differ each time; the place that logs them does not."""
    sampled = ThrottleFilter(LogThrottle(limit=1))

    def record(text: str, line: int) -> logging.LogRecord:
        return logging.LogRecord("asyncio", logging.ERROR, "base_events.py", line, text, None, None)

    assert [sampled.filter(record(f"client {n}", 1)) for n in range(3)] == [True, False, False]
    assert sampled.filter(record("client 0", 2))


@given(st.text())
def test_printable_text_prints_and_plain_text_is_left_alone(text: str) -> None:
    """No control, format or surrogate character is left, and a text without them is unchanged."""
    shown = escape_unprintable(text)
    assert not [char for char in shown if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    assert shown == text or not text.isprintable()


async def test_what_a_provider_or_anybody_sends_cannot_steer_a_terminal(
    valkey_url: str, shard: Shard, tmp_path: Path
) -> None:
    """Strange methods, paths, headers and payloads leave printable lines in the text logs of ingest and worker."""
    odd = b"\x1b[31m\x00\xe2\x80\xae"
    edge = Edge(tmp_path, valkey_url, shard, log_format="text")
    settings = {"redis_url": valkey_url, "stream": shard.name, "log_format": "text"}
    async with edge.run():
        with ackstream("worker", "--handler", "log", folder=tmp_path, **settings) as worker:
            for line in (
                b"POST" + odd + b" / HTTP/1.1",
                b"POST /" + odd + b" HTTP/1.1",
                b"POST / HTTP/1.1\r\nA: " + odd,
            ):
                assert (await talk(edge.port, post(line=line))).answers == [400]
            payload = body(channel="\x1b[31m\r\nforged", status="a\u202eb", message_uuid="\x9b\x00m")
            assert (await talk(edge.port, good(payload, b"Connection: close"))).answers == [200]
            await becomes(lambda: "message.status" in worker.said)
            lines = (edge.process.said + worker.said).split("\n")
    assert not [line for line in lines if not line.isprintable()]
    assert not [line for line in lines if line.startswith("forged")]
    assert [line for line in lines if "\\x1b[31m\\r\\nforged" in line]
