"""``ackstream console``: the web console."""

from typing import Annotated

import typer

from console.commands.access import links, tokens, users
from console.options import AdminHost, AdminPort, CommandGroup, Data, DatabaseUrl, RedisUrl, StopWithStdin

app = CommandGroup(no_args_is_help=False)
app.add_typer(users.app, name="user")
app.add_typer(tokens.app, name="token")
app.command("link")(links.link)


@app.callback(invoke_without_command=True)
def console(
    context: typer.Context,
    data: Data = None,
    redis_url: RedisUrl = None,
    database_url: DatabaseUrl = None,
    host: Annotated[str | None, typer.Option(help="Address of the console (default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the console (default 8080); 0 picks a free one.")] = None,
    admin_host: AdminHost = None,
    admin_port: AdminPort = None,
    stop_with_stdin: StopWithStdin = False,
) -> None:
    """Serve the web console: it shows the flow of statuses, finds messages, and repairs failures.

    Example: ackstream console --port 8081
    """
    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    from console.settings_report import report_settings
    from console.web.app import serve
    from console.web.settings import ConsoleSettings
    from runtime import logs, process

    settings = ConsoleSettings.load(
        data=data,
        redis_url=redis_url,
        database_url=database_url,
        console_host=host,
        console_port=port,
        admin_host=admin_host,
        admin_port=admin_port,
    )
    logs.configure(settings.log_format)
    if not stop_with_stdin:  # else the parent process has reported them
        report_settings(settings)
    process.run(
        lambda stop: serve(settings, stop, None if stop_with_stdin else _print_link), stop_with_stdin=stop_with_stdin
    )


def _print_link(link: str) -> None:
    typer.echo(
        f"\n  The console has no users. This link signs in one browser, once, within 15 minutes:\n\n    {link}\n\n"
        "  `ackstream console link` prints another, `ackstream console user add NAME` adds a user.\n",
        err=True,
    )


def _refuse_options_before(context: typer.Context) -> None:
    """Raise CommandError if an option comes before the command's name, where it would have no effect."""
    from runtime.errors import CommandError

    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = f"--{name.replace('_', '-')}"
            raise CommandError(f"write {option} after `ackstream console {context.invoked_subcommand} …`")
