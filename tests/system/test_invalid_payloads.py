"""Junk on the status URL of a real ingest with workers: its signature decides its outcome."""

from pathlib import Path
from typing import Any

import aiohttp
from redis.asyncio import Redis

from console.queries.invalid import count_invalid
from console.queries.stats import gather_stats
from stream.keys import Shard
from tests.support.processes import Ingest, ackstream
from tests.support.samples.events import body
from tests.support.samples.signed import SECRETS, bearer
from tests.support.waiting import until

JUNK = 30
GROUPS = ("log", "other")


async def post(url: str, *payloads: bytes, is_signed: bool) -> None:
    """Send each payload; every one is answered 200."""
    async with aiohttp.ClientSession() as http:
        for payload in payloads:
            headers = {"Authorization": bearer(payload)} if is_signed else {}
            async with http.post(url, data=payload, headers=headers) as answer:
                assert answer.status == 200


async def groups(server: Redis, shard: Shard) -> list[dict[str, Any]]:
    groups = (await gather_stats(server, [shard]))["groups"]
    return [groups.get(name, {}) for name in GROUPS]


async def test_junk_that_nobody_signed_pauses_no_group_and_signed_junk_is_a_dead_letter(
    server: Redis, valkey_url: str, shard: Shard, tmp_path: Path
) -> None:
    """With `observe`, the record has unsigned junk once each; two groups at their limit of dead letters continue.

    Signed junk is a dead letter of each group, and there the limit pauses.
    """
    common = {"redis_url": valkey_url, "stream": shard.name}
    handlers = ("--handler", "log", "--handler", "other=log")
    junk = [b'{"text":"inbound %d"}' % number for number in range(JUNK)]
    ingest = Ingest(tmp_path, **common, signatures="observe", signature_secrets=SECRETS)
    async with ingest.run():
        with ackstream("worker", *handlers, folder=tmp_path, **common, dead_letters="2", retention="off") as worker:
            await worker.has_logged("consumer.ready", times=2)
            await post(ingest.url, *junk, *(body(message_uuid=f"m-{n}") for n in range(5)), is_signed=False)

            async def is_done() -> bool:
                return all(group and group["outstanding"] == 0 for group in await groups(server, shard))

            await until(is_done)
            assert [(group["dead"], group["paused"]) for group in await groups(server, shard)] == [(0, None)] * 2
            counts = await count_invalid(server, shard)
            assert (counts["entries"], counts["recorded"], counts["dropped"]) == (JUNK, JUNK, 0)
            assert len(worker.read_log("message.status")) == 2 * 5
            assert worker.read_log("invalid.recorded")

            await post(ingest.url, *junk[:2], is_signed=True)

            async def are_paused() -> bool:
                return all(group["paused"] == "dead-letters" for group in await groups(server, shard))

            await until(are_paused)
            assert [group["dead"] for group in await groups(server, shard)] == [2, 2]
            assert (await count_invalid(server, shard))["recorded"] == JUNK


async def test_junk_is_a_dead_letter_where_signatures_are_off(
    server: Redis, valkey_url: str, shard: Shard, tmp_path: Path
) -> None:
    """With signatures off, junk and a status unknown to this version look the same."""
    common = {"redis_url": valkey_url, "stream": shard.name}
    ingest = Ingest(tmp_path, **common)
    async with ingest.run():
        with ackstream("worker", "--handler", "log", folder=tmp_path, **common, retention="off"):
            await post(ingest.url, b'{"text":"hello"}', b"hello", is_signed=False)

            async def are_dead() -> bool:
                return bool(await server.xlen(shard.dead("log")) == 2)

            await until(are_dead)
    assert (await count_invalid(server, shard))["recorded"] == 0
