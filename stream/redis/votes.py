"""Asks several servers the same question at once, and counts their answers."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.redis.url import Host

ASK_SECONDS = 1.0

Answer = TypeVar("Answer")
Ask = Callable[[str, int], Coroutine[Any, Any, Answer | None]]


async def count_votes(hosts: Sequence[Host], ask: Ask[Answer]) -> tuple[Counter[Answer], Exception | None]:
    """Count the answers until a majority agrees, all have answered, or ASK_SECONDS are over; with the last error.

    An answer of None has no vote.
    """
    queries = [asyncio.ensure_future(ask(*host)) for host in hosts]
    try:
        votes, error = await _collect_votes(queries)
    finally:
        for query in queries:
            query.cancel()
        await asyncio.gather(*queries, return_exceptions=True)
    random.shuffle(votes)  # ties are broken at random
    return Counter(votes), error


async def _collect_votes(
    queries: Sequence["asyncio.Future[Answer | None]"],
) -> tuple[list[Answer], Exception | None]:
    votes: list[Answer] = []
    error: Exception | None = None
    try:
        async with asyncio.timeout(ASK_SECONDS):
            for answer in asyncio.as_completed(queries):
                try:
                    vote = await answer
                except RedisError as exc:
                    error = exc
                    continue
                if vote is not None:
                    votes.append(vote)
                if any(2 * number > len(queries) for number in Counter(votes).values()):
                    break
    except TimeoutError:
        error = error or RedisTimeoutError()
    return votes, error
