"""`ackstream plan` computes what a rate needs, and its sizes are those of real servers."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.rig.statuses import signed_entries, sized_payloads
from console.plan.capacity import BASE_BYTES, DAY_SECONDS, SHARD_BYTES, Capacity
from console.plan.costs import Costs, SizeCurve, read_costs, read_table
from console.plan.report import format_retention, make_notes, make_rows
from console.plan.workload import Workload
from stream.entry import EntryId
from stream.keys import MOST_SHARDS, Shard
from stream.redis.client import client
from tests.support.commands import run_command
from worker.events.vonage import parse
from worker.retention.settings import parse_age
from worker.store.handler import Store

TOLERANCE = 0.2
PROMISED = {"redis_bytes", "shards", "ingest_processes", "worker_processes", "database_bytes_per_day"}


def plan(*arguments: str) -> dict[str, Any]:
    """Return the JSON of `ackstream plan` for 1,000 statuses a second, or as the arguments say."""
    rate = () if "--rate" in arguments else ("--rate", "1000")
    result: dict[str, Any] = run_command("plan", *rate, *arguments, "--json").json
    return result


async def used_bytes(server: Redis, key: str) -> int:
    """Return the bytes of a key, all of its members counted."""
    return int(await server.memory_usage(key, samples=0) or 0)


@pytest.mark.parametrize("size", [500, 2_200])
async def test_planned_redis_bytes_are_those_of_stored_webhooks(valkey_url: str, shard: Shard, size: int) -> None:
    """For a body that was not measured, the plan is within 20 % of the memory that its entries use in Valkey."""
    number = 3_000
    async with client(valkey_url) as server:
        async with server.pipeline(transaction=False) as pipe:
            for entry in signed_entries(sized_payloads(number, size)):
                fields: Any = entry.to_fields()
                pipe.xadd(shard.stream, fields)
            await pipe.execute()
        used = await used_bytes(server, shard.stream)
        await server.delete(shard.stream)

    planned = Capacity(Workload(rate=1, retention_seconds=number, size=size), read_costs()).redis_bytes - BASE_BYTES

    assert planned == pytest.approx(used, rel=TOLERANCE)


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
async def test_planned_database_bytes_are_those_of_stored_events(engine: AsyncEngine) -> None:
    """For a body that was not measured, the plan is within 20 % of the growth of a database of PostgreSQL."""
    number, size = 9_000, 1_000
    store, events = Store(engine), [
        parse(entry, str(EntryId(0, entry.received_ms, 0))) for entry in signed_entries(sized_payloads(number, size))
    ]  # fmt: skip
    before = await read_size(engine)
    for start in range(0, number, 3_000):
        await store.handle(events[start : start + 3_000])

    planned = Capacity(Workload(rate=number / DAY_SECONDS, retention_seconds=1, size=size), read_costs())

    assert planned.database_bytes_per_day == pytest.approx(await read_size(engine) - before, rel=TOLERANCE)


async def read_size(engine: AsyncEngine) -> int:
    """Return the bytes of the database."""
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT pg_database_size(current_database())"))).scalar_one())


def test_the_json_has_the_promised_fields_in_proportion_to_the_rate() -> None:
    """Ten times the rate needs ten times the bytes, and no fewer processes and shards."""
    small, large = plan(), plan("--rate", "10000")

    assert set(small) >= PROMISED
    assert large["redis_bytes"] == pytest.approx(10 * small["redis_bytes"], rel=0.01)
    assert large["database_bytes_per_day"] == pytest.approx(10 * small["database_bytes_per_day"], rel=0.01)
    assert all(large[name] >= small[name] >= 1 for name in ("shards", "ingest_processes", "worker_processes"))
    assert large["ingest_processes"] == pytest.approx(large["ingest_cores"] / 0.7, abs=1)


def test_each_option_changes_what_it_should() -> None:
    """Processes follow the peak and the factor, bytes follow the ages, the size, the groups and the messages."""
    usual = plan()

    assert plan("--peak", "50000")["ingest_processes"] > usual["ingest_processes"]
    assert plan("--peak", "50000")["redis_bytes"] == usual["redis_bytes"]
    assert plan("--factor", "3")["worker_cores"] == pytest.approx(3 * usual["worker_cores"], rel=0.01)
    assert plan("--retention", "14d")["redis_bytes"] == pytest.approx(2 * usual["redis_bytes"], rel=0.01)
    assert plan("--size", "1120")["redis_bytes"] > 1.5 * usual["redis_bytes"]
    assert plan("--groups", "3")["worker_cores"] > usual["worker_cores"]
    assert plan("--groups", "3")["redis_bytes"] > usual["redis_bytes"]
    assert plan("--events-per-message", "1")["database_bytes_per_day"] > usual["database_bytes_per_day"]
    assert usual["database_bytes"] is None
    assert plan("--tables-retention", "10d")["database_bytes"] == pytest.approx(10 * usual["database_bytes_per_day"])
    assert plan("--iops", "10")["first_limit"] == "database disk"


def test_the_text_fits_80_columns_and_names_the_part_that_is_full_first() -> None:
    """People get a row for each part, the part that is full first with the remedy, and the source of the figures."""
    result = run_command(
        "plan", "--rate", "20000", "--peak", "90000", "--groups", "4", "--shards", "1", "--iops", "100"
    )

    assert result.code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    rows = [line.split("  ")[0] for line in result.stdout.splitlines()]
    assert {"ingest", "Redis CPU", "Redis memory", "workers", "database disk"} <= set(rows)
    said = " ".join(result.stdout.split())
    assert "First full: database disk, at" in said
    assert "Add a disk with more IOPS" in said
    assert "1 shard cannot hold or serve this: use" in said
    assert read_table()["store"]["source"]["date"] in said
    large = " ".join(run_command("plan", "--rate", "100000").stdout.split())
    assert "A stream has at most 64 shards" in large


workloads = st.builds(
    Workload,
    rate=st.floats(0.001, 1e6),
    retention_seconds=st.integers(1, 400 * 24 * 60).map(lambda minutes: 60 * minutes),
    size=st.integers(1, 131_072),
    groups=st.integers(1, 100),
    factor=st.floats(0.05, 20),
    tables_seconds=st.none() | st.just(400 * DAY_SECONDS),
)


@given(workloads, st.sampled_from([("rate", 2.0), ("retention_seconds", 1.5), ("size", 2), ("groups", 2)]))
def test_the_plan_is_never_too_small(load: Workload, larger: tuple[str, float]) -> None:
    """The planned parts hold the load, more load needs no less, and the retentions that the notes name fit."""
    planned = Capacity(load, read_costs())
    name, factor = larger
    more = replace(load, **{name: type(getattr(load, name))(getattr(load, name) * factor)})
    before: Any = planned.as_json()
    after: Any = Capacity(more, read_costs()).as_json()
    for note in make_notes(planned):
        for of, age in re.findall(r"(retention|statuses) of (\d+\w)[,:]", note):
            fitting = replace(load, retention_seconds=(parse_age(age) or 0) / 1000)
            most = planned.cpu_shards if of == "retention" else MOST_SHARDS
            assert Capacity(fitting, read_costs()).needed_shards <= most

    assert planned.redis_bytes <= 1.000001 * planned.shards * SHARD_BYTES
    assert all(limit.full_at >= 0.999 * load.peak_rate for limit in planned.limits() if limit.part != "database disk")
    assert all(isinstance(before[name], int) and before[name] > 0 for name in PROMISED)
    assert all(after[name] >= before[name] for name in PROMISED)


def test_the_remedies_are_possible() -> None:
    """No note asks for more shards than a stream has, or for a shorter retention if the CPU is short of shards."""

    def describe(rate: float, retention_seconds: float, shards: int | None = None) -> str:
        load = Workload(rate, retention_seconds, shards=shards, iops=100_000_000)
        return " ".join(make_notes(Capacity(load, read_costs())))

    few, full = describe(100_000, 7 * DAY_SECONDS, shards=10), describe(4_000, 7 * DAY_SECONDS)

    assert f"10 shards cannot hold or serve this: use {MOST_SHARDS}." in few.replace(", or a shorter --retention", "")
    assert f"A stream has at most {MOST_SHARDS} shards" in few
    assert "Add an archive, and a shorter retention" in full
    assert "1 shard cannot hold or serve this: use 5." in describe(100_000, 60, shards=1)
    assert "divide your applications between several streams" in describe(9_000_000, 60)
    assert [format_retention(seconds) for seconds in (60, 3599, 36_001, 900_000)] == ["1m", "59m", "10h", "10d"]


def test_tables_with_an_age_never_grow_without_end() -> None:
    """A rate that stores less than a byte has a greatest size too."""
    load = Workload(1e-9, 60, tables_seconds=60)

    assert not any("grows without end" in str(row["needs"]) for row in make_rows(Capacity(load, read_costs())))


@pytest.mark.parametrize(
    ("arguments", "next_step"),
    [
        ("--rate 0", "name the statuses a second"),
        ("--rate nan", "name the statuses a second"),
        ("--rate 100 --peak 50", "leave --peak out"),
        ("--rate 100 --retention off", "name an age, such as 7d"),
        ("--rate 100 --retention week", "write a number with m, h or d"),
        ("--rate 100 --tables-retention 0d", "write a number with m, h or d"),
        ("--rate 100 --size 0", "name the bytes of a payload"),
        ("--rate 100 --groups 0", "`ackstream groups list` shows them"),
        ("--rate 100 --events-per-message 0.5", "about 3 if it is delivered and read"),
        ("--rate 100 --shards 0", "or leave it out"),
        ("--rate 100 --shards 65", "1 to 64, or leave it out"),
        ("--rate 100 --factor 0", "your machine needs twice"),
        ("--rate 100 --iops 0", "name the writes a second"),
    ],
)
def test_an_impossible_value_is_refused_with_the_next_step(arguments: str, next_step: str) -> None:
    """The error names the option and a value to write instead; nothing is printed to standard output."""
    result = run_command("plan", *arguments.split())

    assert result.stdout == ""
    assert next_step in " ".join(result.error.split())


def test_sizes_between_and_beyond_the_measured_ones_are_on_straight_lines() -> None:
    """A curve has its measured points, lines between them, and the last lines continue."""
    curve = SizeCurve(((100, 200), (200, 300), (400, 700)))

    assert [curve.at(size) for size in (100, 150, 200, 300, 400, 500, 50)] == [200, 250, 300, 500, 700, 900, 150]


def test_the_table_of_costs_has_a_source_for_each_part() -> None:
    """Each part has date, machine, commit and versions, and all figures are above zero."""
    table = read_table()
    assert Costs.from_json(table) == read_costs()
    for part in table.values():
        assert {"date", "machine", "commit", "versions"} <= set(part["source"])
    costs = read_costs()
    assert all(curve.at(560) > 0 for part in (costs.ingest, costs.workers) for curve in part.values())
