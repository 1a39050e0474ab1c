"""``ackstream replay``: plan, run, list, pause, resume, cancel."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.commands.replay_runner import Detach, Rate, run, watch_until_it_ends
from console.filter_options import Accounts, Channels, Ids, Messages, Since, Statuses, Until
from console.options import AsJson, Data, RedisUrl

if TYPE_CHECKING:
    from console.queries.replays import Wanted
    from stream.settings import StreamSettings
    from worker.replay.entry_filter import Selection
    from worker.retention.settings import ArchiveSettings

app = typer.Typer(
    no_args_is_help=True,
    help="Give stored entries to a group again: of one message, of last night, of one status. Other groups do not see "
    "them, and live entries go first.\n\nAsk with `plan`, start with `run`; both take the same options. The workers "
    "of the group copy the entries, so a replay continues when the command ends.",
)

Group = Annotated[str | None, typer.Option(help="The group that gets the entries again, as `groups list` shows it.")]
Dead = Annotated[bool, typer.Option("--dead", help="Replay the group's dead letters instead of the stream's entries.")]
Archived = Annotated[
    bool, typer.Option("--archive", help="Also entries that were trimmed to ACKSTREAM_ARCHIVE; they go first.")
]
Id = Annotated[str, typer.Argument(metavar="REPLAY", help="The replay, as `list` shows it.")]


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
    """Show what `run` would replay: how many entries, when they were received, how long it takes. Changes nothing.

    Example: ackstream replay plan --since 2h --status delivered
    """
    from console.ask import ask_redis
    from console.format import age, local_time, size
    from console.output import print_json, print_pairs
    from console.queries.replays import plan
    from console.queries.selection import build_filter
    from worker.retention.settings import ArchiveSettings

    settings = ArchiveSettings.load(data=data, redis_url=redis_url)
    selection = build_filter(
        since=since, until=until, ids=ids, messages=messages, statuses=statuses, channels=channels, accounts=accounts
    )
    wanted = _wanted(settings, group, selection, rate, dead=dead, archive=archive)
    found = ask_redis(settings, lambda server: plan(server, wanted)).summary(rate)
    if as_json:
        print_json(found)
        return
    times = {name: local_time(found[name]) for name in ("first", "last")}
    print_pairs({**found, "bytes": size(found["bytes"]), **times, "seconds": None, "takes": age(found["seconds"])})


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
    """Start a replay, and watch it. Without a filter it replays all entries on the stream.

    Ctrl-C only ends the watching: `pause` or `cancel` stops the replay, `resume --watch` watches it again.

    Example: ackstream replay run --group store --since 2h --rate 500
    """
    from console.queries.selection import build_filter
    from runtime.errors import Refusal
    from worker.retention.settings import ArchiveSettings

    settings = ArchiveSettings.load(data=data, redis_url=redis_url)
    selection = build_filter(
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
    """List replays, newest first for each group: all that have not ended, and the last 20 that have.

    Example: ackstream replay list --group store
    """
    from console.ask import ask_redis
    from console.output import show
    from console.queries.replays import list_replays
    from stream.settings import StreamSettings

    settings = StreamSettings.load(data=data, redis_url=redis_url)
    replays = ask_redis(settings, lambda server: list_replays(server, settings.shard, group))
    show([one.summary() for one in replays], "replays", as_json=as_json, people=_columns)


@app.command("pause")
def pause_command(replay: Id, data: Data = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """Stop copying until `resume`. Copied entries are handled; the others are kept on the stream until then.

    Example: ackstream replay pause 1f2e3d4c
    """
    from stream.settings import StreamSettings

    _move(StreamSettings.load(data=data, redis_url=redis_url), replay, "pause", as_json=as_json)


@app.command("resume")
def resume_command(
    replay: Id,
    watch: Annotated[bool, typer.Option("--watch", help="Watch it then.")] = False,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Continue a replay after `pause` or a failure. A running replay is left as it is.

    Example: ackstream replay resume 1f2e3d4c --watch
    """
    from stream.settings import StreamSettings

    settings = StreamSettings.load(data=data, redis_url=redis_url)
    _move(settings, replay, "resume", as_json=as_json, quiet=as_json and watch)
    if watch:
        watch_until_it_ends(settings, replay, as_json=as_json)


@app.command("cancel")
def cancel_command(replay: Id, data: Data = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """Stop copying for good. Copied entries are handled all the same.

    Example: ackstream replay cancel 1f2e3d4c
    """
    from stream.settings import StreamSettings

    _move(StreamSettings.load(data=data, redis_url=redis_url), replay, "cancel", as_json=as_json)


def _move(settings: "StreamSettings", replay_id: str, act: str, *, as_json: bool, quiet: bool = False) -> None:
    from console.ask import ask_redis
    from console.output import print_json, print_line
    from console.queries.replays import move
    from runtime import logs
    from worker.replay.job import State

    to, allowed = {
        "pause": (State.PAUSED, [State.RUNNING]),
        "resume": (State.RUNNING, [State.PAUSED, State.FAILED]),
        "cancel": (State.CANCELLED, [State.RUNNING, State.PAUSED, State.FAILED]),
    }[act]
    known = ask_redis(settings, lambda server: move(server, settings.shard, replay_id, to, allowed))
    event = "replay.resumed" if to is State.RUNNING else f"replay.{to}"
    logs.line(settings.log_format, event, replay=replay_id, group=known.replay.group, scope=known.replay.scope)
    if as_json and not quiet:
        print_json(known.summary())
    elif not as_json:
        print_line(f"replay {replay_id} is {known.state}: {known.done:,} of {known.replay.total:,} copied")


def _wanted(
    settings: "ArchiveSettings", group: str | None, selection: "Selection", rate: float, *, dead: bool, archive: bool
) -> "Wanted":
    from console.queries.replays import Wanted
    from runtime.errors import Refusal
    from worker.replay.job import Place

    if dead and archive:
        raise Refusal("a replay is of dead letters, or of stream and archive: give --dead or --archive, not both")
    if dead and group is None:
        raise Refusal("each group has its own dead letters: name the group with --group")
    if archive and settings.archive is None:
        raise Refusal("there is no archive: set ACKSTREAM_ARCHIVE to the folder that the workers use")
    place = Place.DEAD if dead else Place.ARCHIVE if archive else Place.STREAM
    return Wanted(settings.shard, group, place, selection, rate, settings.archive)


def _columns(replay: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "replay": replay["replay"],
        "group": replay["group"],
        "state": replay["state"],
        "copied": f"{replay['done']}/{replay['total']}",
        "rate": f"{replay['rate']:g}",
        "scope": replay["scope"] + (f" ({replay['error']})" if replay["error"] else ""),
    }
