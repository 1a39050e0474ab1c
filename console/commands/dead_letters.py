"""``ackstream dead-letters``: list, show, replay, discard."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.commands.replay_runner import Detach, Rate, run
from console.filter_options import DeadIds, Reasons, Since, Until
from console.options import AsJson, Data, RedisUrl, Reveal

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.replay.entry_filter import Selection

app = typer.Typer(
    no_args_is_help=True,
    help="Events that a group gave up on, and why. Replay them, or discard them for good.",
)

Group = Annotated[str | None, typer.Option(help="Only this group.")]
Everything = Annotated[bool, typer.Option("--all", help="All dead letters.")]


@app.command("list")
def list_command(
    group: Group = None,
    reasons: Reasons = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most this many of each group, newest first.")] = 20,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Count dead letters by error, and list the newest.

    The error is the class and the place of the last failure; its message is private and in `show --reveal`.

    Example: ackstream dead-letters list --group store --since 1d
    """
    from console.ask import ask_redis
    from console.output import print_json, print_line, print_rows
    from console.queries.dead_letters import DeadLetters, groups_of, list_dead
    from console.queries.selection import build_filter
    from stream.settings import StreamSettings

    settings = StreamSettings.load(data=data, redis_url=redis_url)
    selection = build_filter(since=since, until=until, reasons=reasons)

    async def ask(server: "Redis") -> DeadLetters:
        groups = await groups_of(server, settings.shard, group)
        return await list_dead(server, settings.shard, groups, limit, selection)

    found = ask_redis(settings, ask)
    if as_json:
        print_json(found.as_dict())
        return
    if not found.newest:
        print_line("no dead letters")
        return
    print_rows([_error_columns(error) for error in found.by_error()])
    print_line(f"\nthe newest {len(found.newest)} of {found.total}:\n")
    print_rows([_columns(dead.summary()) for dead in found.newest])


@app.command("show")
def show_command(
    dead_id: Annotated[str, typer.Argument(metavar="ID", help="The id that `list` shows, shard/ms-seq.")],
    group: Group = None,
    data: Data = None,
    redis_url: RedisUrl = None,
    reveal: Reveal = False,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with its payload and its last errors, of each group that has it. Exits with 1 if none has.

    Example: ackstream dead-letters show 0/1764000000000-0 --reveal
    """
    from console.ask import ask_redis
    from console.format import parse_entry_id
    from console.output import print_json
    from console.queries.dead_letters import find_dead, groups_of
    from runtime.errors import Refusal
    from stream.settings import StreamSettings

    settings = StreamSettings.load(data=data, redis_url=redis_url)
    wanted = parse_entry_id(dead_id)

    async def ask(server: "Redis") -> list[dict[str, Any]]:
        groups = await groups_of(server, settings.shard, group)
        return [dead.whole(reveal=reveal) for dead in await find_dead(server, settings.shard, groups, wanted)]

    found = ask_redis(settings, ask)
    if not found:
        where = f" in group {group!r}" if group else ""
        raise Refusal(f"no dead letter {dead_id}{where}; `ackstream dead-letters list` shows all")
    if as_json:
        print_json({"dead_letters": found})
        return
    for dead in found:
        _print_whole(dead)


@app.command("replay")
def replay_command(
    group: Annotated[str | None, typer.Option(help="The group whose dead letters are replayed.")] = None,
    ids: DeadIds = None,
    reasons: Reasons = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    rate: Rate = 1000,
    detach: Detach = False,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Give a group its dead letters again, from attempt 1. Each leaves the list when it is copied.

    It is a replay like any other: `ackstream replay list` shows it.

    Example: ackstream dead-letters replay --group store --reason attempts
    """
    from console.ask import ask_redis
    from console.queries.dead_letters import require_all
    from console.queries.replays import Wanted
    from console.queries.selection import build_filter
    from runtime.errors import Refusal
    from stream.settings import StreamSettings
    from worker.replay.job import Place

    settings = StreamSettings.load(data=data, redis_url=redis_url)
    selection = build_filter(ids=ids, reasons=reasons, since=since, until=until)
    _require_choice(selection, everything, "replay")
    if group is None:
        raise Refusal("each group has its own dead letters: name the group with --group")
    ask_redis(settings, lambda server: require_all(server, settings.shard, [group], selection))
    wanted = Wanted(settings.shard, group, Place.DEAD, selection, rate, None)
    run(settings, wanted, detach=detach, as_json=as_json)


@app.command("discard")
def discard_command(
    group: Group = None,
    ids: DeadIds = None,
    reasons: Reasons = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Discard dead letters for good. Choose them with --id, --reason, --since, --until, or --all.

    Without --group they are discarded for all groups. The stream keeps its entries until they are trimmed, so
    `replay run` can still replay them.

    Example: ackstream dead-letters discard --group store --reason invalid-status
    """
    from console.ask import ask_redis
    from console.output import print_json, print_line
    from console.queries.dead_letters import discard_dead, groups_of, require_all
    from console.queries.selection import build_filter
    from runtime import logs
    from stream.settings import StreamSettings

    settings = StreamSettings.load(data=data, redis_url=redis_url)
    selection = build_filter(ids=ids, reasons=reasons, since=since, until=until)
    _require_choice(selection, everything, "discard")

    async def ask(server: "Redis") -> dict[str, int]:
        groups = await groups_of(server, settings.shard, group)
        await require_all(server, settings.shard, groups, selection)
        return {name: await discard_dead(server, settings.shard, name, selection) for name in groups}

    discarded = ask_redis(settings, ask)
    for name, letters in discarded.items():
        if letters:
            event = "dead_letters.discarded"
            logs.line(settings.log_format, event, group=name, scope=selection.scope, letters=letters)
    if as_json:
        print_json({"discarded": discarded})
    else:
        print_line(f"{sum(discarded.values()):,} dead letters are discarded")


def _require_choice(selection: "Selection", everything: bool, act: str) -> None:
    from runtime.errors import Refusal

    if selection.is_all and not everything:
        raise Refusal(f"choose what to {act}: --id, --reason, --since, --until, or --all")
    if everything and not selection.is_all:
        raise Refusal("--all cannot be combined with --id, --reason, --since or --until: give one or the other")


def _columns(dead: Mapping[str, Any]) -> dict[str, Any]:
    from console.format import ago

    return {
        "id": dead["id"],
        "group": dead["group"],
        "reason": dead["reason"],
        "attempts": dead["attempts"],
        "received": _past(ago(dead["received_at"])),
        "error": dead["error"],
    }


def _error_columns(error: Mapping[str, Any]) -> dict[str, Any]:
    from console.format import ago

    return {
        "count": error["count"],
        "group": error["group"],
        "reason": error["reason"],
        "newest": _past(ago(error["newest_received_at"])),
        "error": error["error"],
    }


def _past(age: str | None) -> str | None:
    return None if age is None else f"{age} ago"


def _print_whole(dead: Mapping[str, Any]) -> None:
    from console.format import local_time
    from console.output import print_line, print_pairs

    named = {name: value for name, value in dead.items() if name not in ("fields", "errors", "received_at")}
    print_pairs({**named, "received": local_time(dead["received_at"]), **dead["fields"]})
    for error in dead["errors"]:
        where = f" at {error['place']}" if error["place"] else ""
        print_line(f"failed {local_time(error['at']) or ''} {error['class']}{where}")
    typer.echo()
