"""Checks the database: whether it answers, the revision of its tables, its numbers, its durability and its clock."""

from collections.abc import Iterator, Sequence

from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from console.doctor.checks.database_access import find_obstacles, judge_file
from console.doctor.clocks import judge_clock
from console.doctor.finding import Finding, make_finding
from console.doctor.setup import Setup
from console.queries.run.parts import DatabasePart, read_database
from runtime.errors import CommandError
from stream.redis.client import redact_url
from worker.database_fault import AWAY, describe_database_fault
from worker.events.number_hash import PREFIX
from worker.events.numbers import SHORTEST, digits_of
from worker.store.database import DatabaseAway, close_engine, open_connection, open_engine
from worker.store.migrations.indexes import find_missing_indexes
from worker.store.revision import SchemaMismatch, check_revision
from worker.store.settings import DatabaseSettings
from worker.store.tables import messages

STORE = "store"
LOOKED_AT = 1000
"""Messages at each end of the tables: those at the start are older than a change of the key, those at the end newer."""
DURABLE = ("fsync", "synchronous_commit", "full_page_writes")
"""Settings of PostgreSQL whose value ``off`` loses committed rows."""


async def check_database(setup: Setup) -> Sequence[Finding]:
    """Return the findings about the database, unless no process here uses it."""
    settings = _find_settings(setup)
    if settings is None:
        return []
    address = redact_url(settings.database_url)
    if settings.sqlite_file is not None and not settings.sqlite_file.exists():
        return [make_finding("database.missing", address=address)]
    try:
        engine = open_engine(settings.database_url, read_only=True)
    except CommandError as exc:
        return [make_finding("database.unusable", address=address, error=str(exc), step=AWAY.next_step)]
    try:
        part = await read_database(engine)
        if part.away is not None:
            return [_describe_unusable(address, part.away)]
        is_usable = await _is_usable(engine)
        findings = [*judge_revision(part, is_usable=is_usable), *await _ask_server(engine, setup)]
        if part.revision == part.needs:
            findings += await _check_indexes(engine)
        if is_usable:
            findings += await _check_numbers(engine, settings)
        return [*findings, *await _check_access(engine, setup, is_usable=is_usable)]
    except (DatabaseAway, DBAPIError, OSError) as exc:
        return [_describe_unusable(address, describe_database_fault(exc))]
    finally:
        await close_engine(engine)


def _describe_unusable(address: str, fault: str) -> Finding:
    """Return the finding for a fault as `describe_database_fault` describes it."""
    error, _, step = fault.partition(": ")
    return make_finding("database.unusable", address=address, error=error, step=step)


def _find_settings(setup: Setup) -> DatabaseSettings | None:
    if setup.worker is not None:
        try:
            return setup.worker if any(spec.target == STORE for spec in setup.worker.specs) else None
        except CommandError:  # the check of the settings names it
            return None
    return setup.console if isinstance(setup.console, DatabaseSettings) else None


async def _is_usable(engine: AsyncEngine) -> bool:
    try:
        await check_revision(engine)
    except SchemaMismatch:
        return False
    return True


def judge_revision(part: DatabasePart, *, is_usable: bool) -> Iterator[Finding]:
    """Yield a finding unless the tables have the revision of this version. ``is_usable``: it can work with them."""
    if part.revision == part.needs:
        return
    if part.revision is None or part.revision < part.needs:
        yield make_finding("database.not-migrated", revision=part.revision or "none", needs=part.needs)
    else:
        name = "database.newer" if is_usable else "database.too-new"
        yield make_finding(name, revision=part.revision, needs=part.needs)


async def _check_indexes(engine: AsyncEngine) -> Sequence[Finding]:
    """Return a finding if an index is missing or invalid: a migration was interrupted."""
    names = [str(index.name) for index in await find_missing_indexes(engine)]
    noun = "the index" if len(names) == 1 else "the indexes"
    return [make_finding("database.no-index", indexes=f"{noun} {', '.join(names)}")] if names else []


async def _check_access(engine: AsyncEngine, setup: Setup, *, is_usable: bool) -> Sequence[Finding]:
    """Return why the worker of this machine cannot write, or should not write there."""
    if setup.worker is None:
        return []
    if engine.dialect.name == "sqlite":
        return list(judge_file(setup.worker, setup))
    return [finding async for finding in find_obstacles(engine)] if is_usable else []


async def _check_numbers(engine: AsyncEngine, settings: DatabaseSettings) -> Sequence[Finding]:
    """Return a finding if some messages have numbers and others have hashes."""
    parties = select(messages.c.message_uuid, messages.c.to, messages.c.sender).limit(LOOKED_AT)
    async with open_connection(engine) as connection, connection.begin():
        rows = {
            row
            for order in (messages.c.first_at, messages.c.first_at.desc())
            for row in await connection.execute(parties.order_by(order))
        }
    if settings.number_hash is None:
        name, is_odd = "database.hashed-numbers", _is_hash
    else:
        name, is_odd = "database.plain-numbers", _is_number
    count = sum(is_odd(row.to or "") or is_odd(row.sender or "") for row in rows)
    return [make_finding(name, count=count, looked=len(rows))] if count else []


def _is_hash(party: str) -> bool:
    return party.startswith(PREFIX)


def _is_number(party: str) -> bool:
    return len(digits_of(party) or "") >= SHORTEST


async def _ask_server(engine: AsyncEngine, setup: Setup) -> Sequence[Finding]:
    """Return the findings about the settings and the clock of PostgreSQL."""
    if engine.dialect.name == "sqlite":
        return []
    findings: list[Finding] = []
    async with open_connection(engine) as connection, connection.begin():
        values = {name: (await connection.execute(text(f"SHOW {name}"))).scalar_one() for name in DURABLE}
        findings += [make_finding("database.not-durable", name=name) for name in DURABLE if values[name] == "off"]
        before = setup.clock()
        now = (await connection.execute(text("SELECT extract(epoch FROM clock_timestamp())"))).scalar_one()
        findings += judge_clock("PostgreSQL", float(now), before, setup.clock())
    return findings
