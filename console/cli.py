"""The command line: every command, what it takes, and what it hands over to."""

import asyncio
from typing import Annotated

import typer

import ingest.app
import worker.app
from console import embedded, views
from console.options import AdminHost, AdminPort, Data, DatabaseUrl, RedisUrl, StopWithStdin
from ingest.settings import IngestSettings
from stream import logs, process
from worker.database import open_engine
from worker.migrate import migrate as migrate_database
from worker.settings import WorkerSettings

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
    settings.refuse_signatures()
    logs.configure(settings.log_format)
    process.run(lambda stop: ingest.app.serve(settings, stop), stop_with_stdin=stop_with_stdin)


@app.command("worker")
def worker_command(
    data: Data = None,
    redis_url: RedisUrl = None,
    database_url: DatabaseUrl = None,
    handler: Annotated[list[str] | None, typer.Option(help="store or log; may stand twice (default both).")] = None,
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
    asyncio.run(_migrate(settings.database_url))
    typer.echo("the tables are up to date")


async def _migrate(database_url: str) -> None:
    engine = open_engine(database_url)
    try:
        await migrate_database(engine)
    finally:
        await engine.dispose()


app.command()(views.trace)
app.command()(views.stats)
app.add_typer(views.dead_letters, name="dead-letters")
