"""Start a replay from the command line, and watch it until it ends."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from console.options import ServerOptions
    from console.queries.replays import ReplayRequest
    from stream.keys import Shard
    from worker.replay.job import Progress, Replay

Rate = Annotated[float, typer.Option(min=0.01, max=100_000, help="Entries a second.")]
Detach = Annotated[bool, typer.Option("--detach", help="Start the replay without watching it.")]


def run(options: "ServerOptions", request: "ReplayRequest", *, detach: bool, why: str = "") -> None:
    """Start the replay on all shards, and watch it unless ``detach``. Raises CommandError, PartlyDone."""
    from console.options import user_name
    from console.queries.replays import plan_all, start

    async def launch(server: "Redis", shards: "Sequence[Shard]") -> "Replay | None":
        planned = await plan_all(server, shards, request)
        has_entries = any(result.entries for _, result in planned)
        return await start(server, planned, person=user_name(), why=why) if has_entries else None

    replay = options.ask(launch)
    if replay is None:
        value = {"replay": None, "group": request.group, "total": 0, "rate": request.rate}
        options.answer(value, f"nothing to replay: no entries match {request.selection.scope!r}")
        return
    fields = {"scope": replay.scope, "entries": replay.total, "rate": replay.rate}
    options.log("replay.started", replay=replay.id, group=replay.group, **fields)
    if not detach:
        watch_until_it_ends(options, replay.id)
        return
    value = {"replay": replay.id, "group": replay.group, "total": replay.total, "rate": replay.rate}
    options.answer(value, f"replay {replay.id} has started: {replay.total:,} entries for group {replay.group!r}")


def watch_until_it_ends(options: "ServerOptions", replay_id: str) -> None:
    """Show the progress of a replay. Raises CommandError if it fails. Ctrl-C exits with 130; the replay continues."""
    from rich.console import Console

    from console.queries.replay_progress import watch

    try:
        progress = options.ask(
            lambda server, shards: watch(server, shards, replay_id, Console(stderr=True, highlight=False))
        )
    except KeyboardInterrupt:
        _exit_interrupted(replay_id)
    _print_result(progress, as_json=options.as_json)


def _print_result(progress: "Progress", *, as_json: bool) -> None:
    from console.output import print_json, print_line
    from console.queries.replay_progress import describe_progress
    from runtime.errors import CommandError
    from worker.replay.job import State

    if as_json:
        print_json(progress.summary())
    elif progress.state is not State.FAILED:
        print_line("\n".join(describe_progress(progress)))
    if progress.state is State.FAILED:
        raise CommandError("; ".join(describe_progress(progress)))


def _exit_interrupted(replay_id: str) -> NoReturn:
    from runtime.errors import INTERRUPTED

    typer.echo(
        f"replay {replay_id} continues without this command; `ackstream replay resume {replay_id} --watch` watches it, "
        "`pause` and `cancel` stop it",
        err=True,
    )
    sys.exit(INTERRUPTED)
