"""The options of the commands that change access to the console, and the console's database."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from console.options import AsJson, Data

if TYPE_CHECKING:
    from aiosqlite import Connection

    from console.web.access.roles import Role
    from console.web.settings import ConsoleSettings

T = TypeVar("T")

RoleOption = Annotated[str, typer.Option("--role", metavar="ROLE", help="viewer, operator or admin.")]


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """The data folder of the console, and the output format."""

    data: Data = None
    as_json: AsJson = False

    @property
    def settings(self) -> "ConsoleSettings":
        """The settings of the console. Raises InvalidSettings."""
        from console.web.settings import ConsoleSettings

        return ConsoleSettings.load(data=self.data)

    def ask(self, question: "Callable[[Connection], Awaitable[T]]") -> T:
        """Return the result of a question to the console's database. Raises as open_console_database."""
        import asyncio

        from console.web.database import open_console_database

        async def run() -> T:
            async with open_console_database(self.settings.console_database) as database:
                return await question(database)

        return asyncio.run(run())

    def change(self, change: "Callable[[Connection], Awaitable[T]]") -> T:
        """Make a change and its entry in the audit log in one transaction. Raises as open_console_database."""

        async def apply(database: "Connection") -> T:
            await database.execute("BEGIN IMMEDIATE")
            try:
                result = await change(database)
                await database.execute("COMMIT")
            except BaseException:
                await database.rollback()
                raise
            return result

        return self.ask(apply)

    async def record(self, database: "Connection", action: str, scope: str, result: str) -> None:
        """Record in the audit log that the owner of this shell has done something."""
        from console.web.access.audit import AuditLog
        from console.web.access.roles import Identity, Role

        shell = Identity(f"shell:{os.getuid()}", Role.ADMIN)
        audit = AuditLog(database, keep_seconds=self.settings.audit_seconds)
        await audit.record(shell, action=action, scope=scope, result=result)

    def answer(self, value: object, sentence: str) -> None:
        """Print the value with ``--json``, else the sentence."""
        from console.output import print_json, print_line

        if self.as_json:
            print_json(value)
        else:
            print_line(sentence)


def parse_role(text: str) -> "Role":
    """Return the role. Raises CommandError."""
    from console.web.access.roles import Role
    from runtime.errors import CommandError

    try:
        return Role.from_text(text)
    except ValueError as exc:
        raise CommandError(f"--role: {exc}") from None


def check_name(name: str) -> str:
    """Return the name of a user or token. Raises CommandError."""
    from console.web.access.credentials import NAME_RULE, is_name
    from runtime.errors import CommandError

    if not is_name(name):
        raise CommandError(f"{name[:64]!r} is not a name: use {NAME_RULE}")
    return name
