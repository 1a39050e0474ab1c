"""``ackstream shards``: list, set."""

from typing import TYPE_CHECKING, Annotated

import typer

from console.options import CommandGroup, ServerOptions
from stream.keys import MOST_SHARDS

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from console.queries.shards import ShardList

app = CommandGroup(no_args_is_help=True, help="The shards of the stream, and how many of them ingest appends to.")


@app.command("list")
def list_command(options: ServerOptions) -> None:
    """List all shards with their entries, and the work that the groups have left on each.

    A shard that is not in use any more stays readable. It is drained when no group has work left on it.
    If a node of a cluster does not answer, its shards are away, and the exit code is 1.

    Example: ackstream shards list
    """
    from console.ask import ask_redis
    from console.output import print_json, print_line, print_rows
    from console.queries.shards import list_shards, report_gaps

    async def ask(server: "Redis") -> "ShardList":
        return await list_shards(server, options.settings)

    found = ask_redis(options.settings, ask)
    if options.as_json:
        print_json(found.as_dict())
    else:
        has_nodes = any(line.node for line in found.lines)
        print_line(f"{found.layout.used} of {found.layout.known} shards are in use")
        print_rows(
            [
                {
                    "shard": line.shard,
                    "state": line.state,
                    "entries": line.entries,
                    "work": line.outstanding,
                    "dead": line.dead,
                    **({"node": line.node} if has_nodes else {}),
                }
                for line in found.lines
            ]
        )
    report_gaps(found.away)


@app.command("set")
def set_command(
    options: ServerOptions,
    number: Annotated[int, typer.Argument(min=1, max=MOST_SHARDS, metavar="NUMBER", help="The number of shards.")],
) -> None:
    """Change how many shards the stream has, while everything runs.

    Ingest and workers follow within seconds. With a lower number the other shards get no more entries; workers handle
    what is on them, and replay, trim and the lists still know them. All processes must have this version before the
    first change: an older one reads shard 0 only.

    Example: ackstream shards set 4
    """
    from console.ask import ask_redis
    from console.queries.shards import set_shards

    settings = options.settings
    before, after = ask_redis(settings, lambda server: set_shards(server, settings, number))
    if before.used != after.used:
        options.log("shards.changed", shards=after.used, before=before.used)
    value = {"in_use": after.used, "known": after.known, "before": before.used}
    sentence = f"{after.used} shards are in use, before {before.used}; `ackstream shards list` shows the work on each"
    options.answer(value, sentence)
