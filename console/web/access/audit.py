"""The audit log: an entry for each action, with the person, the scope, the number, the reason and the result.

It holds no payload, no secret and no whole phone number: long runs of digits are masked when they are recorded.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import chain
from math import inf

from aiosqlite import Connection

from console.web.access.roles import Identity
from worker.events.event import mask

KEEP_SECONDS = 400 * 86_400.0
MAX_ROWS = 1_000_000
LONGEST_TEXT = 500
MAX_PAGE = 200

# Ids of entries, messages and replays stay readable; other digits, also in groups, may be a phone number.
READABLE = re.compile(
    r"""(?<![\w.-])(?:
        [0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}      # a message id
      | \d{1,4}/\d{13}-\d{1,5}                           # an entry id
      | (?=\d*[a-f])[0-9a-f]{8}                          # a replay, which has a letter
      | \d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d)?Z?)?       # a date, with or without a time
    )(?![\w-])""",
    re.VERBOSE | re.IGNORECASE,
)
_NUMBER = re.compile(rf"({READABLE.pattern})|\d(?:[ ().-]{{0,2}}\d){{5,}}", re.VERBOSE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An action. ``at`` is in Unix seconds; ``count`` is None for an action without a number."""

    id: int
    at: float
    who: str
    role: str
    address: str
    action: str
    scope: str
    count: int | None
    why: str
    result: str


COLUMNS = tuple(field.name for field in fields(AuditEntry))


class AuditLog:
    """All actions of the last ``keep_seconds``, at most 1,000,000."""

    def __init__(
        self, database: Connection, clock: Callable[[], float] = time.time, *, keep_seconds: float = KEEP_SECONDS
    ) -> None:
        self._database = database
        self._keep_seconds = keep_seconds
        self._clock = clock

    async def record(
        self, identity: Identity, *, action: str, scope: str = "", count: int | None = None, why: str = "", result: str
    ) -> None:
        """Record an action, and drop the entries beyond the limits. Raises sqlite3.Error."""
        now = self._clock()
        texts = [_clean(text) for text in (identity.name, str(identity.role), identity.address, action)]
        values = (now, *texts, mask_digits(scope), count, mask_digits(why), mask_digits(result))
        columns = ", ".join(COLUMNS[1:])
        await self._database.execute(f"INSERT INTO audit ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608 - constants
        await self._drop_old(now)

    async def drop_old(self) -> None:
        """Drop the entries beyond the limits. Raises sqlite3.Error."""
        await self._drop_old(self._clock())

    async def _drop_old(self, now: float) -> None:
        await self._database.execute("DELETE FROM audit WHERE at < ?", (now - self._keep_seconds,))
        await self._database.execute("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?", (MAX_ROWS,))

    async def read(
        self,
        *,
        who: str = "",
        action: str = "",
        since: float | None = None,
        until: float | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[AuditEntry]:
        """Return a page, newest first. ``before`` is the id of the previous page's last entry.

        ``action`` is an action or its first word, such as ``groups``. ``since`` is included, ``until`` is not. Each
        combination of filters has an index in this order, so a page of a full log takes a millisecond.
        """
        kind = "action" if "." in action else "area"
        index = "_".join(["audit", *["who"] * bool(who), *[kind] * bool(action)])
        filters = {
            "who = ?": [who] if who else None,
            f"{kind} = ?": [action] if action else None,
            "at >= ?": None if since is None else [since],
            "at < ?": None if until is None else [until],
        }
        if before is not None:  # one bound for the index; the plus keeps it from taking the other one
            filters["+at < ?"] = filters.pop("at < ?")
            filters["(at, id) < (SELECT min(at, ?), id FROM audit WHERE id = ?)"] = [
                inf if until is None else until,
                before,
            ]
        chosen = {condition: values for condition, values in filters.items() if values is not None}
        where = " AND ".join(chosen) or "TRUE"
        source = f"audit INDEXED BY {index if index != 'audit' else 'audit_at'}"
        query = f"SELECT {', '.join(COLUMNS)} FROM {source} WHERE {where} ORDER BY at DESC, id DESC LIMIT ?"  # noqa: S608 - constants
        values = (*chain.from_iterable(chosen.values()), min(limit, MAX_PAGE))
        async with self._database.execute(query, values) as cursor:
            return [AuditEntry(*row) async for row in cursor]


def mask_digits(text: str) -> str:
    """Return the text in one line, with all but the end of each long number masked. Ids and dates stay."""
    return _NUMBER.sub(lambda match: match.group(1) or mask(re.sub(r"\D", "", match.group())) or "", _clean(text))


def _clean(text: str) -> str:
    """Return the first characters of the text, without characters that a page or terminal hides or acts on."""
    return "".join(char if char.isprintable() else " " for char in text)[:LONGEST_TEXT]
