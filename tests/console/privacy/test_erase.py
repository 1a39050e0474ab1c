"""`ackstream erase` on a population whose webhooks are in every place."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from console.privacy.places import NAMES
from stream.keys import Shard
from tests.support.commands import CommandResult, run_command
from tests.support.persons.dump import dump_archive, dump_redis, dump_spool, dump_sqlite, dump_tables
from tests.support.persons.payloads import PersonWebhook, make_numbers, make_webhooks, message_id
from tests.support.persons.population import Population

PEOPLE, VICTIMS, SEED = 1000, 10, 9
FEWER_PEOPLE = 300
SHARD = Shard()
EMPTIED = "rollup_dimensions\t"
CHANGED = (":invalid:totals", ":quarantine:index")
"""The keys with sums over erased records."""


async def dump(population: Population) -> list[str]:
    """Return everything that is stored."""
    console = [line for line in dump_sqlite(population.data / "console" / "console.db") if " audit\t" not in line]
    return [
        *await dump_redis(population.server),
        *await dump_tables(population.engine),
        *console,
        *dump_archive(population.archive),
        *dump_spool(population.data),
    ]


def find_lines(lines: list[str], webhooks: list[PersonWebhook], victims: Mapping[int, str]) -> set[str]:
    """Return the lines about the victims: their numbers, payloads, messages and replays, and their entries."""
    payloads = {repr(webhook.payload)[2:-1] for webhook in webhooks if webhook.person in victims}
    signs = payloads | {sign for victim in victims for sign in (message_id(victim), f"b'r{victim}:")}
    theirs = {line for line in lines if any(sign in line for sign in signs) or has_number(line, victims)}
    entries = {line.split("'")[1] for line in theirs if line.startswith(f"{SHARD.stream}\t")}
    return theirs | {
        line for line in lines if ":history:" in line and any(f"b'0/{entry}'" in line for entry in entries)
    }


def has_number(line: str, people: Mapping[int, str]) -> bool:
    """Whether a line has one of the numbers in any spelling of the population."""
    escapes = ("\\\\u2011", "\\\\/", "\\xa0", "%2B", "%20", " ", "+")
    for escape, plain in (("\\\\u0034", "4"), *((escape, "") for escape in escapes)):
        line = line.replace(escape, plain)
    return re.search(rf"(?<!\d)(00)?({'|'.join(people.values())})(?!\d)", line) is not None


def drop_changed(lines: list[str]) -> list[str]:
    """Return the lines without sums over erased records, and without the texts that replace erased ones."""
    return [
        line
        for line in lines
        if not line.partition("\t")[0].endswith(CHANGED) and "erased" not in line and not line.startswith(EMPTIED)
    ]


async def erase(url: str, population: Population, database_url: str, *options: str) -> CommandResult:
    """Run the command in a thread: it has an event loop of its own."""
    places = ("--data", str(population.data), "--redis-url", url, "--database-url", database_url)
    return await asyncio.to_thread(run_command, "erase", *options, *places)


async def test_ten_people_of_a_thousand_are_erased_and_nobody_else(
    own_server: tuple[str, Redis],
    engine: AsyncEngine,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After `erase` no command, row or file has a record of them, all other records are equal, and sums stay."""
    url, server = own_server
    monkeypatch.setenv("ACKSTREAM_ARCHIVE", str(tmp_path / "archive"))
    people = PEOPLE if engine.dialect.name == "sqlite" else FEWER_PEOPLE  # the tables are all that differs
    numbers = make_numbers(people, VICTIMS, SEED)
    victims = dict(enumerate(numbers[:VICTIMS]))
    webhooks = make_webhooks(numbers, SEED)
    population = Population(server, SHARD, engine, tmp_path / "data", tmp_path / "archive")
    await population.fill(webhooks, {**victims, VICTIMS: numbers[VICTIMS]}, SEED)
    before = await dump(population)
    theirs = find_lines(before, webhooks, victims)
    options = [option for number in victims.values() for option in ("--number", f"+{number}")]

    result = (await erase(url, population, database_url, *options, "--yes", "--json")).json
    after = await dump(population)
    again = (await erase(url, population, database_url, *options, "--yes", "--json")).json

    assert drop_changed(after) == drop_changed([line for line in before if line not in theirs])
    spools = [line for path in (population.data / "spool").glob("*/*.db") for line in dump_sqlite(path)]
    assert [line for line in [*after, *spools] if has_number(line, victims)] == []
    assert result["erased"] == result["found"]
    assert [name for name in NAMES if not result["found"][name]] == []
    assert (result["unreachable"], sum(again["found"].values())) == ([], 0)
