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

EVERYTHING = 100_000
SLICE = 100

app = CommandGroup(no_args_is_help=True, help="Payloads refused for a wrong signature, and accepting them after all.")


@app.command("list")
def list_command(
    options: ServerOptions,
    limit: Annotated[int, typer.Option(min=1, max=EVERYTHING, help="At most this many, newest first.")] = 100,
) -> None:
    """List refused payloads, newest first: why, when received, how large.

    Example: ackstream quarantine list
    """
    from console.output import show
    from console.queries.quarantine import list_refused

    found = options.ask(lambda server, shard: list_refused(server, shard, limit))
    show([refused.summary() for refused in found], "quarantine", as_json=options.as_json, people=_columns)


@app.command("show")
def show_command(options: ServerOptions, entry_id: EntryArgument, reveal: Reveal = False) -> None:
    """Show one refused payload. Its token is never shown. Exits with 1 if the id is unknown.

    Example: ackstream quarantine show 0/1764000000000-0
    """
    from console.format import parse_entry_id

    wanted = [parse_entry_id(entry_id)]
    [refused] = options.ask(lambda server, shard: _find(server, shard, wanted))
    shown = refused.show(reveal=reveal)
    options.answer(shown, shown)


@app.command("accept")
def accept_command(
    choice: ChosenIds,
    options: ServerOptions,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Accept payloads that no secret proves too, as not verified.")
    ] = False,
) -> None:
    """Verify refused payloads again, with the secrets set now, and append the valid ones to the stream.

    Use it after a secret was missing or wrong. Set ACKSTREAM_SIGNATURE_SECRETS as ingest has it. Exits with 1 if a
    named payload was not accepted, or if nothing was.

    Example: ackstream quarantine accept --all
    """
    from ingest.settings import IngestSettings
    from runtime.errors import Refusal

    wanted = choice.parse("accept")
    settings = IngestSettings.load(data=options.data, redis_url=options.redis_url)
    if not unverified:
        _require_verifier(settings)
    taken, left = options.ask(
        lambda server, _shard: _accept(server, settings, wanted, unverified=unverified, quiet=options.as_json)
    )
    if not taken and not options.as_json:
        raise Refusal(_explain_failure(len(left)))
    sentence = f"{len(taken)} accepted, {len(left)} left" + (": their signature is still wrong" if left else "")
    options.answer({"accepted": taken, "left": left}, sentence)
    if not taken or (left and wanted):
        raise typer.Exit(1)


def _explain_failure(left: int) -> str:
    if not left:
        return "nothing was accepted: the quarantine is empty"
    return (
        f"nothing was accepted, and {left} left: by the secrets set now their signature is wrong. Compare "
        "ACKSTREAM_SIGNATURE_SECRETS with the provider's dashboard, or give --unverified"
    )


@app.command("discard")
def discard_command(choice: ChosenIds, options: ServerOptions) -> None:
    """Remove refused payloads for good, to make room for others.

    Example: ackstream quarantine discard --all
    """
    from console.queries.quarantine import discard

    wanted = choice.parse("discard")

    async def remove(server: "Redis", shard: "Shard") -> list[str]:
        return await discard(server, shard, await _find(server, shard, wanted))

    removed = options.ask(remove)
    options.answer({"discarded": removed}, f"{len(removed)} discarded")


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
    server: "Redis", settings: "IngestSettings", wanted: "list[EntryId] | None", *, unverified: bool, quiet: bool
) -> tuple[list[str], list[str]]:
    from rich.console import Console
    from rich.progress import track

    from console.queries.quarantine import accept

    verifier = settings.verifier if settings.signature_secrets else None
    refused = await _find(server, settings.shard, wanted)
    slices = range(0, len(refused), SLICE)
    taken: list[str] = []
    left: list[str] = []
    bar = track(slices, "accepting", console=Console(stderr=True), disable=quiet or len(slices) <= 1)
    for start in bar:
        some = await accept(server, settings.shard, refused[start : start + SLICE], verifier, unverified=unverified)
        taken += some[0]
        left += some[1]
    return taken, left


async def _find(server: "Redis", shard: "Shard", wanted: "list[EntryId] | None") -> "list[RefusedPayload]":
    """Return the payloads with these ids, or all, the oldest first. Raises Refusal for an id that is not there."""
    from console.queries.quarantine import find_refused, list_refused
    from runtime.errors import Refusal

    if wanted is None:
        return (await list_refused(server, shard, EVERYTHING))[::-1]
    found: list[Any] = [await find_refused(server, shard, one) for one in wanted]
    if missing := [str(one) for one, refused in zip(wanted, found, strict=True) if refused is None]:
        raise Refusal(f"nothing in quarantine has the id {', '.join(missing)}")
    return found


def _columns(refused: Mapping[str, Any]) -> dict[str, Any]:
    from console.format import format_ago, format_size

    return {
        "id": refused["id"],
        "reason": refused["reason"],
        "received": format_ago(refused["received_at"]),
        "size": format_size(refused["bytes"]),
        "kept": refused["kept"],
    }
