"""The sampler reads Redis and the processes of a running Ackstream."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client import generate_latest
from redis.asyncio import Redis

from console.queries.stats import GroupStats
from console.up.valkey import find_free_port
from console.web.metrics.gauges import REGISTRY
from console.web.sampling.redis_reader import Liveness
from stream.keys import Shard
from tests.support.http.load import open_load
from tests.support.http.sampled import next_moments, sampling
from tests.support.processes import Ingest, Valkey, ackstream
from tests.support.samples.events import body, event
from tests.support.waiting import until
from tests.support.workers.failing_group import FailingGroup
from worker.store.database import open_engine
from worker.store.handler import Store
from worker.store.migrate import migrate

SECONDS = 15.0


async def test_ingest_and_worker_are_seen_while_statuses_flow(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """Rates, answers, percentiles and live workers are those of the real processes; at rest all counts are exact."""
    port = find_free_port()
    common = {"redis_url": valkey_url, "stream": shard.name, "data": str(tmp_path / "data")}
    with ackstream("worker", "--handler", "log", folder=tmp_path, admin_port=str(port), **common) as worker:
        async with Ingest(tmp_path, **common).run() as ingest:
            await worker.is_ready(port)
            async with sampling(valkey_url, shard, tmp_path, [ingest.admin_port, port]) as sampler:
                async with open_load(ingest.url, pause_seconds=0.02) as load:
                    await load.keeps(200)
                    await next_moments(sampler, 3)
                    rates = sampler.rates()
                sent = len(load.accepted_ids)

                async def is_exact() -> bool:
                    latest = sampler.latest
                    return (
                        latest.redis.stored == sent
                        and sum(process.answers.get("200", 0) for process in latest.ingest) == sent
                        and sum(process.handled.get("log", 0) for process in latest.workers) == sent
                        and latest.groups["log"].settled == sent
                        and latest.groups["log"].alive == 1
                    )

                await until(is_exact, seconds=SECONDS)
                latest = sampler.latest
                count = sampler.webhooks_since()

    assert latest.groups["log"].outstanding == 0
    assert latest.ingest[0].answer_seconds.count == sent
    assert latest.redis.durable
    assert rates.webhooks is not None
    assert 1 < rates.webhooks < 1000
    assert 0 < (rates.answer.quantile(0.99) or 0) < 5
    assert count is not None
    assert (count.number, count.is_exact) == (sent, True)


async def test_a_failing_group_shows_its_errors(server: Redis, valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """Retries, dead letters, pause and the newest errors, without their messages, are those in Redis."""
    group = FailingGroup(server, shard, "m-1", delay_seconds=60)
    await group.start()
    entry = await group.append(body(message_uuid="m-1", to="447700900123"))
    await group.append(body(message_uuid="m-2"))
    await group.handle()
    await server.hset(shard.paused("g"), mapping={"why": "failing", "since": 1_800_000_000_000})
    await server.xadd(
        shard.dead("g"), {"origin": "0/5-0", "error": "invalid: no status of 447700900123", "attempt": "3"}
    )

    async with sampling(valkey_url, shard, tmp_path) as sampler:
        latest, exported = sampler.latest, generate_latest(REGISTRY).decode()

    assert 'ackstream_outstanding{group="g"} 1.0' in exported
    assert 'ackstream_dead_letters{group="g"} 1.0' in exported
    assert 'ackstream_oldest_seconds{group="g"} 0.0' in exported
    assert "ackstream_live_consumers{" not in exported
    sample = latest.groups["g"]
    assert (sample.retries, sample.dead, sample.unread, sample.pending, sample.outstanding) == (1, 1, 0, 0, 1)
    assert sample.settled == 2
    assert sample.paused is not None
    assert (sample.paused.reason, sample.paused.since) == ("failing", 1_800_000_000)
    dead, delayed = sample.failures
    assert (dead.is_dead, dead.entry, dead.attempt) == (True, "0/5-0", 3)
    assert dead.error.startswith("invalid: no status of ")
    assert (delayed.is_dead, delayed.entry, delayed.attempt) == (False, entry, 1)
    assert delayed.error.startswith("failed: ValueError")
    assert delayed.due is not None
    assert delayed.due > delayed.at
    assert "447700900123" not in str(latest)


async def test_a_group_without_a_known_lag_has_no_number(
    server: Redis, valkey_url: str, shard: Shard, tmp_path: Path
) -> None:
    """If the server does not report the lag, unread and outstanding are None, never a guess."""
    group = FailingGroup(server, shard)
    await group.start()
    entries = [await group.append(body()) for _ in range(5)]
    await server.xgroup_setid(shard.stream, "g", entries[2].partition("/")[2])
    await server.xdel(shard.stream, entries[3].partition("/")[2])

    async with sampling(valkey_url, shard, tmp_path) as sampler:
        sample, exported = sampler.latest.groups["g"], generate_latest(REGISTRY).decode()

    assert "ackstream_outstanding{" not in exported
    assert 'ackstream_oldest_seconds{group="g"}' in exported
    assert (sample.unread, sample.outstanding, sample.settled) == (None, None, None)
    assert sample.oldest_seconds is not None


async def test_open_messages_are_counted(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """Messages without a final status are counted by age; without tables the number is unknown and has no series."""
    async with sampling(valkey_url, shard, tmp_path) as sampler:
        without, unknown = sampler.latest, generate_latest(REGISTRY).decode()
    engine = open_engine(f"sqlite:///{tmp_path}/ackstream.db", create=True)
    await migrate(engine)
    day_ago = datetime.now(UTC) - timedelta(hours=25)
    submitted = body(status="submitted", timestamp=day_ago.isoformat())
    await Store(engine).handle([event(submitted, round(day_ago.timestamp() * 1000), "0/1-0")])
    async with sampling(valkey_url, shard, tmp_path) as sampler:
        snapshot, exported = sampler.latest, generate_latest(REGISTRY).decode()
    await engine.dispose()

    assert without.database is not None
    assert without.open_messages is None
    assert "ackstream_open_messages{" not in unknown
    assert snapshot.database is None
    assert 'ackstream_open_messages{age="over_24h"} 1.0' in exported
    assert 'ackstream_open_messages{age="under_1h"} 0.0' in exported


async def test_redis_goes_and_comes_back(shard: Shard, tmp_path: Path) -> None:
    """While Redis is away the snapshot says since when, and keeps the last numbers; then it continues."""
    valkey = Valkey(tmp_path / "valkey")
    async with valkey.run(), sampling(valkey.url, shard, tmp_path) as sampler:
        started = sampler.latest
        valkey.kill()

        async def is_away() -> bool:
            return sampler.latest.redis.away is not None

        async def is_back() -> bool:
            return sampler.latest.redis.away is None

        await until(is_away, seconds=SECONDS)
        away = sampler.latest.redis
        age = sampler.age()
        rates = sampler.rates(seconds=0.5)
        await valkey.start()
        await until(is_back, seconds=SECONDS)

    assert started.redis.away is None
    assert away.away is not None
    assert "Redis is away" in away.away.reason
    assert (away.entries, away.read_at) >= (0, started.redis.read_at)
    assert age < SECONDS
    assert rates.stored is None


async def test_a_process_that_does_not_answer_is_away(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """A port without a process, and a process that stops, are away with a reason; its numbers stay."""
    silent_port = find_free_port()
    common = {"redis_url": valkey_url, "stream": shard.name, "data": str(tmp_path / "data")}
    async with (
        Ingest(tmp_path, **common).run() as ingest,
        sampling(valkey_url, shard, tmp_path, [ingest.admin_port, silent_port]) as sampler,
    ):
        first = sampler.latest
        ingest.kill()

        async def is_away() -> bool:
            return not sampler.latest.ingest[0].is_up

        await until(is_away, seconds=SECONDS)
        latest = sampler.latest

    assert first.ingest[0].is_up
    assert [process.address for process in latest.silent] == [f"127.0.0.1:{silent_port}"]
    assert latest.silent[0].away is not None
    assert "refused" in latest.silent[0].away.reason
    assert latest.ingest[0].spool_limit == first.ingest[0].spool_limit
    assert latest.ingest[0].since > first.ingest[0].since


def test_a_consumer_lives_while_its_heartbeat_advances() -> None:
    """The number is unknown until a heartbeat was due; then it counts the counters that have changed lately."""
    liveness = Liveness()

    def count(now: float, **beats: str) -> int | None:
        return liveness.count("g", [GroupStats("g", True, "0-0", 0, 0, 0, None, beats=beats)], now)

    assert count(100, old="7", dead="3") is None
    assert count(103, old="8", dead="3") is None
    assert count(105, old="9", dead="3", new="1") == 2
    assert count(116, old="9", dead="3", new="2") == 1
    assert count(117, dead="3", new="3") == 1
    assert count(130, dead="3", new="3") == 0
