"""``ackstream stats``: the open work of each group, and the age of the oldest records."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from console.options import ServerOptions

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from stream.keys import Shard
    from worker.retention.settings import RetentionSettings


def stats(options: ServerOptions) -> None:
    """Show the open work of each group: unread and pending entries, retries, replays, dead letters.

    Places with an age of retention follow, each with its age and its oldest record. If a node of a cluster does not
    answer, the numbers are those of the other shards, and the exit code is 1.

    Example: ackstream stats --json
    """
    from console.output import print_json
    from console.queries.oldest_records import find_oldest_entries, find_oldest_file
    from console.queries.stats import gather_stats
    from stream.keys import Shard

    settings, stream = _read_settings(options), options.settings.stream

    async def gather(server: "Redis", shards: "Sequence[Shard]") -> "tuple[Mapping[str, Any], dict[str, float | None]]":
        return await gather_stats(server, shards), dict(await find_oldest_entries(server, shards))

    with options.read(gather) as ((state, oldest), away):
        if settings and settings.archive_retention != "off":
            known = [Shard(stream, number) for number in range(len(state["shards"]) + len(away))]
            oldest["archive"] = _try(lambda: find_oldest_file(settings, known), "archive")
        retention = _list_ages(options, settings, oldest) if settings else {}
        if options.as_json:
            print_json({**state, "away": away, "retention": retention})
        else:
            _print(options, state, retention)


def _read_settings(options: ServerOptions) -> "RetentionSettings | None":
    """Return the worker's ages; None, with a line on standard error, if a setting of them is invalid."""
    import typer

    from stream.settings import InvalidSettings
    from worker.retention.settings import RetentionSettings

    try:
        return RetentionSettings.load(data=options.data, redis_url=options.redis_url)
    except InvalidSettings as exc:
        typer.echo(f"the ages of records are not shown: {exc}", err=True)
        return None


def _list_ages(
    options: ServerOptions, settings: "RetentionSettings", oldest: Mapping[str, float | None]
) -> Mapping[str, Mapping[str, Any]]:
    """Return the age of each place, and of its oldest record; None for a place without an age."""
    from worker.retention.settings import AGES

    ages = {"stream": settings.retention, **{name: getattr(settings, f"{name}_retention") for name in AGES}}
    ages = {name: None if age == "off" else age for name, age in ages.items()}
    seconds = dict(oldest)
    if ages["tables"]:
        seconds["tables"] = _try(lambda: _ask_tables(options), "tables")
    return {
        name: {"age": age, "oldest_seconds": _round(seconds.get(name)) if age else None} for name, age in ages.items()
    }


def _ask_tables(options: ServerOptions) -> float | None:
    from console.ask import ask_database
    from console.queries.oldest_records import find_oldest_message
    from worker.store.settings import DatabaseSettings

    settings = DatabaseSettings.load(data=options.data, redis_url=options.redis_url)
    return ask_database(settings, find_oldest_message)


def _try(ask: Callable[[], float | None], name: str) -> float | None:
    """Return the answer; None, with a line on standard error, if the place cannot be read."""
    import typer

    from console.errors import explain

    try:
        return ask()
    except Exception as exc:  # noqa: BLE001 - each driver has errors of its own, and the other figures are known
        why = explain(exc) or type(exc).__name__
        typer.echo(f"the age of the oldest record is not shown: {name} cannot be read: {why}", err=True)
        return None


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _print(options: ServerOptions, state: Mapping[str, Any], retention: Mapping[str, Mapping[str, Any]]) -> None:
    from console.format import format_age
    from console.output import print_line, print_rows

    for shard in state["shards"]:
        print_line(f"shard {shard['shard']} of {options.settings.stream} has {shard['length']:,} entries")
        if shard["invalid"]["entries"]:
            print_line(f"{shard['invalid']['entries']:,} invalid payloads are recorded: see `ackstream invalid list`")
    print_rows(
        [
            {
                "group": name,
                "unread": group["unread"] if group["unread_exact"] else f"{group['unread']}+",
                **{column: group[column] for column in ("pending", "retries", "replays", "dead")},
                "oldest": format_age(group["oldest_seconds"]),
                "paused": group["paused"],
            }
            for name, group in state["groups"].items()
        ]
    )
    for name, group in state["groups"].items():
        for owner in group["owners"]:
            print_line(f"order mode: {owner['consumer']} handles shard {owner['shard']} for group {name}")
    if not state["groups"]:
        print_line("no groups yet: start a worker")
    ages = [
        {"records": name.replace("_", " "), "age": place["age"], "oldest": format_age(place["oldest_seconds"])}
        for name, place in retention.items()
        if place["age"]
    ]
    if ages:
        print_line("")
        print_rows(ages)
