"""``ackstream groups``: list, resume, drop."""

from typing import Annotated

import typer

from console.options import AsJson, Data, RedisUrl
from console.output import ask_redis, print_json, print_rows
from console.queries.groups import GroupState, drop_group, find_group, list_groups
from runtime.errors import Refusal
from worker.dispatch.pause import resume
from worker.settings import WorkerSettings

app = typer.Typer(no_args_is_help=True, help="Who reads the stream, and what is kept for whom.")


@app.command("list")
def list_command(data: Data = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """List all groups, registered or not: who is alive, what is left to do, how much of the stream is kept for it."""
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    found = [state.summary() for state in ask_redis(settings, lambda server: list_groups(server, settings.shard))]
    if as_json:
        print_json({"groups": found})
    elif found:
        print_rows(found)
    else:
        typer.echo("no groups")


@app.command("resume")
def resume_command(
    group: Annotated[str, typer.Argument(help="The group's name, as `list` shows it.")],
    data: Data = None,
    redis_url: RedisUrl = None,
) -> None:
    """Let a paused group go on at once. It is paused again if what it was paused for is still so."""
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    why = ask_redis(settings, lambda server: resume(server, settings.shard, group))
    typer.echo(f"group {group!r} is not paused" if why is None else f"group {group!r} goes on; it was paused: {why}")


@app.command("drop")
def drop_command(
    group: Annotated[str, typer.Argument(help="The group's name, as `list` shows it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also while a consumer of it is alive.")] = False,
    dead: Annotated[bool, typer.Option("--dead", help="Drop its dead letters too; they are kept otherwise.")] = False,
    data: Data = None,
    redis_url: RedisUrl = None,
) -> None:
    """Give a group up, with all that it has not handled. Stop its workers first: one that runs makes it again."""
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    state = ask_redis(settings, lambda server: find_group(server, settings.shard, group))
    if state.seen.alive and not force:
        raise Refusal(
            f"group {group!r} has live consumers ({state.seen.alive}): stop its workers first, or add --force"
        )
    typer.echo(_loss(state, dead=dead))
    if not yes:
        typer.confirm("Drop it?", abort=True)
    shard = settings.shard
    if not ask_redis(settings, lambda server: drop_group(server, shard, state, force=force, dead=dead)):
        raise Refusal(f"a consumer of group {group!r} has come meanwhile: nothing is dropped")
    typer.echo(f"group {group!r} is dropped")


def _loss(state: GroupState, *, dead: bool) -> str:
    one = state.standing
    unread = one.unread if one.unread is not None else f"{state.kept}{'' if state.exact else ' or more'}"
    return (
        f"With group {one.name!r} go {unread} unread entries, {one.pending} that are in hand, and all that waits to be "
        f"tried again; its {state.dead} dead letters {'go too' if dead else 'are kept'}."
    )
