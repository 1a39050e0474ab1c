"""``ackstream replay``: plan, run, list, pause, resume, cancel."""

from collections.abc import Sequence
from typing import Annotated

import typer

from console.commands.replay_runner import Detach, Rate, run, watch_until_it_ends
from console.filter_options import Accounts, Channels, Ids, Messages, Since, Statuses, Until, selected
from console.options import AsJson, Data, RedisUrl
from console.output import ask_redis, print_json, print_pairs, print_rows
from console.queries.replays import Wanted, list_replays, move, plan
from runtime import logs
from runtime.errors import Refusal
from worker.replay.entry_filter import Selection
from worker.replay.job import Place, State
from worker.settings import WorkerSettings

GOING = (State.RUNNING, State.PAUSED, State.FAILED)

app = typer.Typer(
    no_args_is_help=True,
    help="Give stored entries to a group again: those of one message, of last night, of one status … Other groups see "
    "nothing of it, and live entries go first.\n\n"
    "Ask with [bold]plan[/bold], start with [bold]run[/bold]; both take the same options. The workers of the group do "
    "it, so it goes on when the command ends.",
)

Group = Annotated[str | None, typer.Option(help="The group that gets the entries again, as `groups list` shows it.")]
Dead = Annotated[bool, typer.Option("--dead", help="The group's dead letters, which go from there, not the stream.")]
Archived = Annotated[
    bool, typer.Option("--archive", help="What was trimmed to ACKSTREAM_ARCHIVE too, before what is on the stream.")
]
Id = Annotated[str, typer.Argument(metavar="REPLAY", help="The replay that `list` shows.")]


@app.command("plan")
def plan_command(
    group: Group = None,
    since: Since = None,
    until: Until = None,
    ids: Ids = None,
    messages: Messages = None,
    statuses: Statuses = None,
    channels: Channels = None,
    accounts: Accounts = None,
    dead: Dead = False,
    archive: Archived = False,
    rate: Rate = 1000,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Say what `run` would replay: how many entries, received when, and how long it takes. Nothing is changed."""
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    selection = selected(
        since=since, until=until, ids=ids, messages=messages, statuses=statuses, channels=channels, accounts=accounts
    )
    wanted = _wanted(settings, group, selection, rate, dead=dead, archive=archive)
    found = ask_redis(settings, lambda server: plan(server, wanted)).summary(rate)
    if as_json:
        print_json(found)
    else:
        print_pairs(found)


@app.command("run")
def run_command(
    group: Group = None,
    since: Since = None,
    until: Until = None,
    ids: Ids = None,
    messages: Messages = None,
    statuses: Statuses = None,
    channels: Channels = None,
    accounts: Accounts = None,
    dead: Dead = False,
    archive: Archived = False,
    rate: Rate = 1000,
    detach: Detach = False,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Start a replay, and watch it. Without any choice it is of all entries on the stream.

    Ctrl-C ends the watching only: `pause` or `cancel` stops the replay, `resume --watch` watches it again.
    """
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    selection = selected(
        since=since, until=until, ids=ids, messages=messages, statuses=statuses, channels=channels, accounts=accounts
    )
    if group is None:
        raise Refusal("name the group that gets the entries again: --group; `ackstream groups list` shows them")
    run(settings, _wanted(settings, group, selection, rate, dead=dead, archive=archive), detach=detach, as_json=as_json)


@app.command("list")
def list_command(
    group: Annotated[str | None, typer.Option(help="Only this group.")] = None,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """List replays, of each group the newest first: all that have not ended, and the last 20 that have."""
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    found = ask_redis(settings, lambda server: list_replays(server, settings.shard, group))
    rows = [one.summary() for one in found]
    if as_json:
        print_json({"replays": rows})
    elif rows:
        print_rows(rows)
    else:
        typer.echo("no replays")


@app.command("pause")
def pause_command(replay: Id, data: Data = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """Copy nothing more until `resume`. What is copied is handled; what is not is kept on the stream meanwhile."""
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    _move(settings, replay, State.PAUSED, [State.RUNNING], as_json=as_json)


@app.command("resume")
def resume_command(
    replay: Id,
    watch: Annotated[bool, typer.Option("--watch", help="Then watch it.")] = False,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Go on where it was, after `pause` or a failure. One that runs goes on as it does."""
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    _move(settings, replay, State.RUNNING, [State.PAUSED, State.FAILED], as_json=as_json and not watch)
    if watch:
        watch_until_it_ends(settings, replay, as_json=as_json)


@app.command("cancel")
def cancel_command(replay: Id, data: Data = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """Copy nothing more, for good. What is copied is handled all the same."""
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    _move(settings, replay, State.CANCELLED, GOING, as_json=as_json)


def _move(settings: WorkerSettings, replay_id: str, to: State, of: Sequence[State], *, as_json: bool) -> None:
    known = ask_redis(settings, lambda server: move(server, settings.shard, replay_id, to, of))
    event = "replay.resumed" if to is State.RUNNING else f"replay.{to}"
    logs.line(settings.log_format, event, replay=replay_id, group=known.replay.group, scope=known.replay.scope)
    if as_json:
        print_json(known.summary())
    else:
        typer.echo(f"replay {replay_id} is {known.state}: {known.done:,} of {known.replay.total:,} copied")


def _wanted(
    settings: WorkerSettings, group: str | None, selection: Selection, rate: float, *, dead: bool, archive: bool
) -> Wanted:
    if dead and archive:
        raise Refusal("a replay is of dead letters or of stream and archive: give --dead or --archive, not both")
    if dead and group is None:
        raise Refusal("each group has dead letters of its own: name it with --group")
    if archive and settings.archive is None:
        raise Refusal("there is no archive: set ACKSTREAM_ARCHIVE to the folder that the workers have")
    place = Place.DEAD if dead else Place.ARCHIVE if archive else Place.STREAM
    return Wanted(settings.shard, group, place, selection, rate, settings.archive)
