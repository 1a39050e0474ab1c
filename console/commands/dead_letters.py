"""``ackstream dead-letters``: list, show, replay, discard."""

from typing import Annotated, Any

import typer
from redis.asyncio import Redis

from console.commands.replay_runner import Detach, Rate, run
from console.filter_options import DeadIds, Reasons, Since, Until, selected
from console.format import named
from console.options import AsJson, Data, RedisUrl, Reveal
from console.output import ask_redis, print_json, print_pairs, print_rows
from console.queries.dead_letters import discard_dead, find_dead, groups_of, list_dead
from console.queries.replays import Wanted
from runtime import logs
from runtime.errors import Refusal
from worker.replay.entry_filter import Selection
from worker.replay.job import Place
from worker.settings import WorkerSettings

app = typer.Typer(
    no_args_is_help=True,
    help="What the groups gave up on, and why; giving it to them again, or dropping it for good.",
)

Group = Annotated[str | None, typer.Option(help="Only this group.")]
Everything = Annotated[bool, typer.Option("--all", help="All dead letters.")]


@app.command("list")
def list_command(
    group: Group = None,
    reasons: Reasons = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many of each group, newest first.")] = 100,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters: id, group, reason, error, attempts, when received."""
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    selection = selected(since=since, until=until, reasons=reasons)

    async def ask(server: Redis) -> list[dict[str, Any]]:
        groups = await groups_of(server, settings.shard, group)
        return [dead.summary() for dead in await list_dead(server, settings.shard, groups, limit, selection)]

    found = ask_redis(settings, ask)
    if as_json:
        print_json({"dead_letters": found})
    elif found:
        print_rows(found)
    else:
        typer.echo("no dead letters")


@app.command("show")
def show_command(
    dead_id: Annotated[str, typer.Argument(metavar="ID", help="The id that `list` shows, shard/ms-seq.")],
    group: Group = None,
    data: Data = None,
    redis_url: RedisUrl = None,
    reveal: Reveal = False,
    as_json: AsJson = False,
) -> None:
    """Show a dead letter whole, of each group that has one with this id. Exits with 1 if none has."""
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    wanted = named(dead_id)

    async def ask(server: Redis) -> list[dict[str, Any]]:
        groups = await groups_of(server, settings.shard, group)
        return [dead.whole(reveal=reveal) for dead in await find_dead(server, settings.shard, groups, wanted)]

    found = ask_redis(settings, ask)
    if not found:
        raise Refusal(f"no dead letter {dead_id}" + (f" in group {group!r}" if group else ""))
    if as_json:
        print_json({"dead_letters": found})
        return
    for dead in found:
        fields = dead.pop("fields")
        print_pairs({**dead, **fields})
        typer.echo()


@app.command("replay")
def replay_command(
    group: Annotated[str | None, typer.Option(help="The group whose dead letters they are.")] = None,
    ids: DeadIds = None,
    reasons: Reasons = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    rate: Rate = 1000,
    detach: Detach = False,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Give a group its dead letters again, from attempt 1; each goes from the list when its copy is made.

    It is a replay like any other: `ackstream replay list` shows it.
    """
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    selection = selected(ids=ids, reasons=reasons, since=since, until=until)
    _named(selection, everything, "replay")
    if group is None:
        raise Refusal("each group has dead letters of its own: name it with --group")
    if ids:
        ask_redis(settings, lambda server: _all_there(server, settings, [group], selection))
    wanted = Wanted(settings.shard, group, Place.DEAD, selection, rate, None)
    run(settings, wanted, detach=detach, as_json=as_json)


@app.command("discard")
def discard_command(
    group: Group = None,
    ids: DeadIds = None,
    reasons: Reasons = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Drop dead letters for good. Name which: --id, --reason, --since, --until, or --all.

    Without --group they are those of all groups. The stream keeps its entries until they are trimmed, so that
    `replay run` can still give them again.
    """
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    selection = selected(ids=ids, reasons=reasons, since=since, until=until)
    _named(selection, everything, "discard")

    async def ask(server: Redis) -> dict[str, int]:
        groups = await groups_of(server, settings.shard, group)
        if ids:
            await _all_there(server, settings, groups, selection)
        return {name: await discard_dead(server, settings.shard, name, selection) for name in groups}

    discarded = ask_redis(settings, ask)
    for name, letters in discarded.items():
        if letters:
            event = "dead_letters.discarded"
            logs.line(settings.log_format, event, group=name, scope=selection.scope, letters=letters)
    if as_json:
        print_json({"discarded": discarded})
    else:
        typer.echo(f"{sum(discarded.values()):,} dead letters are discarded")


def _named(selection: Selection, everything: bool, act: str) -> None:
    if selection.is_all and not everything:
        raise Refusal(f"name what to {act}: --id, --reason, --since, --until, or --all")
    if everything and not selection.is_all:
        raise Refusal("--all is all: leave out --id, --reason, --since and --until, or --all")


async def _all_there(server: Redis, settings: WorkerSettings, groups: list[str], selection: Selection) -> None:
    """Raise Refusal for an id that no group has."""
    for dead_id in selection.ids:
        if not await find_dead(server, settings.shard, groups, named(dead_id)):
            where = f" in group {groups[0]!r}" if len(groups) == 1 else ""
            raise Refusal(f"no dead letter {dead_id}{where}; `ackstream dead-letters list` shows those that there are")
