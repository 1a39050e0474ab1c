"""Count the outstanding work of a group that is due, for autoscalers."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from console.format import format_away
from console.queries.stats import COUNTED_AT_MOST
from stream.keys import Shard
from stream.redis.cluster import ask_answering
from stream.redis.scripts import read_script
from worker.handlers.errors import LONGEST_DELAY_SECONDS

OUTSTANDING = read_script(__file__, "outstanding.lua")


class UnknownGroup(Exception):  # noqa: N818 - named for what is wrong
    """The group is registered on no shard."""


class InexactCount(Exception):  # noqa: N818
    """The number cannot be known now. The text says why."""


async def count_outstanding(server: Redis, shards: Sequence[Shard], group: str) -> int:
    """Return how many entries a worker of the group could handle now, over all shards.

    These are unread and pending entries, retries that are due, and replayed entries. Retries that wait for a later time
    and dead letters do not count; nor do entries that a replay has not copied, because its rate limits them. A pause
    changes nothing. Raises UnknownGroup, InexactCount and RedisError.
    """
    counts, away = await ask_answering(server, shards, lambda shard: _count(server, shard, group))
    if away:
        raise InexactCount(format_away(away))
    registered = [count for count in counts.values() if count is not None]
    if not registered:
        raise UnknownGroup(group)
    return sum(registered)


async def _count(server: Redis, shard: Shard, group: str) -> int | None:
    script = server.register_script(OUTSTANDING)
    keys = [shard.stream, shard.groups, shard.delayed(group), shard.retry(group), shard.replay(group)]
    reply: Any = await script(keys=keys, args=[group, round(LONGEST_DELAY_SECONDS * 1000)])
    if reply is None:
        return None
    lag, delivered, pending, retries, replays = reply
    if lag == -2:  # noqa: PLR2004 - as outstanding.lua replies
        raise InexactCount("the group is missing on the stream; a worker creates it again")
    if lag < 0:
        entries: Any = await server.xrange(shard.stream, f"({delivered.decode()}", "+", count=COUNTED_AT_MOST)
        lag = len(entries)
        if lag >= COUNTED_AT_MOST:
            raise InexactCount(f"Redis does not report the lag, and more than {COUNTED_AT_MOST:,} entries are unread")
    return int(lag + pending + retries + replays)
