"""Options that choose among stored entries (console.queries.selection makes a filter of them)."""

from typing import Annotated

import typer

Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Received at this time or later: 2026-01-31T14:00 (UTC), or an age such as 90m, 12h, 7d."
    ),
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Received before this time, written like --since.")]
Ids = Annotated[
    list[str] | None, typer.Option("--id", metavar="SHARD/MS-SEQ", help="This entry. Give it again for another.")
]
DeadIds = Annotated[
    list[str] | None, typer.Option("--id", metavar="ID", help="An id that `list` shows. Give it again for another.")
]
Messages = Annotated[
    list[str] | None,
    typer.Option("--message", metavar="UUID", help="Statuses of this message. Give it again for another."),
]
Statuses = Annotated[
    list[str] | None, typer.Option("--status", help="This status, such as delivered. Give it again for another.")
]
Channels = Annotated[
    list[str] | None, typer.Option("--channel", help="This channel, such as sms. Give it again for another.")
]
Accounts = Annotated[list[str] | None, typer.Option("--account", help="This account. Give it again for another.")]
Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", help="This reason, as `list` shows it. Give it again for another."),
]
