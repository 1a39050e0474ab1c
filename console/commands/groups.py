"""``ackstream groups``: list, pause, probe, resume, drop."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.options import CommandGroup, ServerOptions, Why, Yes

if TYPE_CHECKING:
    from console.queries.groups import GroupState

app = CommandGroup(
    no_args_is_help=True, help="The consumer groups of the stream, and the entries that each one keeps on it."
)

Group = Annotated[str, typer.Argument(help="The group's name, as `list` shows it.")]


@app.command("list")
def list_command(options: ServerOptions) -> None:
    """List all groups of the stream: live consumers, open work, and the part of the stream that each one keeps.

    If a node of a cluster does not answer, the list is that of the other shards, and the exit code is 1.

    Example: ackstream groups list
    """
    from console.output import show
    from console.queries.groups import list_groups

    def report_wait(seconds: float) -> None:
        typer.echo(f"checking heartbeats, up to {seconds:.0f} s …", err=True)

    with options.read(lambda server, shards: list_groups(server, shards, report_wait)) as (groups, away):
        rows = [group.summary() for group in groups]
        show(rows, "groups", as_json=options.as_json, people=_columns, away=away)


@app.command("pause")
def pause_command(options: ServerOptions, group: Group, why: Why) -> None:
    """Pause a group until `resume`: its workers make no calls, and keep running.

    The stream keeps the entries that the group has not handled.

    Example: ackstream groups pause store --why "database upgrade"
    """
    from console.options import user_name
    from console.queries.groups import pause_group

    options.ask_shard(0, lambda server, shard: pause_group(server, shard, group, user_name(), why))
    options.log("group.paused", group=group, why="operator", note=why)
    options.answer(
        {"group": group, "paused": "operator", "why": why},
        f"group {group!r} is paused; `ackstream groups resume {group}` ends it",
    )


@app.command("probe")
def probe_command(options: ServerOptions, group: Group) -> None:
    """Let a group that is paused for failures try one call now. It resumes by itself if the call succeeds.

    Example: ackstream groups probe store
    """
    from console.queries.groups import probe_group

    starts = options.ask_shard(0, lambda server, shard: probe_group(server, shard, group))
    sentence = "tries one call now" if starts else "tries a call already"
    options.answer({"group": group, "probe": "due" if starts else "running"}, f"group {group!r} {sentence}")


@app.command("resume")
def resume_command(options: ServerOptions, group: Group) -> None:
    """Resume a paused group at once. If the reason persists, a worker pauses it again.

    Example: ackstream groups resume store
    """
    from console.queries.groups import resume_group

    reason = options.ask_shard(0, lambda server, shard: resume_group(server, shard, group))
    was_paused = reason is not None
    sentence = f"is resumed; it was paused for: {reason}" if was_paused else "is not paused"
    options.answer({"group": group, "resumed": was_paused, "reason": reason}, f"group {group!r} {sentence}")


@app.command("drop")
def drop_command(
    options: ServerOptions,
    group: Group,
    yes: Yes = False,
    force: Annotated[bool, typer.Option("--force", help="Drop it even if it has live consumers.")] = False,
    dead: Annotated[bool, typer.Option("--dead", help="Drop its dead letters too; by default they are kept.")] = False,
) -> None:
    """Remove a group with all its unhandled work.

    Stop its workers first: a running worker creates the group again.

    Example: ackstream groups drop old-name --yes
    """
    from console.output import confirm
    from console.queries.groups import drop_group, find_group
    from runtime.errors import CommandError

    state = options.ask(lambda server, shards: find_group(server, shards, group))
    if state.liveness.most_alive and not force:
        raise CommandError(
            f"group {group!r} has live consumers ({state.liveness.most_alive}): stop its workers first, or add --force"
        )
    if not yes:
        confirm(f"{_loss(state, dead=dead)}\nDrop it?")
    if not options.act(lambda server, shards: drop_group(server, shards, state, force=force, dead=dead)):
        raise CommandError(f"nothing is dropped: a consumer of group {group!r} has started; stop its workers first")
    value = {"dropped": group, "dead_letters_dropped": dead, "was": state.summary()}
    options.answer(value, f"group {group!r} is dropped. {_loss(state, dead=dead)}")


def _loss(state: "GroupState", *, dead: bool) -> str:
    group = state.standing
    unread = group.unread if group.unread is not None else f"{state.kept_entries}{'' if state.exact else ' or more'}"
    return (
        f"Discarded with group {group.name!r}: {unread} unread entries, {group.pending} in flight, and all delayed "
        f"retries. Its {state.dead} dead letters are {'discarded too' if dead else 'kept'}."
    )


def _columns(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns for people; ``--json`` has all fields."""
    from console.format import format_age, format_size

    kept_entries = f"{group['kept_entries']}{'' if group['kept_exact'] else '+'}"
    why = f" ({group['paused_why']})" if group["paused_why"] else ""
    states = [
        f"paused: {group['paused']}{why}" if group["paused"] else "",
        "" if group["exists"] else "missing",
        "" if group["registered"] else "not registered",
    ]
    return {
        "group": group["group"],
        "alive": group["alive"],
        "unread": group["unread"],
        "pending": group["pending"],
        "dead": group["dead"],
        "kept": kept_entries,
        "size": format_size(group["kept_bytes"]),
        "oldest": format_age(group["oldest_seconds"]),
        "state": ", ".join(filter(None, states)) or "ok",
    }
