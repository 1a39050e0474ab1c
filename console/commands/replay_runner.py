"""Starting a replay from the command line, and watching it until it ends."""

import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from console.options import ServerOptions
    from console.queries.replays import ReplayPlan, ReplayRequest
    from stream.keys import Shard
    from worker.replay.job import Progress, Replay

Rate = Annotated[float, typer.Option(min=0.01, max=100_000, help="Entries a second.")]
Detach = Annotated[bool, typer.Option("--detach", help="Start it, and do not watch it.")]


def run(options: "ServerOptions", wanted: "ReplayRequest", *, detach: bool) -> None:
    """Start what is wanted, and watch it unless ``detach``. Raises Refusal."""
    from console.queries.replays import plan, start

    async def launch(server: "Redis", _shard: "Shard") -> "tuple[ReplayPlan, Replay | None]":
        found = await plan(server, wanted)
        return found, await start(server, wanted, found) if found.entries else None

    found, replay = options.ask(launch)
    if replay is None:
        value = {"replay": None, "group": wanted.group, "total": 0, "rate": wanted.rate}
        options.answer(value, f"nothing to replay: no entries match {wanted.selection.scope!r}")
        return
    more = {"scope": replay.scope, "entries": found.entries, "rate": replay.rate}
    options.log("replay.started", replay=replay.id, group=replay.group, **more)
    if not detach:
        watch_until_it_ends(options, replay.id)
        return
    value = {"replay": replay.id, "group": replay.group, "total": replay.total, "rate": replay.rate}
    options.answer(value, f"replay {replay.id} has started: {replay.total:,} entries for group {replay.group!r}")


def watch_until_it_ends(options: "ServerOptions", replay_id: str) -> None:
    """Show its progress. Raises Refusal if it fails; Ctrl-C says that it goes on, with exit code 130."""
    from rich.console import Console

    from console.queries.replay_progress import watch

    try:
        progress = options.ask(
            lambda server, shard: watch(server, shard, replay_id, Console(stderr=True, highlight=False))
        )
    except KeyboardInterrupt:
        _exit_interrupted(replay_id)
    _print_result(progress, as_json=options.as_json)


def _print_result(known: "Progress", *, as_json: bool) -> None:
    from console.output import print_json, print_line
    from console.queries.replay_progress import describe_progress
    from runtime.errors import Refusal
    from worker.replay.job import State

    if as_json:
        print_json(known.summary())
    elif known.state is not State.FAILED:
        print_line("\n".join(describe_progress(known)))
    if known.state is State.FAILED:
        raise Refusal("; ".join(describe_progress(known)))


def _exit_interrupted(replay_id: str) -> NoReturn:
    from runtime.errors import INTERRUPTED

    typer.echo(
        f"replay {replay_id} goes on without this command; `ackstream replay resume {replay_id} --watch` watches it, "
        "`pause` and `cancel` stop it",
        err=True,
    )
    sys.exit(INTERRUPTED)
