"""Fenced scripts: each first checks, in the same script, that this consumer still owns the shard."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from redis.exceptions import ResponseError

from stream.redis.errors import error_code
from stream.redis.scripts import read_script
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import Heartbeat
from worker.metrics import ORDER_REFUSED

CODE = "NOTOWNER"
FENCE = read_script(__file__, "fence.lua")


class OwnershipLost(Exception):  # noqa: N818 - named for what has happened
    """The worker does not own the shard any more, and must drop what it has in flight."""


class Fence:
    """Makes fenced scripts for one group on one shard."""

    def __init__(self, group: GroupRef, heartbeat: Heartbeat) -> None:
        self._group = group
        self._heartbeat = heartbeat
        self._refused = ORDER_REFUSED.labels(group.name)

    def register(self, script: str) -> Callable[..., Awaitable[Any]]:
        """Return a function that runs the script with ``keys`` and ``args``. It raises OwnershipLost and RedisError."""
        shebang, _, rest = script.partition("\n")
        return partial(self._run, self._group.server.register_script(f"{shebang}\n{FENCE}{rest}"))

    async def _run(self, script: Any, keys: Sequence[str], args: Sequence[Any]) -> Any:
        try:
            return await script(keys=[*keys, self._group.owner], args=[*args, self._heartbeat.consumer])
        except ResponseError as exc:
            if error_code(exc) != CODE:
                raise
            self._refused.inc()
            raise OwnershipLost("another worker owns the shard") from exc
