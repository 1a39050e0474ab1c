"""The self-test: a signed webhook to ingest's own URL, and its way over the stream to every group.

Ingest marks its entry with the field ``probe``, and workers ack it without a call (stream.probe). Its entry stays on
the stream until it is trimmed, and is archived, like any other. A replay leaves it out: its payload has no status.
"""

import asyncio
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp
from redis.asyncio import Redis
from yarl import URL

from console.doctor.finding import Finding, make_finding
from console.doctor.setup import Setup
from console.queries.timeline.positions import LiveState, read_live_states
from console.simulate.signing import Signer
from ingest.auth.secrets import parse_secrets
from ingest.auth.settings import SignatureSettings
from stream.entry import EntryId
from stream.keys import Shard
from stream.layout import read_layout
from stream.probe import make_probe
from stream.redis.client import name_error, redact_url
from stream.redis.cluster import split_shards
from worker.group.consumer_group import read_group_names

ANSWER_SECONDS = 6.0
STREAM_SECONDS = 4.0
SETTLED_SECONDS = 8.0
"""The limits of the three steps; together they are less than the time of a check (console.doctor.runner)."""
SLOW_SECONDS = 2.0
POLL_SECONDS = 0.01
PAGE_ENTRIES = 1000


@dataclass(slots=True)
class ProbeTimes:
    """The way of a self-test, in seconds since it was sent. None was not reached."""

    url: str
    """Without user and query, which may hold a secret."""
    status: int | None = None
    answered: float | None = None
    entry: str | None = None
    on_stream: float | None = None
    settled: dict[str, float | None] = field(default_factory=dict)
    """Group → when it had settled the entry."""

    def summary(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        return asdict(self)


async def run_probe(server: Redis, setup: Setup) -> tuple[ProbeTimes | None, Sequence[Finding]]:
    """Send the self-test and follow it. Raises RedisError. Without a URL nothing is sent."""
    url = setup.ingest_url
    if url is None:
        return None, []
    times, probe = ProbeTimes(redact_url(url)), secrets.token_hex(16)
    shards, _ = await split_shards(server, (await read_layout(server, setup.stream)).shards(setup.stream.stream))
    starts = {shard: await _read_last_id(server, shard) for shard in shards}
    started = time.perf_counter()
    try:
        times.status = await _send(url, make_probe(probe), setup)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:  # ValueError: it is not a URL
        return times, [make_finding("probe.unreachable", url=times.url, error=name_error(exc))]
    times.answered = _since(started)
    if times.status != HTTPStatus.OK:
        return times, [_explain_refusal(times.status, setup)]
    entry = await _find_entry(server, starts, probe.encode())
    if entry is None:
        return times, [make_finding("probe.lost", stream=shards[0].stream, seconds=round(STREAM_SECONDS))]
    times.entry, times.on_stream = str(entry), _since(started)
    times.settled = await _follow(server, Shard(setup.stream.stream, entry.shard), entry, started)
    return times, list(judge_times(times.settled))


def judge_times(settled: Mapping[str, float | None]) -> Iterator[Finding]:
    """Yield a finding for each group that was slow."""
    for group, seconds in settled.items():
        if seconds is None:
            yield make_finding("probe.unsettled", group=group, seconds=round(SETTLED_SECONDS))
        elif seconds > SLOW_SECONDS:
            yield make_finding("probe.slow", group=group, seconds=seconds)


async def _send(url: str, payload: bytes, setup: Setup) -> int:
    """Post the payload, signed if this machine has a secret; return the status of the answer."""
    signature = _sign(payload, setup.signing)
    target = URL(url, encoded=True).with_user(None) if signature else URL(url, encoded=True)  # one Authorization only
    headers = {"Content-Type": "application/json", **signature}
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        http.post(target, data=payload, headers=headers, allow_redirects=False) as response,
    ):
        return response.status


def _sign(payload: bytes, settings: SignatureSettings | None) -> dict[str, str]:
    if settings is None or settings.signature_secrets is None:
        return {}
    return Signer(parse_secrets(settings.signature_secrets), settings.signature_header).sign(payload, time.time())


def _explain_refusal(status: int, setup: Setup) -> Finding:
    if setup.signing is not None or status != HTTPStatus.SERVICE_UNAVAILABLE:
        return make_finding("probe.refused", status=status)
    return make_finding("probe.unsigned")


async def _read_last_id(server: Redis, shard: Shard) -> str:
    newest: Any = await server.xrevrange(shard.stream, count=1)
    return newest[0][0].decode() if newest else "0-0"


async def _find_entry(server: Redis, starts: dict[Shard, str], probe: bytes) -> EntryId | None:
    """Return the entry of the probe after the start of its shard; None if it is not there in time."""
    deadline = time.perf_counter() + STREAM_SECONDS
    while time.perf_counter() < deadline:
        is_full = False
        for shard, start in starts.items():
            page: Any = await server.xrange(shard.stream, f"({start}", "+", PAGE_ENTRIES)
            for entry_id, fields in page:
                if fields.get(b"probe") == probe:
                    return EntryId.from_redis(shard.number, entry_id)
            if page:
                starts[shard] = page[-1][0].decode()
            is_full = is_full or len(page) == PAGE_ENTRIES
        if not is_full:
            await asyncio.sleep(POLL_SECONDS)
    return None


async def _follow(server: Redis, shard: Shard, entry: EntryId, started: float) -> dict[str, float | None]:
    """Return when each registered group had settled the entry."""
    settled: dict[str, float | None] = dict.fromkeys(await read_group_names(server, shard))
    deadline = time.perf_counter() + SETTLED_SECONDS
    while any(seconds is None for seconds in settled.values()) and time.perf_counter() < deadline:
        waiting = [group for group, seconds in settled.items() if seconds is None]
        states = await read_live_states(server, shard, waiting, {entry: True})
        for group in waiting:
            if states[group, entry].state is LiveState.SETTLED:
                settled[group] = _since(started)
        await asyncio.sleep(POLL_SECONDS)
    return settled


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 4)
