"""``ackstream invalid``: list, show, replay, discard."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.options import AsJson, Data, RedisUrl

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from stream.entry import EntryId
    from stream.settings import StreamSettings

app = typer.Typer(
    no_args_is_help=True,
    help="Payloads without a status and without a right signature: recorded once for all groups.",
)

Id = Annotated[str, typer.Argument(metavar="ID", help="The id that `list` shows, shard/ms-seq.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="The ids that `list` shows.")]
Everything = Annotated[bool, typer.Option("--all", help="All that are recorded.")]


@app.command("list")
def list_command(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most this many, newest first.")] = 20,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Count the recorded payloads and list the newest.

    Example: ackstream invalid list --limit 100
    """
    from console.ask import ask_redis
    from console.output import print_json, print_line, print_rows
    from console.queries.invalid import count_invalid, list_invalid
    from stream.settings import StreamSettings

    settings = StreamSettings.load(data=data, redis_url=redis_url)

    async def ask(server: "Redis") -> tuple[Mapping[str, int], list[dict[str, Any]]]:
        found = await list_invalid(server, settings.shard, limit)
        return await count_invalid(server, settings.shard), [one.summary() for one in found]

    counts, found = ask_redis(settings, ask)
    if as_json:
        print_json({**counts, "invalid": found})
        return
    if not found:
        print_line("no invalid payloads are recorded")
        return
    print_line(f"the newest {len(found)} of {counts['entries']:,}; {counts['dropped']:,} older ones were dropped\n")
    print_rows([_columns(one) for one in found])


@app.command("show")
def show_command(
    record_id: Id,
    data: Data = None,
    redis_url: RedisUrl = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the payload and the query of the URL.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one recorded payload: when it came, why it is invalid, and with --reveal what it is.

    Example: ackstream invalid show 0/1764000000000-0 --reveal
    """
    from console.ask import ask_redis
    from console.format import local_time, parse_entry_id
    from console.output import print_json, print_pairs
    from console.queries.invalid import find_invalid
    from runtime.errors import Refusal
    from stream.settings import StreamSettings

    settings = StreamSettings.load(data=data, redis_url=redis_url)
    wanted = parse_entry_id(record_id)
    found = ask_redis(settings, lambda server: find_invalid(server, settings.shard, [wanted]))
    if not found:
        raise Refusal(f"no invalid payload {record_id}; `ackstream invalid list` shows all")
    shown = found[0].show(reveal=reveal)
    if as_json:
        print_json(shown)
    else:
        print_pairs({**shown, "received_at": local_time(shown["received_at"])})


@app.command("replay")
def replay_command(
    ids: Ids = None,
    everything: Everything = False,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Parse payloads again, for example after an upgrade, and give those that are valid now to every group.

    The others stay in the record. Exits with 1 if a named one stays.

    Example: ackstream invalid replay --all
    """
    from console.ask import ask_redis
    from console.output import print_json, print_line
    from console.queries.invalid import replay_invalid
    from runtime import logs
    from stream.settings import StreamSettings

    settings = StreamSettings.load(data=data, redis_url=redis_url)
    wanted = _choose(settings, ids, everything, "replay")
    replayed, left = ask_redis(settings, lambda server: replay_invalid(server, settings.shard, wanted))
    if replayed:
        logs.line(settings.log_format, "invalid.replayed", payloads=replayed, left=left)
    if as_json:
        print_json({"replayed": replayed, "left": left})
    else:
        print_line(f"{replayed:,} payloads are given to every group; {left:,} are still invalid and stay recorded")
    if left and wanted:
        raise typer.Exit(1)


@app.command("discard")
def discard_command(
    ids: Ids = None,
    everything: Everything = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Discard recorded payloads for good. They are removed from the record; the stream keeps its entries until trimmed.

    Example: ackstream invalid discard --all --yes
    """
    from console.ask import ask_redis
    from console.output import confirm, print_json, print_line
    from console.queries.invalid import count_invalid, discard_invalid
    from runtime import logs
    from stream.settings import StreamSettings

    settings = StreamSettings.load(data=data, redis_url=redis_url)
    wanted = _choose(settings, ids, everything, "discard")
    if not yes:
        counts = ask_redis(settings, lambda server: count_invalid(server, settings.shard))
        number = counts["entries"] if wanted is None else len(wanted)
        confirm(f"Discard {number:,} invalid payloads for good?")
    discarded = ask_redis(settings, lambda server: discard_invalid(server, settings.shard, wanted))
    if discarded:
        logs.line(settings.log_format, "invalid.discarded", payloads=discarded)
    if as_json:
        print_json({"discarded": discarded})
    else:
        print_line(f"{discarded:,} invalid payloads are discarded")


def _choose(settings: "StreamSettings", ids: list[str] | None, everything: bool, act: str) -> "list[EntryId] | None":
    """Return the ids that were named, None for all. Raises Refusal for one that is not recorded."""
    from console.ask import ask_redis
    from console.format import parse_entry_id
    from console.queries.invalid import find_invalid
    from runtime.errors import Refusal

    if bool(ids) == everything:
        raise Refusal(f"choose what to {act}: the ids that `ackstream invalid list` shows, or --all")
    if not ids:
        return None
    wanted = list(dict.fromkeys(map(parse_entry_id, ids)))
    found = {one.id for one in ask_redis(settings, lambda server: find_invalid(server, settings.shard, wanted))}
    if missing := [str(one) for one in wanted if one not in found]:
        raise Refusal(f"no invalid payload {', '.join(missing)}; `ackstream invalid list` shows all")
    return wanted


def _columns(one: Mapping[str, Any]) -> dict[str, Any]:
    from console.format import ago, size

    received = ago(one["received_at"])
    return {
        "id": one["id"],
        "signature": one["signature"],
        "received": received and f"{received} ago",
        "size": size(one["bytes"]),
        "error": one["error"],
    }
