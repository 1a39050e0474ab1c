"""``ackstream replay``: plan, run, list, rate, pause, resume, cancel."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.commands.replays.runner import Detach, Rate, run, watch_until_it_ends
from console.filter_options import EntryOptions
from console.options import CommandGroup, OptionalWhy, ServerOptions

if TYPE_CHECKING:
    from console.queries.replays import ReplayRequest

app = CommandGroup(
    no_args_is_help=True,
    help="Replay stored entries to one group: of a message, of last night, of one status. Other groups do not get "
    "them, and live entries go first.\n\nPreview with `plan`, start with `run`; both take the same options. Workers of "
    "the group copy the entries, so a replay continues after the command ends.",
)

Id = Annotated[str, typer.Argument(metavar="REPLAY", help="The replay, as `list` shows it.")]


@dataclass(frozen=True, slots=True)
class ReplayOptions(EntryOptions):
    """Options that describe a replay, for `plan` and `run`."""

    group: Annotated[str | None, typer.Option(help="The group that gets the entries, as `groups list` shows it.")] = (
        None
    )
    dead: Annotated[
        bool, typer.Option("--dead", help="Replay the group's dead letters instead of the stream's entries.")
    ] = False
    archive: Annotated[
        bool,
        typer.Option("--archive", help="Also replay entries that were trimmed to ACKSTREAM_ARCHIVE; they go first."),
    ] = False
    rate: Rate = 1000

    def resolve(self, options: ServerOptions) -> "ReplayRequest":
        """Return the request. Raises CommandError for options that conflict."""
        from console.queries.replays import ReplayRequest
        from runtime.errors import CommandError
        from worker.replay.job import Place
        from worker.retention.settings import ArchiveSettings

        settings = ArchiveSettings.load(data=options.data, redis_url=options.redis_url)
        selection = self.selection
        if self.dead and self.archive:
            raise CommandError(
                "a replay copies dead letters, or stream and archive: give --dead or --archive, not both"
            )
        if self.dead and self.group is None:
            raise CommandError("each group has its own dead letters: name the group with --group")
        if self.archive and settings.archive is None:
            raise CommandError("no archive is configured: set ACKSTREAM_ARCHIVE to the folder that the workers use")
        place = Place.DEAD if self.dead else Place.ARCHIVE if self.archive else Place.STREAM
        return ReplayRequest(settings.shard, self.group, place, selection, self.rate, settings.archive)


@app.command("plan")
def plan_command(replay: ReplayOptions, options: ServerOptions) -> None:
    """Show what `run` would replay: the number of entries, their times of receipt, the duration. Changes nothing.

    Example: ackstream replay plan --since 2h --status delivered
    """
    from console.format import format_age, format_size, format_time
    from console.queries.replays import ReplayPlan, plan_all

    request = replay.resolve(options)
    planned = options.ask(lambda server, shards: plan_all(server, shards, request))
    summary = ReplayPlan.sum_up([plan for _, plan in planned]).summary(replay.rate)
    times = {name: format_time(summary[name]) for name in ("first", "last")}
    takes = {"bytes": format_size(summary["bytes"]), **times, "seconds": None, "takes": format_age(summary["seconds"])}
    options.answer(summary, {**summary, **takes})


@app.command("run")
def run_command(replay: ReplayOptions, options: ServerOptions, detach: Detach = False, why: OptionalWhy = None) -> None:
    """Start a replay, and watch it. Without a filter it replays all entries on the stream.

    Ctrl-C ends only this command: `pause` or `cancel` stops the replay, `resume --watch` watches it again.

    Example: ackstream replay run --group store --since 2h --rate 500
    """
    from runtime.errors import CommandError

    request = replay.resolve(options)
    if request.group is None:
        raise CommandError(
            "name the group that gets the entries with --group; `ackstream groups list` shows all groups"
        )
    run(options, request, detach=detach, why=why or "")


@app.command("list")
def list_command(
    options: ServerOptions, group: Annotated[str | None, typer.Option(help="Only this group.")] = None
) -> None:
    """List replays, newest first for each group: all that have not ended, and the last 20 that have ended.

    If a node of a cluster does not answer, the numbers are those of the other shards, and the exit code is 1.

    Example: ackstream replay list --group store
    """
    from console.output import show
    from console.queries.replays import list_replays

    with options.read(lambda server, shards: list_replays(server, shards, group)) as (replays, away):
        rows = [replay.summary() for replay in replays]
        show(rows, "replays", as_json=options.as_json, people=_columns, away=away)


@app.command("rate")
def rate_command(
    options: ServerOptions,
    replay: Id,
    rate: Annotated[float, typer.Argument(min=0.01, max=100_000, metavar="RATE", help="Entries a second.")],
) -> None:
    """Change the rate of a replay that has not ended. Its worker follows within seconds.

    Example: ackstream replay rate 1f2e3d4c 200
    """
    from console.queries.replays import change_rate

    progress = options.act(lambda server, shards: change_rate(server, shards, replay, rate))
    options.log("replay.rate", replay=replay, group=progress.replay.group, rate=rate)
    options.answer(progress.summary(), f"replay {replay} copies at most {rate:g} entries a second")


@app.command("pause")
def pause_command(options: ServerOptions, replay: Id) -> None:
    """Stop copying until `resume`. Workers handle the copied entries; the stream keeps the others until then.

    Example: ackstream replay pause 1f2e3d4c
    """
    _move(options, replay, "pause")


@app.command("resume")
def resume_command(
    options: ServerOptions,
    replay: Id,
    watch: Annotated[bool, typer.Option("--watch", help="Watch it after resuming.")] = False,
) -> None:
    """Continue a replay after `pause` or a failure. A running replay is left as it is.

    Example: ackstream replay resume 1f2e3d4c --watch
    """
    _move(options, replay, "resume", quiet=options.as_json and watch)
    if watch:
        watch_until_it_ends(options, replay)


@app.command("cancel")
def cancel_command(options: ServerOptions, replay: Id) -> None:
    """Stop copying for good. Workers still handle the copied entries.

    Example: ackstream replay cancel 1f2e3d4c
    """
    _move(options, replay, "cancel")


def _move(options: ServerOptions, replay_id: str, act: str, *, quiet: bool = False) -> None:
    from console.options import user_name
    from console.queries.replays import MOVES, move
    from worker.replay.job import State

    to = MOVES[act][0]
    progress = options.act(lambda server, shards: move(server, shards, replay_id, act, person=user_name()))
    replay = progress.replay
    event = "replay.resumed" if to is State.RUNNING else f"replay.{to}"
    options.log(event, replay=replay_id, group=replay.group, scope=replay.scope)
    if not quiet:
        sentence = f"replay {replay_id} is {progress.state}: {progress.done:,} of {replay.total:,} copied"
        options.answer(progress.summary(), sentence)


def _columns(replay: Mapping[str, Any]) -> dict[str, Any]:
    remarks = replay["started"]["why"], replay["error"]
    return {
        "replay": replay["replay"],
        "group": replay["group"],
        "state": replay["state"],
        "copied": f"{replay['done']}/{replay['total']}",
        "rate": f"{replay['rate']:g}",
        "by": replay["started"]["by"] or "",
        "scope": " ".join([replay["scope"], *(f"({text})" for text in remarks if text)]),
    }
