"""``ackstream up``, ``ingest``, ``worker`` and ``migrate``: the commands that run Ackstream."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from console.options import (
    AdminHost,
    AdminPort,
    ChildOption,
    Data,
    DatabaseUrl,
    Processes,
    RedisUrl,
    StopWithStdin,
)

Host = Annotated[str | None, typer.Option(help="Address that webhooks are sent to (default 127.0.0.1).")]
Port = Annotated[int | None, typer.Option(help="Port that webhooks are sent to (default 3000).")]
ConsolePort = Annotated[
    int | None, typer.Option(help="Port of the web console (default 8080, or a free one if it is taken).")
]
Handlers = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HANDLER",
        help="[NAME=]store, log, package.module:function or forward:URL, with options after #: "
        "shop=forward:https://host/hook#only=delivered&header.X-Key=@/path. Repeat the option for more "
        "handlers (default store and log).",
    ),
]


def up(data: Data = None, port: Port = None, admin_port: AdminPort = None, console_port: ConsolePort = None) -> None:
    """Run everything on this machine, with all data in one folder.

    Starts Valkey, ingest, a worker and the web console on loopback, with signatures off. Ctrl-C stops them.

    Example: ackstream up --port 3001 --data /srv/ackstream
    """
    from console.up import supervisor
    from console.web.settings import ConsoleSettings
    from ingest.settings import IngestSettings
    from runtime import logs, process

    settings = IngestSettings.load(data=data, port=port, admin_port=admin_port)
    console_settings = ConsoleSettings.load(data=data, console_port=console_port)
    logs.configure(settings.log_format)
    process.run(lambda stop: supervisor.up(settings, console_settings, stop), has_children=True)


def demo(
    data: Annotated[Path, typer.Option(metavar="FOLDER", help="Data folder of the demo.")] = Path("ackstream-demo"),
    port: Port = None,
    admin_port: AdminPort = None,
    console_port: ConsolePort = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed makes the same messages (default: a new one).")
    ] = None,
) -> None:
    """Run everything with made-up traffic, to look around in the web console.

    Some events fail, some come late or twice, and one handler waits for its target now and then. Ctrl-C stops it.

    Example: ackstream demo --console-port 8081
    """
    from console.up import demo_traffic, supervisor
    from console.web.settings import ConsoleSettings
    from ingest.settings import IngestSettings
    from runtime import logs, process

    secrets = demo_traffic.make_secrets()
    settings = IngestSettings.load(
        data=data, port=port, admin_port=admin_port, signatures="required", signature_secrets=secrets
    )
    console_settings = ConsoleSettings.load(data=data, console_port=console_port)
    traffic = demo_traffic.Traffic(settings, seed)
    logs.configure(settings.log_format)
    process.run(lambda stop: supervisor.up(settings, console_settings, stop, traffic), has_children=True)


def ingest(
    data: Data = None,
    redis_url: RedisUrl = None,
    host: Host = None,
    port: Port = None,
    admin_host: AdminHost = None,
    admin_port: AdminPort = None,
    processes: Processes = None,
    stop_with_stdin: StopWithStdin = False,
    child: ChildOption = None,
) -> None:
    """Receive webhooks and append them to the stream.

    Example: ackstream ingest --host 0.0.0.0 --redis-url redis://redis:6379
    """
    from console.lean_import import import_http_server, import_lean

    import_lean()
    import_http_server()
    from console.processes import Serve, run_command
    from ingest.http.port import reserve_webhook_port
    from ingest.settings import IngestSettings
    from stream.process_report import encode_report

    settings = IngestSettings.load(
        data=data,
        redis_url=redis_url,
        host=host,
        port=port,
        admin_host=admin_host,
        admin_port=admin_port,
        processes=processes,
    )

    def load_serve() -> Serve:
        from ingest.app import serve

        return serve

    report, reserve = partial(encode_report, settings), partial(reserve_webhook_port, settings)
    run_command(settings, load_serve, report, reserve, inheritance=child, stop_with_stdin=stop_with_stdin)


def worker(
    data: Data = None,
    redis_url: RedisUrl = None,
    database_url: DatabaseUrl = None,
    handler: Handlers = None,
    admin_host: AdminHost = None,
    admin_port: AdminPort = None,
    processes: Processes = None,
    stop_with_stdin: StopWithStdin = False,
    child: ChildOption = None,
) -> None:
    """Read the stream and call the handlers. Start as many workers as you like.

    Example: ackstream worker --handler store --handler orders:on_status
    """
    from console.lean_import import import_lean

    import_lean()
    from console.processes import Serve, run_command
    from worker.settings import WorkerSettings

    settings = WorkerSettings.load(
        data=data,
        redis_url=redis_url,
        database_url=database_url,
        handlers=",".join(handler) if handler else None,
        admin_host=admin_host,
        admin_port=admin_port,
        processes=processes,
    )

    def load_serve() -> Serve:
        from worker.app import serve

        return serve

    async def reserve() -> list[Any]:
        return []

    run_command(settings, load_serve, settings.report, reserve, inheritance=child, stop_with_stdin=stop_with_stdin)


def migrate(data: Data = None, database_url: DatabaseUrl = None) -> None:
    """Bring the database's tables up to date. It is safe to run twice, or on several machines at once.

    Example: ackstream migrate --database-url postgresql://user:password@host/ackstream
    """
    from console.ask import migrate_database
    from worker.store.settings import DatabaseSettings

    migrate_database(DatabaseSettings.load(data=data, database_url=database_url))
    typer.echo("the tables are up to date")
