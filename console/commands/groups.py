"""``ackstream groups``: list, resume, drop."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.options import AsJson, Data, RedisUrl

if TYPE_CHECKING:
    from console.queries.groups import GroupState

app = typer.Typer(
    no_args_is_help=True, help="The consumer groups of the stream, and the entries that are kept for each."
)

Group = Annotated[str, typer.Argument(help="The group's name, as `list` shows it.")]


@app.command("list")
def list_command(data: Data = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """List all groups of the stream: live consumers, open work, and how much of the stream is kept for each.

    Example: ackstream groups list
    """
    from console.ask import ask_redis
    from console.output import show
    from console.queries.groups import list_groups
    from stream.settings import StreamSettings

    settings = StreamSettings.load(data=data, redis_url=redis_url)

    def say_waiting(seconds: float) -> None:
        typer.echo(f"checking heartbeats, up to {seconds:.0f} s …", err=True)

    groups = ask_redis(settings, lambda server: list_groups(server, settings.shard, say_waiting))
    show([group.summary() for group in groups], "groups", as_json=as_json, people=_columns)


@app.command("resume")
def resume_command(group: Group, data: Data = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """Resume a paused group at once. It is paused again if the reason has not gone away.

    Example: ackstream groups resume store
    """
    from console.ask import ask_redis
    from console.output import print_json, print_line
    from console.queries.groups import resume_group
    from stream.settings import StreamSettings

    settings = StreamSettings.load(data=data, redis_url=redis_url)
    reason = ask_redis(settings, lambda server: resume_group(server, settings.shard, group))
    if as_json:
        print_json({"group": group, "resumed": reason is not None, "reason": reason})
    elif reason is None:
        print_line(f"group {group!r} is not paused")
    else:
        print_line(f"group {group!r} is resumed; it was paused for: {reason}")


@app.command("drop")
def drop_command(
    group: Group,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also if one of its consumers is alive.")] = False,
    dead: Annotated[bool, typer.Option("--dead", help="Drop its dead letters too; by default they are kept.")] = False,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Give a group up, with everything that it has not handled.

    Stop its workers first: a running worker makes the group again.

    Example: ackstream groups drop old-name --yes
    """
    from console.ask import ask_redis
    from console.output import confirm, print_json, print_line
    from console.queries.groups import drop_group, find_group
    from runtime.errors import Refusal
    from stream.settings import StreamSettings

    settings = StreamSettings.load(data=data, redis_url=redis_url)
    shard = settings.shard
    state = ask_redis(settings, lambda server: find_group(server, shard, group))
    if state.seen.alive and not force:
        raise Refusal(
            f"group {group!r} has live consumers ({state.seen.alive}): stop its workers first, or add --force"
        )
    if not yes:
        confirm(f"{_loss(state, dead=dead)}\nDrop it?")
    if not ask_redis(settings, lambda server: drop_group(server, shard, state, force=force, dead=dead)):
        raise Refusal(f"nothing is dropped: a consumer of group {group!r} has started; stop its workers first")
    if as_json:
        print_json({"dropped": group, "dead_letters_dropped": dead, "was": state.summary()})
    else:
        print_line(f"group {group!r} is dropped. {_loss(state, dead=dead)}")


def _loss(state: "GroupState", *, dead: bool) -> str:
    group = state.standing
    unread = group.unread if group.unread is not None else f"{state.kept}{'' if state.exact else ' or more'}"
    return (
        f"Discarded with group {group.name!r}: {unread} unread entries, {group.pending} in flight, and all delayed "
        f"retries. Its {state.dead} dead letters are {'discarded too' if dead else 'kept'}."
    )


def _columns(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person looks for first; the rest is in ``--json``."""
    from console.format import age, size

    kept = f"{group['kept_entries']}{'' if group['kept_exact'] else '+'}"
    states = [
        f"paused: {group['paused']}" if group["paused"] else "",
        "" if group["exists"] else "missing",
        "" if group["registered"] else "not registered",
    ]
    return {
        "group": group["group"],
        "alive": group["alive"],
        "unread": group["unread"],
        "pending": group["pending"],
        "dead": group["dead"],
        "kept": kept,
        "size": size(group["kept_bytes"]),
        "oldest": age(group["oldest_seconds"]),
        "state": ", ".join(filter(None, states)) or "ok",
    }
