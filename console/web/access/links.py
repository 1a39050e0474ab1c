"""Sign-in links: each works once and expires after 15 minutes. The console keeps only the digest."""

import time
from collections.abc import Callable
from pathlib import Path

from aiosqlite import Connection

from console.web.access.credentials import digest, make_secret
from console.web.access.roles import Role
from console.web.database import open_console_database

LINK_SECONDS = 15 * 60.0


class LinkTable:
    """The sign-in links that nobody has used yet."""

    def __init__(self, database: Connection, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def create(self, role: Role) -> str:
        """Return the secret of a new link."""
        secret, now = make_secret(), self._clock()
        await self._database.execute("DELETE FROM links WHERE expires_at <= ?", (now,))
        await self._database.execute(
            "INSERT INTO links VALUES (?, ?, ?)", (digest(secret), str(role), now + LINK_SECONDS)
        )
        return secret

    async def use(self, secret: str) -> tuple[str, Role] | None:
        """Use up the link; return the name and role that it gives, or None if it was used before or has expired."""
        key = digest(secret)
        query = "DELETE FROM links WHERE digest = ? RETURNING role, expires_at"
        async with self._database.execute(query, (key,)) as cursor:
            rows = list(await cursor.fetchall())
        if not rows or rows[0][1] <= self._clock():
            return None
        return f"link:{key.hex()[:6]}", Role.from_text(rows[0][0])


def format_link(base_url: str, secret: str) -> str:
    """Return the URL of a sign-in link. Its page asks for a click, so that a preview of the URL does not use it up."""
    return f"{base_url.rstrip('/')}/sign-in?link={secret}"


async def create_link(console_database: Path, base_url: str, role: Role = Role.ADMIN) -> str:
    """Return the URL of a new sign-in link, for a process without an open database. Raises as open_console_database."""
    async with open_console_database(console_database) as database:
        return format_link(base_url, await LinkTable(database).create(role))
