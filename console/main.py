"""The command line: the list of all commands.

At import a command module loads only its options. The code behind a command is imported when the command runs, so that
``--help``, ``--version`` and shell completion are fast.
"""

from typing import Annotated

import typer

from console.commands import (
    console,
    dead_letters,
    doctor,
    groups,
    invalid,
    quarantine,
    serve,
    simulate,
    spool,
    stats,
    trace,
)
from console.commands.capacity import plan, shards
from console.commands.privacy import erase, export
from console.commands.replays import replay
from console.options import CommandGroup

app = CommandGroup(
    name="ackstream",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: importing rich takes longer than all other imports together
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        from importlib.metadata import version  # noqa: PLC0415 - only for --version

        typer.echo(f"ackstream {version('ackstream')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Keep every message-status webhook: a 200 means the payload is stored; workers do the rest.

    Start with `ackstream up`. Settings are ACKSTREAM_* variables, a .env file in the working folder, or options.
    `ackstream COMMAND -h` explains a command and gives an example.
    """


app.command("up")(serve.up)
app.command("demo")(serve.demo)
app.command("ingest")(serve.ingest)
app.command("worker")(serve.worker)
app.command("migrate")(serve.migrate)
app.command("simulate")(simulate.simulate)
app.command("trace")(trace.trace)
app.command("stats")(stats.stats)
app.command("doctor")(doctor.doctor)
app.command("plan")(plan.plan)
app.add_typer(console.app, name="console")
app.add_typer(groups.app, name="groups")
app.add_typer(replay.app, name="replay")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(invalid.app, name="invalid")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(spool.app, name="spool")
app.add_typer(shards.app, name="shards")
app.command("export")(export.export)
app.command("erase")(erase.erase)
