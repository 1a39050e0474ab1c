"""The small form of `python -m bench slow`: the same clients, fewer, and no time asserted but the deadlines."""

import asyncio
import signal
from pathlib import Path

from bench.load.slow_clients import Swarm
from stream.keys import Shard
from tests.support.http.raw_http import Edge, good, talk

NUMBER = 201
CLIENT_SECONDS, BODY_SECONDS = 3.0, 2.0
SLACK_SECONDS = 5.0
MEBIBYTE = 1 << 20


async def test_slow_clients_are_cut_off_at_their_deadlines_and_harm_nobody(
    valkey_url: str, shard: Shard, tmp_path: Path
) -> None:
    """Silent ones and those that drip a head or a body: each ends in time, while every good request has its 200."""
    edge = Edge(
        tmp_path,
        valkey_url,
        shard,
        client_seconds=str(CLIENT_SECONDS),
        body_seconds=str(BODY_SECONDS),
        keepalive_seconds=str(CLIENT_SECONDS),
        connections="400",
    )
    async with edge.run():
        before = edge.resident_bytes
        swarm = Swarm(edge.port, "/webhooks/dlr")
        await swarm.begin(NUMBER)
        assert swarm.most == NUMBER
        ending, sent = asyncio.create_task(swarm.end()), 0
        while not ending.done():
            assert (await talk(edge.port, good(b"good", b"Connection: close"))).answers == [200]
            sent += 1
        ended = await ending
        assert edge.resident_bytes - before < 16 * MEBIBYTE
    for name, deadline, answer in (
        ("silent", CLIENT_SECONDS, ""),
        ("drips a head", CLIENT_SECONDS, ""),
        ("drips a body", BODY_SECONDS, "HTTP/1.1 503 Service Unavailable"),
    ):
        assert ended[name].answers == {answer: NUMBER // 3}
        assert deadline - 0.1 <= ended[name].shortest_seconds <= ended[name].longest_seconds < deadline + SLACK_SECONDS
    assert await edge.take_appended(sent) == [b"good"] * sent
    assert sent > 0


async def test_a_stop_does_not_wait_for_slow_clients(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """With all of them connected ingest stops cleanly, as soon as the grace time of in-flight requests is over."""
    edge = Edge(tmp_path, valkey_url, shard, grace_seconds="1", client_seconds="60", body_seconds="60")
    async with edge.run():
        swarm = Swarm(edge.port, "/webhooks/dlr")
        await swarm.begin(NUMBER)
        ending = asyncio.create_task(swarm.end())
        edge.process.send(signal.SIGTERM)
        assert await edge.process.wait_for_end(1 + SLACK_SECONDS) == 0
        await ending
        assert edge.process.read_log("ingest.stopped")
