"""``ackstream quarantine``: list, show, accept, discard."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.options import ChosenIds, CommandGroup, EntryArgument, Reveal, ServerOptions

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from console.queries.quarantine import RefusedPayload
    from ingest.settings import IngestSettings
    from stream.entry import EntryId
    from stream.keys import Shard

MAX_LISTED = 100_000
BATCH = 100

app = CommandGroup(
    no_args_is_help=True, help="Payloads that ingest refused for a wrong signature. Accept or discard them."
)


@app.command("list")
def list_command(
    options: ServerOptions,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LISTED, help="At most this many, newest first.")] = 100,
) -> None:
    """List refused payloads, newest first, with reason, time of receipt and size.

    Example: ackstream quarantine list
    """
    from console.output import show
    from console.queries.quarantine import list_refused

    payloads = options.ask_shard(0, lambda server, shard: list_refused(server, shard, limit))
    show([refused.summary() for refused in payloads], "quarantine", as_json=options.as_json, people=_columns)


@app.command("show")
def show_command(options: ServerOptions, entry_id: EntryArgument, reveal: Reveal = False) -> None:
    """Show one refused payload. Its token is never shown. Exits with 1 if the id is unknown.

    Example: ackstream quarantine show 0/1764000000000-0
    """
    from console.format import parse_entry_id

    ids = [parse_entry_id(entry_id)]
    [refused] = options.ask_shard(0, lambda server, shard: _find(server, shard, ids))
    details = refused.show(reveal=reveal)
    options.answer(details, details)


@app.command("accept")
def accept_command(
    choice: ChosenIds,
    options: ServerOptions,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Also accept payloads that no secret verifies, marked as not verified.")
    ] = False,
) -> None:
    """Verify refused payloads again with the current secrets, and append the valid ones to the stream.

    Use it after a secret was missing or wrong. Set ACKSTREAM_SIGNATURE_SECRETS to the value that ingest has. Exits with
    1 if a named payload was not accepted, or if nothing was accepted.

    Example: ackstream quarantine accept --all
    """
    from ingest.settings import IngestSettings
    from runtime.errors import CommandError

    ids = choice.parse("accept")
    settings = IngestSettings.load(data=options.data, redis_url=options.redis_url)
    if not unverified:
        _require_verifier(settings)
    accepted, remaining = options.act(
        lambda server, _shards: _accept(server, settings, ids, unverified=unverified, quiet=options.as_json)
    )
    if not accepted and not options.as_json:
        raise CommandError(_explain_failure(len(remaining)))
    sentence = f"{len(accepted)} accepted, {len(remaining)} left" + (
        ": their signature is still wrong" if remaining else ""
    )
    options.answer({"accepted": accepted, "left": remaining}, sentence)
    if not accepted or (remaining and ids):
        raise typer.Exit(1)


def _explain_failure(remaining: int) -> str:
    if not remaining:
        return "nothing was accepted: the quarantine is empty"
    return (
        f"nothing was accepted, {remaining} left: their signature is wrong by the current secrets. Compare "
        "ACKSTREAM_SIGNATURE_SECRETS, and for receipts ACKSTREAM_DLR_SIGNATURE, with the provider's dashboard, or give "
        "--unverified"
    )


@app.command("discard")
def discard_command(choice: ChosenIds, options: ServerOptions) -> None:
    """Remove refused payloads for good. This frees space in the quarantine.

    Example: ackstream quarantine discard --all
    """
    from console.queries.quarantine import discard

    ids = choice.parse("discard")

    async def remove(server: "Redis", shard: "Shard") -> list[str]:
        return await discard(server, shard, await _find(server, shard, ids))

    removed = options.act_on_shard(0, remove)
    options.answer({"discarded": removed}, f"{len(removed)} discarded")


def _require_verifier(settings: "IngestSettings") -> None:
    """Raise CommandError, with the missing setting, if no signature can be checked."""
    from runtime.errors import CommandError

    if settings.signatures == "off":
        raise CommandError(
            "signatures are off, so nothing can be checked: set ACKSTREAM_SIGNATURES=required, or give --unverified"
        )
    if settings.signature_secrets is None:
        raise CommandError("no secret is configured: set ACKSTREAM_SIGNATURE_SECRETS, or give --unverified")


async def _accept(
    server: "Redis", settings: "IngestSettings", ids: "list[EntryId] | None", *, unverified: bool, quiet: bool
) -> tuple[list[str], list[str]]:
    from rich.console import Console
    from rich.progress import track

    from console.queries.quarantine import accept
    from stream.layout import read_layout

    layout = await read_layout(server, settings)
    verifier = settings.verifier if settings.signature_secrets else None
    refused = await _find(server, settings.shard, ids)
    batches = range(0, len(refused), BATCH)
    accepted: list[str] = []
    remaining: list[str] = []
    bar = track(batches, "accepting", console=Console(stderr=True), disable=quiet or len(batches) <= 1)
    for start in bar:
        chosen = refused[start : start + BATCH]
        batch = await accept(server, settings.shard, chosen, verifier, layout, unverified=unverified)
        accepted += batch[0]
        remaining += batch[1]
    return accepted, remaining


async def _find(server: "Redis", shard: "Shard", ids: "list[EntryId] | None") -> "list[RefusedPayload]":
    """Return the payloads with these ids, or all, oldest first. Raises CommandError for an unknown id."""
    from console.queries.quarantine import find_refused, list_refused
    from runtime.errors import CommandError

    if ids is None:
        return (await list_refused(server, shard, MAX_LISTED))[::-1]
    payloads: list[Any] = [await find_refused(server, shard, entry_id) for entry_id in ids]
    if missing := [str(entry_id) for entry_id, refused in zip(ids, payloads, strict=True) if refused is None]:
        raise CommandError(f"no refused payload {', '.join(missing)}; `ackstream quarantine list` shows all")
    return payloads


def _columns(refused: Mapping[str, Any]) -> dict[str, Any]:
    from console.format import format_ago, format_size

    return {
        "id": refused["id"],
        "reason": refused["reason"],
        "received": format_ago(refused["received_at"]),
        "size": format_size(refused["bytes"]),
        "kept": refused["kept"],
    }
