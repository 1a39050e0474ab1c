"""The commands that look: trace, stats, dead letters. Each shows a table, or with --json what programs rely on."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import orjson
import typer
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from console.dead_letters import find_dead, list_dead
from console.options import AsJson, Data, DatabaseUrl, RedisUrl, Reveal
from console.stats import stats as gather_stats
from console.trace import trace as find_trace
from stream.connect import client, names, shown
from stream.entry import EntryId
from stream.refusal import Refusal
from worker.database import check_revision, open_engine
from worker.groups import registered
from worker.settings import WorkerSettings

T = TypeVar("T")

Group = Annotated[str | None, typer.Option(help="Only this group.")]

dead_letters = typer.Typer(no_args_is_help=True, help="What the groups gave up on, and why.")


def trace(
    message_uuid: Annotated[str, typer.Argument(help="The message's id; of a delivery receipt its messageId.")],
    data: Data = None,
    database_url: DatabaseUrl = None,
    reveal: Reveal = False,
    as_json: AsJson = False,
) -> None:
    """Show one message: its state and every event of it. Exits with 1 if it is not known."""
    settings = WorkerSettings.load(data=data, database_url=database_url)
    found = _ask_database(settings, lambda engine: find_trace(engine, message_uuid, reveal=reveal))
    if found is None:
        raise Refusal(
            f"no message {message_uuid!r} in {shown(settings.database_url)}; `ackstream stats` tells what is unread"
        )
    if as_json:
        _print_json(found)
        return
    state = {name: value for name, value in found.items() if name not in ("statuses", "events")}
    _print_pairs({**state, **{f"{status} at": time for status, time in found["statuses"].items()}})
    _print_rows(found["events"])


def stats(data: Data = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """Show what each group has still to do."""
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    found = _ask_redis(settings, lambda server: gather_stats(server, settings.shard))
    if as_json:
        _print_json(found)
        return
    _print_rows(found["shards"])
    _print_rows([{"group": name, **group} for name, group in found["groups"].items()])


@dead_letters.command("list")
def list_dead_letters(
    group: Group = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many of each group, newest first.")] = 100,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters: id, group, reason, error, attempts, when received."""
    settings = WorkerSettings.load(data=data, redis_url=redis_url)

    async def ask(server: Redis) -> list[dict[str, Any]]:
        groups = await _groups(server, settings, group)
        return [dead.summary() for dead in await list_dead(server, settings.shard, groups, limit)]

    found = _ask_redis(settings, ask)
    if as_json:
        _print_json({"dead_letters": found})
    elif found:
        _print_rows(found)
    else:
        typer.echo("no dead letters")


@dead_letters.command("show")
def show_dead_letter(
    dead_id: Annotated[str, typer.Argument(metavar="ID", help="The id that `list` shows, shard/ms-seq.")],
    group: Group = None,
    data: Data = None,
    redis_url: RedisUrl = None,
    reveal: Reveal = False,
    as_json: AsJson = False,
) -> None:
    """Show a dead letter whole, of each group that has one with this id. Exits with 1 if none has."""
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    try:
        wanted = EntryId.from_text(dead_id)
    except ValueError as exc:
        raise Refusal(str(exc)) from None

    async def ask(server: Redis) -> list[dict[str, Any]]:
        groups = await _groups(server, settings, group)
        return [dead.whole(reveal=reveal) for dead in await find_dead(server, settings.shard, groups, wanted)]

    found = _ask_redis(settings, ask)
    if not found:
        raise Refusal(f"no dead letter {dead_id}" + (f" in group {group!r}" if group else ""))
    if as_json:
        _print_json({"dead_letters": found})
        return
    for dead in found:
        fields = dead.pop("fields")
        _print_pairs({**dead, **fields})
        typer.echo()


def print_report(report: Mapping[str, Any], *, as_json: bool) -> None:
    """Show how a simulation was answered."""
    if as_json:
        _print_json(report)
        return
    nested = {"answered": "", "latency_ms": " ms"}
    flat = {name: value for name, value in report.items() if name not in nested}
    for name, unit in nested.items():
        flat |= {f"{name.removesuffix('_ms')} {key}": f"{value}{unit}" for key, value in (report[name] or {}).items()}
    _print_pairs(flat)


async def _groups(server: Redis, settings: WorkerSettings, group: str | None) -> Sequence[str]:
    known = await registered(server, settings.shard)
    if group is not None and group not in known:
        raise Refusal(f"no group {group!r}; there are: {', '.join(known) or 'none yet'}")
    return known if group is None else [group]


def _ask_redis(settings: WorkerSettings, ask: Callable[[Redis], Awaitable[T]]) -> T:
    async def asking() -> T:
        server = client(settings.redis_url)
        try:
            return await ask(server)
        finally:
            await server.aclose()

    try:
        return asyncio.run(asking())
    except (RedisError, OSError) as exc:
        raise Refusal(f"Redis at {shown(settings.redis_url)} does not answer ({names(exc)})") from None


def _ask_database(settings: WorkerSettings, ask: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    async def asking() -> T:
        engine = open_engine(settings.database_url, read_only=True)
        try:
            await check_revision(engine)
            return await ask(engine)
        finally:
            await engine.dispose()

    try:
        return asyncio.run(asking())
    except (DBAPIError, OSError) as exc:
        raise Refusal(f"the database at {shown(settings.database_url)} does not answer ({names(exc)})") from None


def _print_json(value: object) -> None:
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def _print_pairs(pairs: Mapping[str, Any]) -> None:
    table = Table(show_header=False, box=None)
    for name, value in pairs.items():
        if value is not None:
            table.add_row(name, str(value))
    _console().print(table)


def _print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    _console().print(table)


def _console() -> Console:
    # Piped, a table is as wide as it needs: cut off at 80 columns its ids would be of no use.
    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 250)
