"""``ackstream quarantine``: list, show, accept."""

from typing import Annotated, Any

import typer
from redis.asyncio import Redis
from rich.progress import track

from console.format import named
from console.options import AsJson, Data, RedisUrl, Reveal
from console.output import ask_redis, print_json, print_pairs, print_rows
from console.queries.quarantine import Refused, accept, find_refused, list_refused
from ingest.settings import IngestSettings
from runtime.errors import Refusal
from stream.entry import EntryId

EVERYTHING = 100_000
SLICE = 100

app = typer.Typer(no_args_is_help=True, help="Payloads refused for a wrong signature, and taking them in after all.")

Limit = Annotated[int, typer.Option(min=1, max=EVERYTHING, help="At most so many, newest first.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id that `list` shows, shard/ms-seq.")]


@app.command("list")
def list_command(limit: Limit = 100, data: Data = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """List refused payloads: id, reason, when received, bytes."""
    settings = IngestSettings.load(data=data, redis_url=redis_url)
    found = ask_redis(settings, lambda server: list_refused(server, settings.shard, limit))
    rows = [refused.summary() for refused in found]
    if as_json:
        print_json({"quarantine": rows})
    elif rows:
        print_rows(rows)
    else:
        typer.echo("nothing was refused for a wrong signature")


@app.command("show")
def show_command(
    entry_id: Id, data: Data = None, redis_url: RedisUrl = None, reveal: Reveal = False, as_json: AsJson = False
) -> None:
    """Show one refused payload; its token is never shown. Exits with 1 if there is none."""
    settings = IngestSettings.load(data=data, redis_url=redis_url)
    wanted = named(entry_id)
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
        bool, typer.Option("--unverified", help="Take in what no secret proves too; it is kept as not verified.")
    ] = False,
    data: Data = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Check again, by the secrets set now, and append what is right: for after a secret was missing or wrong.

    Set ACKSTREAM_SIGNATURE_SECRETS as ingest has it. Exits with 1 if something named was not taken in.
    """
    if bool(entry_ids) == everything:
        raise Refusal("name the ids to accept, or --all")
    settings = IngestSettings.load(data=data, redis_url=redis_url)
    wanted = [named(entry_id) for entry_id in entry_ids or []]
    verifier = settings.verifier if settings.signature_secrets else None
    if verifier is None and not unproved:
        raise Refusal("there is no secret to check by: set ACKSTREAM_SIGNATURE_SECRETS, or give --unverified")

    async def ask(server: Redis) -> tuple[list[str], list[str]]:
        refused = await _chosen(server, settings, wanted)
        taken: list[str] = []
        left: list[str] = []
        slices = range(0, len(refused), SLICE)
        for start in track(slices, "accepting", disable=len(slices) < 2) if not as_json else slices:  # noqa: PLR2004
            some = await accept(server, settings.shard, refused[start : start + SLICE], verifier, unproved=unproved)
            taken += some[0]
            left += some[1]
        return taken, left

    taken, left = ask_redis(settings, ask)
    if as_json:
        print_json({"accepted": taken, "left": left})
    else:
        typer.echo(f"{len(taken)} accepted, {len(left)} left" + (": their signature is still wrong" if left else ""))
    if left and wanted:
        raise typer.Exit(1)


async def _chosen(server: Redis, settings: IngestSettings, wanted: list[EntryId]) -> list[Refused]:
    """Return what is to be accepted, the oldest first. Raises Refusal for an id that is not there."""
    if not wanted:
        return (await list_refused(server, settings.shard, EVERYTHING))[::-1]
    found: list[Any] = [await find_refused(server, settings.shard, one) for one in wanted]
    if missing := [str(one) for one, refused in zip(wanted, found, strict=True) if refused is None]:
        raise Refusal(f"nothing in quarantine has the id {', '.join(missing)}")
    return found
