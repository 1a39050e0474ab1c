"""Options that select stored entries."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from worker.replay.entry_filter import EntryFilter

Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Received at this time or later: 2026-01-31T14:00 (UTC), or an age such as 90m, 12h, 7d."
    ),
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Received before this time, written like --since.")]
Ids = Annotated[
    list[str] | None, typer.Option("--id", metavar="SHARD/MS-SEQ", help="This entry. Repeat the option for more.")
]
DeadIds = Annotated[
    list[str] | None, typer.Option("--id", metavar="ID", help="An id that `list` shows. Repeat the option for more.")
]
Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", help="This reason, as `list` shows it. Repeat the option for more."),
]
Errors = Annotated[
    list[str] | None,
    typer.Option("--error", help="This error, as `list` shows it. Repeat the option for more."),
]


@dataclass(frozen=True, slots=True)
class EntryOptions:
    """Options that select entries of the stream and of the archive."""

    since: Since = None
    until: Until = None
    ids: Ids = None
    messages: Annotated[
        list[str] | None,
        typer.Option("--message", metavar="UUID", help="Statuses of this message. Repeat the option for more."),
    ] = None
    statuses: Annotated[
        list[str] | None, typer.Option("--status", help="This status, such as delivered. Repeat the option for more.")
    ] = None
    channels: Annotated[
        list[str] | None, typer.Option("--channel", help="This channel, such as sms. Repeat the option for more.")
    ] = None
    accounts: Annotated[
        list[str] | None, typer.Option("--account", help="This account. Repeat the option for more.")
    ] = None

    @property
    def selection(self) -> "EntryFilter":
        """The selection. Raises CommandError if it is invalid or can match nothing."""
        from console.queries.selection import build_filter

        return build_filter(**{option.name: getattr(self, option.name) for option in fields(EntryOptions)})


@dataclass(frozen=True, slots=True)
class DeadLetterOptions:
    """Options that select dead letters."""

    ids: DeadIds = None
    reasons: Reasons = None
    errors: Errors = None
    since: Since = None
    until: Until = None
    everything: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False

    def choose(self, act: str) -> "EntryFilter":
        """Return the selection. Raises CommandError if it is invalid, can match nothing, or is empty without --all."""
        from console.queries.selection import build_filter
        from runtime.errors import CommandError

        selection = build_filter(
            since=self.since, until=self.until, ids=self.ids, reasons=self.reasons, errors=self.errors
        )
        if selection.is_all and not self.everything:
            raise CommandError(f"choose what to {act}: --id, --reason, --error, --since, --until, or --all")
        if self.everything and not selection.is_all:
            raise CommandError(
                "--all cannot be combined with --id, --reason, --error, --since or --until: give one or the other"
            )
        return selection
