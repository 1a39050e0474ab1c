"""``ackstream console token``: add, list, remove."""

from typing import Annotated

import typer

from console.commands.access.options import AccessOptions, RoleOption, check_name, parse_role
from console.options import CommandGroup

app = CommandGroup(no_args_is_help=True, help="Bearer tokens of programs, for the console's JSON API only.")

Name = Annotated[str, typer.Argument(help="The token's name, which the audit log shows.")]


@app.command("add")
def add_command(options: AccessOptions, name: Name, role: RoleOption) -> None:
    """Make a token and print it. It is printed only now: the console keeps a digest.

    Programs send it to /api/v1 as `Authorization: Bearer TOKEN`.

    Example: ackstream console token add autoscaler --role viewer
    """
    from aiosqlite import Connection

    from console.web.access.tokens import TokenTable
    from runtime.errors import CommandError

    token_role = parse_role(role)
    check_name(name)

    async def add(database: Connection) -> str | None:
        secret = await TokenTable(database).add(name, token_role)
        if secret is not None:
            await options.record(database, "token.add", f"token={name}", f"added, role {token_role}")
        return secret

    secret = options.change(add)
    if secret is None:
        raise CommandError(f"token {name!r} exists: choose another name, or remove it first")
    options.answer({"token": name, "role": str(token_role), "secret": secret}, secret)


@app.command("list")
def list_command(options: AccessOptions) -> None:
    """List all tokens: role, and when each was made and last used.

    Example: ackstream console token list
    """
    from console.format import format_time
    from console.output import show
    from console.web.access.tokens import TokenTable
    from worker.events.timestamps import iso_time

    rows = [
        {
            "token": token.name,
            "role": str(token.role),
            "created_at": iso_time(int(token.created_at * 1000)),
            "used_at": iso_time(int(token.used_at * 1000)) if token.used_at is not None else None,
        }
        for token in options.ask(lambda database: TokenTable(database).read())
    ]
    times = ("created_at", "used_at")
    show(rows, "tokens", as_json=options.as_json, people=lambda row: {**row, **{n: format_time(row[n]) for n in times}})


@app.command("remove")
def remove_command(options: AccessOptions, name: Name) -> None:
    """Remove a token. Requests with it are refused at once.

    Example: ackstream console token remove autoscaler
    """
    from aiosqlite import Connection

    from console.web.access.tokens import TokenTable
    from runtime.errors import CommandError

    async def remove(database: Connection) -> bool:
        is_removed = await TokenTable(database).remove(name)
        if is_removed:
            await options.record(database, "token.remove", f"token={name}", "removed")
        return is_removed

    if not options.change(remove):
        raise CommandError(f"no token {name!r}: see `ackstream console token list`")
    options.answer({"token": name, "removed": True}, f"token {name} is removed")
