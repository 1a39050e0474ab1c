"""Sessions of signed-in people. The browser has the secret; the console keeps its digest.

A session ends after 8 hours without use, after 7 days, at sign-out, and when the user's password or role changes or the
user is removed.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from sqlite3 import OperationalError

from aiosqlite import Connection

from console.web.access.credentials import digest, make_secret
from console.web.access.roles import Role
from console.web.access.users import User, UserFile

IDLE_SECONDS = 8 * 3600.0
LONGEST_SECONDS = 7 * 86_400.0
TOUCH_SECONDS = 60.0
"""The last use is stored at most this often."""


@dataclass(frozen=True, slots=True)
class Session:
    """The person of a session."""

    name: str
    role: Role


class SessionTable:
    """All sessions of the console."""

    def __init__(self, database: Connection, users: UserFile, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._users = users
        self._clock = clock

    async def start(self, user: User) -> str:
        """Start a session of this user; return its secret."""
        return await self._insert(user.name, user.role, user.stamp)

    async def start_for_link(self, name: str, role: Role) -> str:
        """Start a session that a sign-in link gives; return its secret."""
        return await self._insert(name, role, None)

    async def find(self, secret: str, *, is_use: bool = True) -> Session | None:
        """Return the session, or None if it has ended. With ``is_use`` its idle time starts again."""
        key, now = digest(secret), self._clock()
        query = "SELECT name, role, stamp, used_at FROM sessions WHERE digest = ? AND used_at > ? AND created_at > ?"
        async with self._database.execute(query, (key, now - IDLE_SECONDS, now - LONGEST_SECONDS)) as cursor:
            row = await cursor.fetchone()
        if row is None:
            return None
        name, role, stamp, used_at = row
        if stamp is not None:
            user = self._users.find(name)
            if user is None or user.stamp != stamp:
                await self.end(secret)
                return None
        if is_use and now - used_at > TOUCH_SECONDS:
            with suppress(OperationalError):  # a full disk ends no session
                await self._database.execute("UPDATE sessions SET used_at = ? WHERE digest = ?", (now, key))
        return Session(name, Role.from_text(role))

    async def end(self, secret: str) -> None:
        """End the session."""
        await self._database.execute("DELETE FROM sessions WHERE digest = ?", (digest(secret),))

    async def _insert(self, name: str, role: Role, stamp: bytes | None) -> str:
        secret, now = make_secret(), self._clock()
        await self._database.execute(
            "DELETE FROM sessions WHERE used_at <= ? OR created_at <= ?", (now - IDLE_SECONDS, now - LONGEST_SECONDS)
        )
        await self._database.execute(
            "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)", (digest(secret), name, str(role), stamp, now, now)
        )
        return secret


async def end_sessions(database: Connection, name: str) -> int:
    """End all sessions of this user or sign-in link; return how many there were."""
    async with database.execute("DELETE FROM sessions WHERE name = ?", (name,)) as cursor:
        return cursor.rowcount
