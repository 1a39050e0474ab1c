"""``ackstream invalid``: list, show, replay, discard."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.options import ChosenIds, CommandGroup, EntryArgument, ServerOptions, Yes

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from console.queries.invalid import RecordedPayload
    from stream.entry import EntryId
    from stream.keys import Shard

app = CommandGroup(
    no_args_is_help=True,
    help="Payloads without a status and without a valid signature, recorded once for all groups.",
)


@app.command("list")
def list_command(
    options: ServerOptions,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most this many, newest first.")] = 20,
) -> None:
    """Count the recorded payloads and list the newest.

    If a node of a cluster does not answer, the payloads are those of the other shards, and the exit code is 1.

    Example: ackstream invalid list --limit 100
    """
    from console.output import print_json, print_line, print_rows
    from console.queries.invalid import list_invalid

    async def ask(server: "Redis", shards: "Sequence[Shard]") -> tuple[Mapping[str, int], list[dict[str, Any]]]:
        payloads = await list_invalid(server, shards, limit)
        return await _count(server, shards), [payload.summary() for payload in payloads]

    with options.read(ask) as ((counts, rows), away):
        if options.as_json:
            print_json({**counts, "invalid": rows, "away": away})
        elif not rows:
            print_line("no invalid payloads are recorded")
        else:
            newest = f"the newest {len(rows)} of {counts['entries']:,}"
            print_line(f"{newest}; {counts['dropped']:,} older ones were dropped\n")
            print_rows([_columns(row) for row in rows])


@app.command("show")
def show_command(
    options: ServerOptions,
    record_id: EntryArgument,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the payload and the query of the URL.")] = False,
) -> None:
    """Show one recorded payload: its time of receipt, why it is invalid, and with --reveal its content.

    Example: ackstream invalid show 0/1764000000000-0 --reveal
    """
    from console.format import format_time, parse_entry_id

    entry_id = parse_entry_id(record_id)
    [payload] = options.ask_shard(entry_id.shard, lambda server, shard: _find(server, [shard], [entry_id]))
    details = payload.show(reveal=reveal)
    options.answer(details, {**details, "received_at": format_time(details["received_at"])})


@app.command("replay")
def replay_command(choice: ChosenIds, options: ServerOptions) -> None:
    """Parse payloads again, for example after an upgrade, and append the valid ones to the stream for all groups.

    The others stay in the record. Exits with 1 if a named payload is still invalid.

    Example: ackstream invalid replay --all
    """
    from console.queries.invalid import replay_invalid

    ids = choice.parse("replay")

    async def ask(server: "Redis", shards: "Sequence[Shard]") -> tuple[int, int]:
        await _find(server, shards, ids or [])
        counts = [await replay_invalid(server, shard, ids) for shard in shards]
        return sum(replayed for replayed, _ in counts), sum(still_invalid for _, still_invalid in counts)

    replayed, still_invalid = options.act(ask)
    if replayed:
        options.log("invalid.replayed", payloads=replayed, left=still_invalid)
    sentence = (
        f"{replayed:,} payloads are replayed to all groups; {still_invalid:,} are still invalid and stay recorded"
    )
    options.answer({"replayed": replayed, "left": still_invalid}, sentence)
    if still_invalid and ids:
        raise typer.Exit(1)


@app.command("discard")
def discard_command(choice: ChosenIds, options: ServerOptions, yes: Yes = False) -> None:
    """Discard recorded payloads for good. They are removed from the record; the stream keeps its entries until trimmed.

    Example: ackstream invalid discard --all --yes
    """
    from console.output import confirm
    from console.queries.invalid import discard_invalid

    ids = choice.parse("discard")
    options.ask(lambda server, shards: _find(server, shards, ids or []))
    if not yes:
        number = options.ask(_count)["entries"] if ids is None else len(ids)
        confirm(f"Discard {number:,} invalid payloads for good?")

    async def ask(server: "Redis", shards: "Sequence[Shard]") -> int:
        return sum([await discard_invalid(server, shard, ids) for shard in shards])

    discarded = options.act(ask)
    if discarded:
        options.log("invalid.discarded", payloads=discarded)
    options.answer({"discarded": discarded}, f"{discarded:,} invalid payloads are discarded")


async def _count(server: "Redis", shards: "Sequence[Shard]") -> Mapping[str, int]:
    """Return the counts of the records of all shards."""
    from collections import Counter

    from console.queries.invalid import count_invalid

    counts: Counter[str] = Counter()
    for shard in shards:
        counts.update(await count_invalid(server, shard))
    return counts


async def _find(server: "Redis", shards: "Sequence[Shard]", ids: "Sequence[EntryId]") -> "list[RecordedPayload]":
    """Return the records with these ids. Raises CommandError for an id without a record."""
    from console.queries.invalid import find_invalid
    from runtime.errors import CommandError

    records = [record for shard in shards for record in await find_invalid(server, shard, ids)]
    if missing := {str(entry_id) for entry_id in ids} - {str(record.id) for record in records}:
        raise CommandError(f"no invalid payload {', '.join(sorted(missing))}; `ackstream invalid list` shows all")
    return records


def _columns(row: Mapping[str, Any]) -> dict[str, Any]:
    from console.format import format_ago, format_size

    return {
        "id": row["id"],
        "signature": row["signature"],
        "received": format_ago(row["received_at"]),
        "size": format_size(row["bytes"]),
        "error": row["error"],
    }
