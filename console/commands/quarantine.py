"""``ackstream quarantine``: list, show, accept, discard."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.options import AsJson, Data, RedisUrl, Reveal

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from console.queries.quarantine import Refused
    from ingest.settings import IngestSettings
    from stream.entry import EntryId
    from stream.settings import StreamSettings

EVERYTHING = 100_000
SLICE = 100

app = typer.Typer(no_args_is_help=True, help="Payloads refused for a wrong signature, and accepting them after all.")

Limit = Annotated[int, typer.Option(min=1, max=EVERYTHING, help="At most this many, newest first.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id that `list` shows, shard/ms-seq.")]


@app.command("list")
def list_command(limit: Limit = 100, data: Data = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """List refused payloads, newest first: why, when received, how large.

    Example: ackstream quarantine list
    """
    from console.ask import ask_redis
    from console.output import show
    from console.queries.quarantine import list_refused
    from stream.settings import StreamSettings

    settings = StreamSettings.load(data=data, redis_url=redis_url)
    found = ask_redis(settings, lambda server: list_refused(server, settings.shard, limit))
    show([refused.summary() for refused in found], "quarantine", as_json=as_json, people=_columns)


@app.command("show")
def show_command(
    entry_id: Id, data: Data = None, redis_url: RedisUrl = None, reveal: Reveal = False, as_json: AsJson = False
) -> None:
    """Show one refused payload. Its token is never shown. Exits with 1 if the id is unknown.

    Example: ackstream quarantine show 0/1764000000000-0
    """
    from console.ask import ask_redis
    from console.format import parse_entry_id
    from console.output import print_json, print_pairs
    from console.queries.quarantine import find_refused
    from runtime.errors import Refusal
    from stream.settings import StreamSettings

    settings = StreamSettings.load(data=data, redis_url=redis_url)
    wanted = parse_entry_id(entry_id)
    found = ask_redis(settings, lambda server: find_refused(server, settings.shard, wanted))
    if found is None:
        raise Refusal(f"nothing in quarantine has the id {entry_id}")
    shown = found.show(reveal=reveal)
    if as_json:
        print_json(shown)
    else:
        print_pairs(shown)


@app.command("accept")
def accept_command(
    entry_ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="The ids that `list` shows.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is in quarantine.")] = False,
    unproved: Annotated[
        bool, typer.Option("--unverified", help="Accept payloads that no secret proves too, as not verified.")
    ] = False,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Verify refused payloads again, with the secrets set now, and append the valid ones to the stream.

    Use it after a secret was missing or wrong. Set ACKSTREAM_SIGNATURE_SECRETS as ingest has it. Exits with 1 if a
    named payload was not accepted, or if nothing was.

    Example: ackstream quarantine accept --all
    """
    from console.ask import ask_redis
    from console.format import parse_entry_id
    from console.output import print_json, print_line
    from ingest.settings import IngestSettings
    from runtime.errors import Refusal

    if bool(entry_ids) == everything:
        raise Refusal("name the ids to accept, or --all")
    settings = IngestSettings.load(data=data, redis_url=redis_url)
    wanted = [parse_entry_id(entry_id) for entry_id in entry_ids or []]
    if not unproved:
        _require_verifier(settings)
    taken, left = ask_redis(
        settings, lambda server: _accept(server, settings, wanted, unproved=unproved, quiet=as_json)
    )
    if as_json:
        print_json({"accepted": taken, "left": left})
    elif taken:
        print_line(f"{len(taken)} accepted, {len(left)} left" + (": their signature is still wrong" if left else ""))
    else:
        raise Refusal(_nothing_accepted(len(left)))
    if not taken or (left and wanted):
        raise typer.Exit(1)


def _nothing_accepted(left: int) -> str:
    if not left:
        return "nothing was accepted: the quarantine is empty"
    return (
        f"nothing was accepted, and {left} left: by the secrets set now their signature is wrong. Compare "
        "ACKSTREAM_SIGNATURE_SECRETS with the provider's dashboard, or give --unverified"
    )


@app.command("discard")
def discard_command(
    entry_ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="The ids that `list` shows.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is in quarantine.")] = False,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Remove refused payloads for good, to make room for others.

    Example: ackstream quarantine discard --all
    """
    from console.ask import ask_redis
    from console.format import parse_entry_id
    from console.output import print_json, print_line
    from console.queries.quarantine import discard
    from runtime.errors import Refusal
    from stream.settings import StreamSettings

    if bool(entry_ids) == everything:
        raise Refusal("name the ids to discard, or --all")
    settings = StreamSettings.load(data=data, redis_url=redis_url)
    wanted = [parse_entry_id(entry_id) for entry_id in entry_ids or []]

    async def remove(server: "Redis") -> list[str]:
        return await discard(server, settings.shard, await _chosen(server, settings, wanted))

    removed = ask_redis(settings, remove)
    if as_json:
        print_json({"discarded": removed})
    else:
        print_line(f"{len(removed)} discarded")


def _require_verifier(settings: "IngestSettings") -> None:
    """Raise Refusal, with the setting that is missing, if no signature can be checked."""
    from runtime.errors import Refusal

    if settings.signatures == "off":
        raise Refusal(
            "signatures are off, so nothing can be checked: set ACKSTREAM_SIGNATURES=required, or give --unverified"
        )
    if settings.signature_secrets is None:
        raise Refusal("there is no secret to check by: set ACKSTREAM_SIGNATURE_SECRETS, or give --unverified")


async def _accept(
    server: "Redis", settings: "IngestSettings", wanted: "list[EntryId]", *, unproved: bool, quiet: bool
) -> tuple[list[str], list[str]]:
    from rich.console import Console
    from rich.progress import track

    from console.queries.quarantine import accept

    verifier = settings.verifier if settings.signature_secrets else None
    refused = await _chosen(server, settings, wanted)
    slices = range(0, len(refused), SLICE)
    taken: list[str] = []
    left: list[str] = []
    bar = track(slices, "accepting", console=Console(stderr=True), disable=quiet or len(slices) <= 1)
    for start in bar:
        some = await accept(server, settings.shard, refused[start : start + SLICE], verifier, unproved=unproved)
        taken += some[0]
        left += some[1]
    return taken, left


async def _chosen(server: "Redis", settings: "StreamSettings", wanted: "list[EntryId]") -> "list[Refused]":
    """Return the payloads with these ids, or all, the oldest first. Raises Refusal for an id that is not there."""
    from console.queries.quarantine import find_refused, list_refused
    from runtime.errors import Refusal

    if not wanted:
        return (await list_refused(server, settings.shard, EVERYTHING))[::-1]
    found: list[Any] = [await find_refused(server, settings.shard, one) for one in wanted]
    if missing := [str(one) for one, refused in zip(wanted, found, strict=True) if refused is None]:
        raise Refusal(f"nothing in quarantine has the id {', '.join(missing)}")
    return found


def _columns(refused: Mapping[str, Any]) -> dict[str, Any]:
    from console.format import ago, size

    received = ago(refused["received_at"])
    return {
        "id": refused["id"],
        "reason": refused["reason"],
        "received": received and f"{received} ago",
        "size": size(refused["bytes"]),
        "kept": refused["kept"],
    }
