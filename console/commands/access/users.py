"""``ackstream console user``: add, list, remove, sign-out."""

from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.access.options import AccessOptions, RoleOption, check_name, parse_role
from console.options import CommandGroup

if TYPE_CHECKING:
    from aiosqlite import Connection

app = CommandGroup(no_args_is_help=True, help="The people who may sign in to the console, and their roles.")

Name = Annotated[str, typer.Argument(help="The user's name, as on the sign-in page.")]


@app.command("add")
def add_command(
    options: AccessOptions,
    name: Name,
    role: RoleOption,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
    ] = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="The user signs in through a reverse proxy only.")
    ] = False,
) -> None:
    """Add a user, or give one a new password and role. Asks for the password twice.

    A change ends the user's sessions. viewer sees all pages, operator also acts and reveals, admin also drops groups.

    Example: ackstream console user add ann --role operator
    """
    from console.web.access.passwords import hash_password
    from console.web.access.users import NO_PASSWORD, User, UserFile
    from runtime.errors import CommandError

    if password_stdin and no_password:
        raise CommandError("give either --password-stdin or --no-password")
    user_role, settings = parse_role(role), options.settings
    password_hash = NO_PASSWORD if no_password else None
    user = User(check_name(name), user_role, password_hash or hash_password(_read_password(from_stdin=password_stdin)))
    users = UserFile(settings.users_file)

    async def put(database: "Connection") -> tuple[bool, int]:
        existed = users.find(name) is not None
        act, result = ("user.change", "changed") if existed else ("user.add", "added")
        ended = await _end_sessions(options, database, act, name, f"{result}, role {role}")
        users.put(user)
        return existed, ended

    existed, ended = options.change(put)
    result = "changed" if existed else "added"
    value = {"user": name, "role": role, "changed": existed, "sessions_ended": ended}
    options.answer(value, f"user {name} is {result} with the role {user_role}{_describe_ended(ended)}")


@app.command("list")
def list_command(options: AccessOptions) -> None:
    """List all users with their roles.

    Example: ackstream console user list
    """
    from console.output import show
    from console.web.access.users import NO_PASSWORD, UserFile

    users, faults = UserFile(options.settings.users_file).read()
    for number, fault in faults.items():
        typer.echo(f"line {number} of {options.settings.users_file} does not count: {fault}", err=True)
    rows = [
        {"user": user.name, "role": str(user.role), "password": user.password_hash != NO_PASSWORD}
        for user in users.values()
    ]
    show(rows, "users", as_json=options.as_json)


@app.command("remove")
def remove_command(options: AccessOptions, name: Name) -> None:
    """Remove a user, and end the user's sessions.

    Example: ackstream console user remove ann
    """
    from console.web.access.users import UserFile
    from runtime.errors import CommandError

    users = UserFile(options.settings.users_file)

    async def remove(database: "Connection") -> int:
        ended = await _end_sessions(options, database, "user.remove", name, "removed")
        if not users.remove(name):
            raise CommandError(f"no user {name!r}: see `ackstream console user list`")
        return ended

    ended = options.change(remove)
    options.answer(
        {"user": name, "removed": True, "sessions_ended": ended}, f"user {name} is removed{_describe_ended(ended)}"
    )


@app.command("sign-out")
def sign_out_command(
    options: AccessOptions,
    name: Annotated[str, typer.Argument(help="A user, or link:… as the audit log names the user of a sign-in link.")],
) -> None:
    """End all sessions of a user. The user can sign in again.

    Example: ackstream console user sign-out ann
    """
    ended = options.change(lambda database: _end_sessions(options, database, "session.end", name, "signed out"))
    options.answer({"user": name, "sessions_ended": ended}, f"sessions of {name} that are ended: {ended}")


async def _end_sessions(options: AccessOptions, database: "Connection", action: str, name: str, result: str) -> int:
    """End all sessions of the user; record why. The change of the file makes them worthless too."""
    from console.web.access.sessions import end_sessions

    ended = await end_sessions(database, name)
    await options.record(database, action, f"user={name}", result)
    return ended


def _describe_ended(sessions: int) -> str:
    return f"; sessions that are ended: {sessions}" if sessions else ""


def _read_password(*, from_stdin: bool) -> str:
    """Read the password. Raises CommandError unless it follows the rule."""
    import sys

    from console.web.access.passwords import check_password_rule
    from runtime.errors import CommandError

    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    try:
        return check_password_rule(password)
    except ValueError as exc:
        raise CommandError(str(exc)) from None
