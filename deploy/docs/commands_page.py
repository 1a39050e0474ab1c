"""The page of all commands: help text, arguments and options of each, as `--help` has them."""

from collections.abc import Iterator, Sequence

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from console.main import make_app
from deploy.docs.markdown import code, page, table

INTRODUCTION = """
Every command ends with exit code 0 when it did its work, with 1 and a sentence that names the next step when it could
not, and with 2 when it was written wrongly. If a node of a [Redis Cluster](../redis-cluster.md) does not answer, a
command that reads prints what the other shards have and then ends with 1. Tables are for people; `--json` prints
everything for programs. `-h` explains a command, and `ackstream --install-completion` completes commands and options in
your shell.
"""
HIDDEN = frozenset(("--help", "--install-completion", "--show-completion"))


def render() -> str:
    """Return the page."""
    root = typer.main.get_group(make_app())
    parts = [_describe(path, command) for path, command in _walk("ackstream", root)]
    return page("Commands", INTRODUCTION, *parts)


Command = TyperCommand | TyperGroup
Parameter = TyperArgument | TyperOption


def _walk(path: str, command: Command) -> Iterator[tuple[str, Command]]:
    yield path, command
    if isinstance(command, TyperGroup):
        for name, member in command.commands.items():
            if isinstance(member, Command):
                yield from _walk(f"{path} {name}", member)


def _describe(path: str, command: Command) -> str:
    heading = "##" if path.count(" ") < 2 else "###"  # noqa: PLR2004 - a command of a group
    parameters = [
        parameter
        for parameter in command.params
        if isinstance(parameter, Parameter) and not HIDDEN & set(parameter.opts) and parameter.name != "help"
    ]
    options = table(("option", "default", "meaning"), map(_row, parameters)) if parameters else ""
    usage = "" if isinstance(command, TyperGroup) else _usage(path, parameters)
    return "\n\n".join(filter(None, [f"{heading} {path}", usage, _help(command), options]))


def _usage(path: str, parameters: Sequence[Parameter]) -> str:
    arguments = [_argument(parameter) for parameter in parameters if isinstance(parameter, TyperArgument)]
    return "```text\n" + " ".join([path, *arguments, "[OPTIONS]"]) + "\n```"


def _argument(argument: TyperArgument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    return (name if argument.required else f"[{name}]") + ("…" if argument.nargs != 1 else "")


def _help(command: Command) -> str:
    """Return the help text; its example becomes code."""
    shown = []
    for paragraph in (command.help or "").strip().split("\n\n"):
        text = " ".join(paragraph.split())
        example = text.removeprefix("Example: ")
        shown.append(f"```text\n{example}\n```" if text != example else text)
    return "\n\n".join(shown)


def _row(parameter: Parameter) -> tuple[str, str, str]:
    meaning = parameter.help or ""
    if isinstance(parameter, TyperArgument):
        return code(_argument(parameter)), "", meaning
    value = "" if parameter.is_flag else f" {parameter.metavar or 'VALUE'}"
    names = ", ".join(code(f"{name}{value}") for name in parameter.opts)
    return names, _default(parameter.default), f"{meaning} {_bounds(parameter)}".strip()


def _bounds(option: TyperOption) -> str:
    if option.min is None:
        return ""
    return f"From {option.min:g}." if option.max is None else f"From {option.min:,} to {option.max:,}."


def _default(value: object) -> str:
    return "" if value is None or value is False or callable(value) else code(str(value))
