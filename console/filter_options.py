"""Options by which commands choose among stored entries, and the selection that they make."""

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from console.format import named
from console.time_args import moment_ms
from runtime.errors import Refusal
from worker.replay.entry_filter import Selection

Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Received from then on: 2026-01-31T14:00 (UTC), or so long ago: 90m, 12h, 7d."),
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Received before then; written likewise.")]
Ids = Annotated[
    list[str] | None, typer.Option("--id", metavar="SHARD/MS-SEQ", help="This entry; more than once for several.")
]
DeadIds = Annotated[
    list[str] | None, typer.Option("--id", metavar="ID", help="The id that `list` shows; more than once for several.")
]
Messages = Annotated[
    list[str] | None, typer.Option("--message", metavar="UUID", help="Statuses of this message; more than once.")
]
Statuses = Annotated[
    list[str] | None, typer.Option("--status", help="With this status, such as delivered; more than once.")
]
Channels = Annotated[list[str] | None, typer.Option("--channel", help="Of this channel, such as sms; more than once.")]
Accounts = Annotated[list[str] | None, typer.Option("--account", help="Of this account; more than once.")]
Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", help="Given up for this reason, as `list` shows it; more than once."),
]


def selected(
    *,
    since: str | None = None,
    until: str | None = None,
    ids: Sequence[str] | None = None,
    messages: Sequence[str] | None = None,
    statuses: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    accounts: Sequence[str] | None = None,
    reasons: Sequence[str] | None = None,
) -> Selection:
    """Return the selection that these options make. Raises Refusal for what cannot be meant."""
    now_ms = int(time.time() * 1000)
    since_ms, until_ms = (None if one is None else moment_ms(one, now_ms) for one in (since, until))
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise Refusal(f"nothing is received since {since} and before {until}: --since must be before --until")
    return Selection(
        since_ms=since_ms,
        until_ms=until_ms,
        ids=tuple(str(named(one)) for one in ids or ()),
        messages=tuple(messages or ()),
        statuses=tuple(statuses or ()),
        channels=tuple(channels or ()),
        accounts=tuple(accounts or ()),
        reasons=tuple(reasons or ()),
    )
