"""The command line: the list of all commands.

The module of a command is imported when the command is used, and it loads only the options. The code behind the command
is imported when the command runs. So a process has no other command in memory, and ``--help``, ``--version`` and shell
completion are fast.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from console.options import CommandGroup

COMMANDS = {
    "up": "serve:up",
    "demo": "serve:demo",
    "ingest": "serve:ingest",
    "worker": "serve:worker",
    "migrate": "serve:migrate",
    "simulate": "simulate:simulate",
    "trace": "trace:trace",
    "stats": "stats:stats",
    "doctor": "doctor:doctor",
    "plan": "capacity.plan:plan",
    "export": "privacy.export:export",
    "erase": "privacy.erase:erase",
    "console": "console:app",
    "groups": "groups:app",
    "replay": "replays.replay:app",
    "dead-letters": "dead_letters:app",
    "invalid": "invalid:app",
    "quarantine": "quarantine:app",
    "spool": "spool:app",
    "shards": "capacity.shards:app",
}
"""The module in ``console.commands`` of each command, and its function, or its application if it has subcommands."""


def make_app(words: Sequence[str] = ()) -> CommandGroup:
    """Return the command line for these words: only the command that they start with, else all commands."""
    app = CommandGroup(
        name="ackstream",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: importing rich takes longer than all other imports together
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(options)
    for name in words[:1] if words and words[0] in COMMANDS else COMMANDS:
        module, _, attribute = COMMANDS[name].partition(":")
        command = getattr(import_module(f"console.commands.{module}"), attribute)
        if isinstance(command, CommandGroup):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _print_version(is_requested: bool) -> None:
    if is_requested:
        from importlib.metadata import version  # noqa: PLC0415 - only for --version

        typer.echo(f"ackstream {version('ackstream')}")
        raise typer.Exit


def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Keep every message-status webhook: a 200 means the payload is stored; workers do the rest.

    Start with `ackstream up`. Settings are ACKSTREAM_* variables, a .env file in the working folder, or options.
    `ackstream COMMAND -h` explains a command and gives an example.
    """
