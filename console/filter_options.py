"""Options that choose among stored entries."""

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
    list[str] | None, typer.Option("--id", metavar="SHARD/MS-SEQ", help="This entry. Give it again for another.")
]
DeadIds = Annotated[
    list[str] | None, typer.Option("--id", metavar="ID", help="An id that `list` shows. Give it again for another.")
]
Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", help="This reason, as `list` shows it. Give it again for another."),
]


@dataclass(frozen=True, slots=True)
class EntryOptions:
    """Options that choose among the entries of the stream and of the archive."""

    since: Since = None
    until: Until = None
    ids: Ids = None
    messages: Annotated[
        list[str] | None,
        typer.Option("--message", metavar="UUID", help="Statuses of this message. Give it again for another."),
    ] = None
    statuses: Annotated[
        list[str] | None, typer.Option("--status", help="This status, such as delivered. Give it again for another.")
    ] = None
    channels: Annotated[
        list[str] | None, typer.Option("--channel", help="This channel, such as sms. Give it again for another.")
    ] = None
    accounts: Annotated[
        list[str] | None, typer.Option("--account", help="This account. Give it again for another.")
    ] = None

    @property
    def selection(self) -> "EntryFilter":
        """What they select. Raises Refusal for an invalid or an empty one."""
        from console.queries.selection import build_filter

        return build_filter(**{one.name: getattr(self, one.name) for one in fields(EntryOptions)})


@dataclass(frozen=True, slots=True)
class DeadLetterOptions:
    """Options that choose among dead letters."""

    ids: DeadIds = None
    reasons: Reasons = None
    since: Since = None
    until: Until = None
    everything: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False

    def choose(self, act: str) -> "EntryFilter":
        """Return what they select. Raises Refusal for an invalid or an empty one, and for none without --all."""
        from console.queries.selection import build_filter
        from runtime.errors import Refusal

        selection = build_filter(since=self.since, until=self.until, ids=self.ids, reasons=self.reasons)
        if selection.is_all and not self.everything:
            raise Refusal(f"choose what to {act}: --id, --reason, --since, --until, or --all")
        if self.everything and not selection.is_all:
            raise Refusal("--all cannot be combined with --id, --reason, --since or --until: give one or the other")
        return selection
