"""redis-py's client with a time limit for each command."""

import asyncio
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.redis.votes import ASK_SECONDS

CONNECT_SECONDS = 3.0
REPLY_SECONDS = 5.0


class Client(Redis):
    """redis-py's client with a time limit for each command, from the search for the primary to the reply."""

    limit_seconds = ASK_SECONDS + CONNECT_SECONDS + REPLY_SECONDS

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute one command. Raises redis.exceptions.TimeoutError when the limit is reached."""
        try:  # not limit_wait, which costs more: this runs for every command
            async with asyncio.timeout(self.limit_seconds):
                return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except TimeoutError:
            raise RedisTimeoutError("no answer within the limit") from None
