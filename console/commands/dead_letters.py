"""``ackstream dead-letters``: list, show, replay, discard."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.commands.replays.runner import Detach, Rate, run
from console.filter_options import DeadLetterOptions, Errors, Reasons, Since, Until
from console.options import CommandGroup, EntryArgument, Reveal, ServerOptions

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from stream.keys import Shard

app = CommandGroup(
    no_args_is_help=True,
    help="Events that a group could not handle, and why. Replay them, or discard them for good.",
)

Group = Annotated[str | None, typer.Option(help="Only this group.")]


@app.command("list")
def list_command(
    options: ServerOptions,
    group: Group = None,
    reasons: Reasons = None,
    errors: Errors = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most this many of each group, newest first.")] = 20,
) -> None:
    """Count dead letters by error, and list the newest.

    The error is the class and the place of the last failure. `show --reveal` prints its message, which may be private.
    If a node of a cluster does not answer, the dead letters are those of the other shards, and the exit code is 1.

    Example: ackstream dead-letters list --group store --since 1d
    """
    from console.output import print_json, print_line, print_rows
    from console.queries.dead_letters import DeadLetters, list_dead, resolve_groups
    from console.queries.selection import build_filter

    selection = build_filter(since=since, until=until, reasons=reasons, errors=errors)

    async def ask(server: "Redis", shards: "Sequence[Shard]") -> DeadLetters:
        return await list_dead(server, shards, await resolve_groups(server, shards, group), limit, selection)

    with options.read(ask) as (letters, away):
        if options.as_json:
            print_json({**letters.as_dict(), "away": away})
        elif not letters.newest:
            print_line("no dead letters")
        else:
            print_rows([_error_columns(error) for error in letters.by_error()])
            print_line(f"\nthe newest {len(letters.newest)} of {letters.total}:\n")
            print_rows([_columns(dead.summary()) for dead in letters.newest])


@app.command("show")
def show_command(options: ServerOptions, dead_id: EntryArgument, group: Group = None, reveal: Reveal = False) -> None:
    """Show a dead letter with its payload and its last errors, for each group that has it. Exits with 1 if none has it.

    Example: ackstream dead-letters show 0/1764000000000-0 --reveal
    """
    from console.format import parse_entry_id
    from console.output import print_json
    from console.queries.dead_letters import find_dead, resolve_groups
    from runtime.errors import CommandError

    entry_id = parse_entry_id(dead_id)

    async def ask(server: "Redis", shard: "Shard") -> list[dict[str, Any]]:
        groups = await resolve_groups(server, [shard], group)
        return [dead.details(reveal=reveal) for dead in await find_dead(server, [shard], groups, entry_id)]

    letters = options.ask_shard(entry_id.shard, ask)
    if not letters:
        where = f" in group {group!r}" if group else ""
        raise CommandError(f"no dead letter {dead_id}{where}; `ackstream dead-letters list` shows all")
    if options.as_json:
        print_json({"dead_letters": letters})
        return
    for dead in letters:
        _print_details(dead)


@app.command("replay")
def replay_command(
    choice: DeadLetterOptions,
    options: ServerOptions,
    group: Annotated[str | None, typer.Option(help="The group whose dead letters are replayed.")] = None,
    rate: Rate = 1000,
    detach: Detach = False,
) -> None:
    """Replay the dead letters of a group, from attempt 1. A copied dead letter is removed from the list.

    `ackstream replay list` shows the replay.

    Example: ackstream dead-letters replay --group store --reason attempts
    """
    from console.queries.dead_letters import require_all
    from console.queries.replays import ReplayRequest
    from runtime.errors import CommandError
    from worker.replay.job import Place

    selection = choice.choose("replay")
    if group is None:
        raise CommandError("each group has its own dead letters: name the group with --group")
    options.ask(lambda server, shards: require_all(server, shards, [group], selection))
    run(options, ReplayRequest(options.settings.shard, group, Place.DEAD, selection, rate, None), detach=detach)


@app.command("discard")
def discard_command(choice: DeadLetterOptions, options: ServerOptions, group: Group = None) -> None:
    """Discard dead letters for good. Choose them with --id, --reason, --error, --since, --until, or --all.

    Without --group they are discarded for all groups. The stream keeps its entries until they are trimmed, so
    `replay run` can still replay them.

    Example: ackstream dead-letters discard --group store --reason invalid-status
    """
    from console.queries.dead_letters import discard_dead, require_all, resolve_groups

    selection = choice.choose("discard")

    async def ask(server: "Redis", shards: "Sequence[Shard]") -> dict[str, int]:
        groups = await resolve_groups(server, shards, group)
        await require_all(server, shards, groups, selection)
        return {name: sum([await discard_dead(server, shard, name, selection) for shard in shards]) for name in groups}

    discarded = options.act(ask)
    for name, letters in discarded.items():
        if letters:
            options.log("dead_letters.discarded", group=name, scope=selection.scope, letters=letters)
    options.answer({"discarded": discarded}, f"{sum(discarded.values()):,} dead letters are discarded")


def _columns(dead: Mapping[str, Any]) -> dict[str, Any]:
    from console.format import format_ago

    return {
        "id": dead["id"],
        "group": dead["group"],
        "reason": dead["reason"],
        "attempts": dead["attempts"],
        "received": format_ago(dead["received_at"]),
        "error": dead["error"],
    }


def _error_columns(error: Mapping[str, Any]) -> dict[str, Any]:
    from console.format import format_ago

    return {
        "count": error["count"],
        "group": error["group"],
        "reason": error["reason"],
        "newest": format_ago(error["newest_received_at"]),
        "error": error["error"],
    }


def _print_details(dead: Mapping[str, Any]) -> None:
    from console.format import format_time
    from console.output import print_line, print_pairs

    columns = {name: value for name, value in dead.items() if name not in ("fields", "errors", "received_at")}
    print_pairs({**columns, "received": format_time(dead["received_at"]), **dead["fields"]})
    for error in dead["errors"]:
        where = f" at {error['place']}" if error["place"] else ""
        print_line(f"failed {format_time(error['at']) or ''} {error['class']}{where}")
    typer.echo()
