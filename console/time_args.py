"""Parse times of the command line: a date, a time, or an age."""

import re
from datetime import UTC, datetime

from runtime.errors import CommandError
from stream.entry import LATEST_MS
from worker.retention.settings import UNIT_MS


def parse_time_ms(text: str, now_ms: int) -> int:
    """Return a time in ms since 1970; without a zone it is UTC.

    Raises CommandError if it is malformed, or not between 1970 and 9999 in UTC.
    """
    ago = re.fullmatch(r"(\d{1,7})([smhd])", text, re.ASCII)
    if ago:
        return max(now_ms - int(ago.group(1)) * UNIT_MS[ago.group(2)], 0)
    try:
        moment = datetime.fromisoformat(text)
        ms = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise CommandError(
            f"invalid time {text!r}: write 2026-01-31T14:00 (UTC), 2026-01-31T14:00+02:00, 2026-01-31, or an age such "
            "as 90m, 12h or 7d"
        ) from None
    if not 0 <= ms <= LATEST_MS:
        raise CommandError(f"invalid time {text!r}: choose a time between 1970 and 9999")
    return ms
