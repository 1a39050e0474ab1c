"""Beginning a replay from the command line, and watching it until it ends."""

import sys
from typing import Annotated, NoReturn

import typer
from redis.asyncio import Redis
from rich.console import Console

from console.output import ask_redis, print_json
from console.queries.replays import Plan, Wanted, plan, start, told, watch
from runtime import logs
from runtime.errors import Refusal
from runtime.process import INTERRUPTED
from worker.replay.job import Progress, Replay, State
from worker.settings import WorkerSettings

Rate = Annotated[float, typer.Option(min=0.01, max=100_000, help="Entries a second.")]
Detach = Annotated[bool, typer.Option("--detach", help="Start it, and do not watch.")]


def run(settings: WorkerSettings, wanted: Wanted, *, detach: bool, as_json: bool) -> None:
    """Start what is wanted, and watch it unless told not to. Raises Refusal."""

    async def begin(server: Redis) -> tuple[Plan, Replay | None]:
        found = await plan(server, wanted)
        return found, await start(server, wanted, found) if found.entries else None

    found, replay = ask_redis(settings, begin)
    if replay is None:
        _say_nothing_is_found(wanted, as_json=as_json)
        return
    logs.line(
        settings.log_format,
        "replay.started",
        replay=replay.id,
        group=replay.group,
        scope=replay.scope,
        entries=found.entries,
        rate=replay.rate,
    )
    if not detach:
        watch_until_it_ends(settings, replay.id, as_json=as_json)
    elif as_json:
        print_json({"replay": replay.id, "group": replay.group, "total": replay.total, "rate": replay.rate})
    else:
        typer.echo(f"replay {replay.id} has begun: {replay.total:,} entries for group {replay.group!r}")


def watch_until_it_ends(settings: WorkerSettings, replay_id: str, *, as_json: bool) -> None:
    """Show its progress. Raises Refusal if it fails; Ctrl-C says that it goes on, with exit code 130."""
    try:
        known = ask_redis(
            settings, lambda server: watch(server, settings.shard, replay_id, Console(stderr=True, highlight=False))
        )
    except KeyboardInterrupt:
        _leave(replay_id)
    _show(known, as_json=as_json)


def _show(known: Progress, *, as_json: bool) -> None:
    if as_json:
        print_json(known.summary())
    elif known.state is not State.FAILED:
        typer.echo("\n".join(told(known)))
    if known.state is State.FAILED:
        raise Refusal("; ".join(told(known)))


def _leave(replay_id: str) -> NoReturn:
    typer.echo(
        f"replay {replay_id} goes on without this command; `ackstream replay resume {replay_id} --watch` watches it, "
        "`pause` and `cancel` stop it",
        err=True,
    )
    sys.exit(INTERRUPTED)


def _say_nothing_is_found(wanted: Wanted, *, as_json: bool) -> None:
    if as_json:
        print_json({"replay": None, "group": wanted.group, "total": 0, "rate": wanted.rate})
    else:
        typer.echo(f"nothing to replay: no entry is meant by {wanted.selection.scope!r}")
