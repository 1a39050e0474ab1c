"""Fenced scripts: each first checks, in the same script, that this consumer still owns the shard."""

from collections.abc import Sequence
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

    def register(self, script: str) -> "FencedScript":
        """Return the script with the fence before its first command."""
        shebang, _, rest = script.partition("\n")
        return FencedScript(self, self._group.server.register_script(f"{shebang}\n{FENCE}{rest}"))

    async def run(self, script: Any, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a fenced script. Raises OwnershipLost, and RedisError."""
        try:
            return await script(keys=[*keys, self._group.owner], args=[*args, self._heartbeat.consumer])
        except ResponseError as exc:
            if error_code(exc) != CODE:
                raise
            self._refused.inc()
            raise OwnershipLost("another worker owns the shard") from exc


class FencedScript:
    """A script that only the owner of the shard can run."""

    def __init__(self, fence: Fence, script: Any) -> None:
        self._fence = fence
        self._script = script

    async def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run the script. Raises OwnershipLost, and RedisError."""
        return await self._fence.run(self._script, keys, args)
