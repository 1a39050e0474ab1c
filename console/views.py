"""The commands that look: trace, stats, dead letters. Each shows a table, or with --json what programs rely on."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from redis.asyncio import Redis

from console.answers import ask_database, ask_redis, print_json, print_pairs, print_rows
from console.dead_letters import find_dead, list_dead
from console.fields import named
from console.options import AsJson, Data, DatabaseUrl, RedisUrl, Reveal
from console.stats import stats as gather_stats
from console.trace import trace as find_trace
from stream.connect import shown
from stream.refusal import Refusal
from worker.groups import registered
from worker.settings import WorkerSettings

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
    found = ask_database(settings, lambda engine: find_trace(engine, message_uuid, reveal=reveal))
    if found is None:
        raise Refusal(
            f"no message {message_uuid!r} in {shown(settings.database_url)}; `ackstream stats` tells what is unread"
        )
    if as_json:
        print_json(found)
        return
    state = {name: value for name, value in found.items() if name not in ("statuses", "events")}
    print_pairs({**state, **{f"{status} at": time for status, time in found["statuses"].items()}})
    print_rows(found["events"])


def stats(data: Data = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """Show what each group has still to do."""
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    found = ask_redis(settings, lambda server: gather_stats(server, settings.shard))
    if as_json:
        print_json(found)
        return
    print_rows(found["shards"])
    print_rows([{"group": name, **group} for name, group in found["groups"].items()])


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

    found = ask_redis(settings, ask)
    if as_json:
        print_json({"dead_letters": found})
    elif found:
        print_rows(found)
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
    wanted = named(dead_id)

    async def ask(server: Redis) -> list[dict[str, Any]]:
        groups = await _groups(server, settings, group)
        return [dead.whole(reveal=reveal) for dead in await find_dead(server, settings.shard, groups, wanted)]

    found = ask_redis(settings, ask)
    if not found:
        raise Refusal(f"no dead letter {dead_id}" + (f" in group {group!r}" if group else ""))
    if as_json:
        print_json({"dead_letters": found})
        return
    for dead in found:
        fields = dead.pop("fields")
        print_pairs({**dead, **fields})
        typer.echo()


def print_report(report: Mapping[str, Any], *, as_json: bool) -> None:
    """Show how a simulation was answered."""
    if as_json:
        print_json(report)
        return
    nested = {"answered": "", "latency_ms": " ms"}
    flat = {name: value for name, value in report.items() if name not in nested}
    for name, unit in nested.items():
        flat |= {f"{name.removesuffix('_ms')} {key}": f"{value}{unit}" for key, value in (report[name] or {}).items()}
    print_pairs(flat)


async def _groups(server: Redis, settings: WorkerSettings, group: str | None) -> Sequence[str]:
    known = await registered(server, settings.shard)
    if group is None:
        return known
    if group not in known and not await server.exists(settings.shard.dead(group)):  # a dropped one's may be kept
        raise Refusal(f"no group {group!r}; there are: {', '.join(known) or 'none yet'}")
    return [group]
