"""The command line: every command, what it takes, and what it hands over to."""

import asyncio
import secrets
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy.exc import DBAPIError

import ingest.app
import worker.app
from console.commands import dead_letters as dead_letter_commands
from console.commands import groups as group_commands
from console.commands import quarantine as quarantine_commands
from console.commands import replay as replay_commands
from console.commands import views
from console.options import AdminHost, AdminPort, AsJson, Data, DatabaseUrl, RedisUrl, StopWithStdin
from console.simulate import sender as provider
from console.simulate.messages import plan
from console.up import supervisor as embedded
from ingest.settings import IngestSettings
from runtime import logs, process
from runtime import run_file as addresses
from runtime.errors import Refusal
from stream.redis.client import names, shown
from worker.settings import WorkerSettings
from worker.store.migrate import migrate_at

app = typer.Typer(
    name="ackstream",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Keeps every message-status webhook: a 200 means the payload is safe; workers do the rest.\n\n"
    "Start with [bold]ackstream up[/bold]. Settings are ACKSTREAM_* variables, a .env file, or flags.",
)


@app.command()
def up(
    data: Data = None,
    port: Annotated[int | None, typer.Option(help="Port that webhooks come to (default 3000).")] = None,
    admin_port: AdminPort = None,
) -> None:
    """Run everything on this machine: Valkey, ingest, worker; loopback only, signatures off, data in one folder."""
    settings = IngestSettings.load(data=data, port=port, admin_port=admin_port)
    logs.configure(settings.log_format)
    process.run(lambda stop: embedded.up(settings, stop))


@app.command("ingest")
def ingest_command(
    data: Data = None,
    redis_url: RedisUrl = None,
    host: Annotated[str | None, typer.Option(help="Address that webhooks come to (default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port that webhooks come to (default 3000).")] = None,
    admin_host: AdminHost = None,
    admin_port: AdminPort = None,
    stop_with_stdin: StopWithStdin = False,
) -> None:
    """Run the HTTP side: takes webhooks and appends them to the stream."""
    settings = IngestSettings.load(
        data=data, redis_url=redis_url, host=host, port=port, admin_host=admin_host, admin_port=admin_port
    )
    logs.configure(settings.log_format)
    process.run(lambda stop: ingest.app.serve(settings, stop), stop_with_stdin=stop_with_stdin)


@app.command("worker")
def worker_command(
    data: Data = None,
    redis_url: RedisUrl = None,
    database_url: DatabaseUrl = None,
    handler: Annotated[
        list[str] | None,
        typer.Option(
            help="[NAME=]store, log, package.module:function or forward:URL, with options after #: "
            "shop=forward:https://host/hook#only=delivered&header.X-Key=@/path; more than once (default store, log)."
        ),
    ] = None,
    admin_host: AdminHost = None,
    admin_port: AdminPort = None,
    stop_with_stdin: StopWithStdin = False,
) -> None:
    """Run the processing side: reads the stream and keeps every message's state. Start as many as you like."""
    settings = WorkerSettings.load(
        data=data,
        redis_url=redis_url,
        database_url=database_url,
        handlers=",".join(handler) if handler else None,
        admin_host=admin_host,
        admin_port=admin_port,
    )
    logs.configure(settings.log_format)
    process.run(lambda stop: worker.app.serve(settings, stop), stop_with_stdin=stop_with_stdin)


@app.command()
def migrate(data: Data = None, database_url: DatabaseUrl = None) -> None:
    """Bring the database's tables up to date. Safe to run twice, or on several machines at once."""
    settings = WorkerSettings.load(data=data, database_url=database_url)
    try:
        asyncio.run(migrate_at(settings.database_url))
    except (DBAPIError, OSError) as exc:
        raise Refusal(f"the database at {shown(settings.database_url)} does not answer ({names(exc)})") from None
    typer.echo("the tables are up to date")


@app.command()
def simulate(
    messages: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="How many messages; each has 1 to 3 statuses.")
    ] = 100,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="Webhooks a second (default: as fast as answered).")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed makes the same messages (default: a new one).")
    ] = None,
    duplicates: Annotated[float, typer.Option(min=0, max=1, help="Share of webhooks that are sent twice.")] = 0.0,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Send in random order.")] = False,
    connections: Annotated[int, typer.Option(min=1, max=512, help="Webhooks in flight at once.")] = 32,
    url: Annotated[
        str | None, typer.Option(help="Where to send (default: the running `up`, else this machine).")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Act as the provider: send the statuses of made-up messages over all channels, and report the answers."""
    settings = IngestSettings.load(data=data)
    running = addresses.running(settings.data)
    target = url or (running.ingest_url if running else f"http://127.0.0.1:{settings.port}{settings.routes[0]}")
    chosen = secrets.randbelow(2**32) if seed is None else seed
    webhooks = plan(messages, chosen, start=datetime.now(UTC), duplicates=duplicates, shuffle=shuffle)
    report = asyncio.run(
        provider.simulate(webhooks, target, rate=rate, connections=connections, console=Console(stderr=True))
    )
    views.print_report({"seed": chosen, "url": target, **report.as_dict()}, as_json=as_json)


app.command()(views.trace)
app.command()(views.stats)
app.add_typer(replay_commands.app, name="replay")
app.add_typer(dead_letter_commands.app, name="dead-letters")
app.add_typer(quarantine_commands.app, name="quarantine")
app.add_typer(group_commands.app, name="groups")
