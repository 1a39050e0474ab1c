"""Build the selection for the filter options of a command."""

import time
from collections.abc import Sequence

from console.format import parse_entry_id
from console.time_args import parse_time_ms
from runtime.errors import CommandError
from worker.events.event import mask_numbers
from worker.replay.entry_filter import EntryFilter


def build_filter(
    *,
    since: str | None = None,
    until: str | None = None,
    ids: Sequence[str] | None = None,
    messages: Sequence[str] | None = None,
    statuses: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    accounts: Sequence[str] | None = None,
    reasons: Sequence[str] | None = None,
    errors: Sequence[str] | None = None,
) -> EntryFilter:
    """Return the selection of these options. Raises CommandError if it is invalid or can match nothing."""
    now_ms = int(time.time() * 1000)
    since_ms, until_ms = (None if text is None else parse_time_ms(text, now_ms) for text in (since, until))
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise CommandError(f"no time is both after {since} and before {until}: --since must be before --until")
    return EntryFilter(
        since_ms=since_ms,
        until_ms=until_ms,
        ids=tuple(str(parse_entry_id(text)) for text in ids or ()),
        messages=tuple(messages or ()),
        statuses=tuple(statuses or ()),
        channels=tuple(channels or ()),
        accounts=tuple(accounts or ()),
        reasons=tuple(reasons or ()),
        errors=tuple(map(mask_numbers, errors or ())),
    )
