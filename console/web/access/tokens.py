"""Bearer tokens of programs, for ``/api/v1`` only. A token is printed once; the console keeps its digest."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from sqlite3 import OperationalError, Row

from aiosqlite import Connection

from console.web.access.credentials import digest, make_secret
from console.web.access.roles import Role

PREFIX = "ackstream_"
"""Secret scanners recognise it."""

TOUCH_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Token:
    """A token's entry. Times are Unix seconds."""

    name: str
    role: Role
    created_at: float
    used_at: float | None
    """Exact to an hour; None if it was never used."""


class TokenTable:
    """All tokens."""

    def __init__(self, database: Connection, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def add(self, name: str, role: Role) -> str | None:
        """Return the secret of a new token, or None if a token has this name. The name follows NAME_RULE."""
        secret = make_secret(PREFIX)
        query = "INSERT INTO tokens VALUES (?, ?, ?, ?, NULL) ON CONFLICT (name) DO NOTHING"
        values = (name, digest(secret), str(role), self._clock())
        async with self._database.execute(query, values) as cursor:
            return secret if cursor.rowcount else None

    async def find(self, secret: str) -> Token | None:
        """Return the token of this secret, and store that it was used."""
        query = "SELECT name, role, created_at, used_at FROM tokens WHERE digest = ?"
        async with self._database.execute(query, (digest(secret),)) as cursor:
            row = await cursor.fetchone()
        if row is None:
            return None
        token, now = _from_row(row), self._clock()
        if token.used_at is None or now - token.used_at > TOUCH_SECONDS:
            with suppress(OperationalError):  # a full disk refuses no token
                await self._database.execute("UPDATE tokens SET used_at = ? WHERE name = ?", (now, token.name))
        return token

    async def read(self) -> list[Token]:
        """Return all tokens by name."""
        query = "SELECT name, role, created_at, used_at FROM tokens ORDER BY name"
        async with self._database.execute(query) as cursor:
            return [_from_row(row) async for row in cursor]

    async def remove(self, name: str) -> bool:
        """Remove the token; return whether there was one."""
        async with self._database.execute("DELETE FROM tokens WHERE name = ?", (name,)) as cursor:
            return cursor.rowcount > 0


def _from_row(row: Row) -> Token:
    name, role, created_at, used_at = row
    return Token(name, Role.from_text(role), created_at, used_at)
