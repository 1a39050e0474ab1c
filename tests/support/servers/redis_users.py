"""Users of a Redis server."""

from pathlib import Path
from urllib.parse import urlsplit

from redis.asyncio import Redis

ACL_FILE = (Path(__file__).parents[3] / "deploy" / "redis-users.acl").read_text()


async def add_user(server: Redis, url: str, name: str, *rules: str) -> str:
    """Add a user with these rights, and return the URL that logs in as this user."""
    await server.execute_command("ACL", "SETUSER", name, "on", ">secret", *rules)  # type: ignore[no-untyped-call]
    return f"redis://{name}:secret@127.0.0.1:{urlsplit(url).port}"
