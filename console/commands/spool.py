"""``ackstream spool``: list, adopt."""

from typing import TYPE_CHECKING, Annotated

import typer

from console.options import CommandGroup, ServerOptions

if TYPE_CHECKING:
    from ingest.spool.folder import Owner

app = CommandGroup(
    no_args_is_help=True, help="Entries that ingest stores on this machine's disk until Redis accepts them."
)


@app.command("list")
def list_command(options: ServerOptions) -> None:
    """List the folders of the spool: the number of entries in each, and the stream and server that they belong to.

    in use: a running ingest has the folder. waiting: a running ingest drains it within 10 s. foreign: it belongs to
    another stream or server, and stays until `ackstream spool adopt`.

    Example: ackstream spool list
    """
    import time
    from dataclasses import asdict

    from console.output import show
    from console.queries.spool import list_folders, summarize

    now_ms = time.time_ns() // 1_000_000
    folders = list_folders(options.settings.data, _owner(options, ask=True))
    rows = [asdict(state) if options.as_json else summarize(state, now_ms) for state in folders]
    show(rows, "folders", as_json=options.as_json)


@app.command("adopt")
def adopt_command(
    options: ServerOptions,
    folders: Annotated[list[str] | None, typer.Argument(metavar="FOLDER", help="Numbers from `list`.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All foreign folders.")] = False,
) -> None:
    """Drain folders of another stream or server to this one. Use it after Redis was replaced or moved.

    The target is ACKSTREAM_STREAM at ACKSTREAM_REDIS_URL; set both as for ingest. A running ingest drains the folders
    within 10 s, else the next ingest does.

    Example: ackstream spool adopt 0
    """
    from dataclasses import asdict

    from console.output import print_json, print_line
    from console.queries.spool import adopt_folders
    from runtime.errors import CommandError

    if bool(folders) == everything:
        raise CommandError("name the folders to adopt, or give --all: see `ackstream spool list`")
    owner = _owner(options, ask=False)
    adopted = adopt_folders(options.settings.data, owner, folders or [])
    if options.as_json:
        print_json({"adopted": [asdict(state) for state in adopted], "stream": owner.stream, "redis": owner.redis})
        return
    for state in adopted:
        before = f"{state.owner.stream} at {state.owner.redis}" if state.owner else "an unknown stream"
        print_line(
            f"folder {state.folder}: {state.entries} entries of {before} now go to {owner.stream} at {owner.redis}"
        )
    print_line("A running ingest drains them within 10 s." if adopted else "The spool has no foreign folders.")


def _owner(options: ServerOptions, *, ask: bool) -> "Owner":
    """Return the owner that these settings describe; with ``ask``, including the server's id if Redis answers."""
    from redis.exceptions import RedisError

    from console.errors import explain
    from ingest.spool.folder import Owner
    from runtime.errors import CommandError
    from stream.redis.client import redact_url
    from stream.server_id import read_server_id

    settings, server = options.settings, None
    if ask:
        try:
            server = options.ask_shard(0, read_server_id)
        except (RedisError, CommandError) as exc:
            typer.echo(f"folders are compared by the address of Redis only: {explain(exc)}", err=True)
    return Owner(settings.shard.stream, redact_url(settings.redis_url), server)
