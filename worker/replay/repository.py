"""The replays of a group, kept in one hash: what each is of, how far it is, and the scripts that move it on.

A copy and the cursor that says so are one script, which asks for the lease, the state and the cursor first: whoever
copies late, twice or beside another changes nothing, and whoever comes after a crash goes on where it was.

On the stream a consumer group of its own, which nobody reads, stands where the replay is: so nothing is trimmed that it
still has to copy (worker.floor counts every group).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from stream.entry import EntryId
from stream.keys import Shard
from stream.redis.scripts import read_script
from worker.group.lease import Lease
from worker.replay.job import ENDED, Place, Progress, Replay, State

MOST_UNREAD = 10_000
KEPT_ENDED = 20

START = read_script(__file__, "start_replay.lua")
MOVE = read_script(__file__, "set_state.lua")
COPY = read_script(__file__, "copy_entries.lua")


class Superseded(Exception):  # noqa: N818 - named for what it means: another copies, or nobody shall
    """The replay is not this process's to go on with."""


class NoRoom(Exception):  # noqa: N818
    """The group has as many copies before it as it may have."""


@dataclass(frozen=True, slots=True)
class ReplayCopy:
    """A copy to make: of which entry, and its fields."""

    id: EntryId
    fields: Mapping[bytes, bytes]


class Replays:
    """The replays of one group. Every method raises RedisError."""

    def __init__(self, server: Redis, shard: Shard, group: str) -> None:
        self._server = server
        self._shard = shard
        self._group = group
        self._key = shard.replays(group)
        self._start = server.register_script(START)
        self._move = server.register_script(MOVE)
        self._copy = server.register_script(COPY)

    async def all(self) -> list[Progress]:
        """Return those that are known: all that have not ended, and the last ones that have."""
        stored: Any = await self._server.hgetall(self._key)
        return Progress.all_from(self._shard.number, stored)

    async def find(self, replay_id: str) -> Progress | None:
        """Return the one of this id."""
        return next((one for one in await self.all() if one.replay.id == replay_id), None)

    async def start(self, replay: Replay) -> bool:
        """Have it begin; False if the group is not registered. Old ones that have ended are forgotten."""
        keys = [self._shard.groups, self._key, self._shard.stream]
        args: list[Any] = [self._group, replay.id, replay.to_json(), replay.begin, replay.hold]
        if not await self._start(keys=keys, args=args):
            return False
        ended = [one.replay.id for one in await self.all() if one.state in ENDED][KEPT_ENDED:]
        if ended:
            parts = ("", ":state", ":cursor", ":boundary", ":done", ":error")
            await self._server.hdel(self._key, *(f"{one}{part}" for one in ended for part in parts))
        return True

    async def move(self, replay: Replay, to: State, *, of: Sequence[State], error: str = "") -> State | None:
        """Give it this state if it has one of those; return the one it had, None if it is not known."""
        args: list[Any] = [replay.id, to, error, replay.hold, int(to in ENDED), *of]
        found = await self._move(keys=[self._key, self._shard.stream], args=args)
        return None if found is None else State(found.decode())

    async def copy(
        self,
        replay: Replay,
        lease: Lease,
        cursors: tuple[EntryId, EntryId],
        copies: Sequence[ReplayCopy],
        *,
        last: bool,
    ) -> int:
        """Make these copies and move the cursor from the first to the second; if ``last``, end the replay.

        Returns how many were made: fewer where dead letters have gone meanwhile. Raises Superseded, and NoRoom.
        """
        shard, (known, to_be) = self._shard, cursors
        args: list[Any] = [lease.token, lease.lease_ms, replay.id, known.redis, to_be.redis, replay.hold]
        args += [int(last), int(replay.place is Place.DEAD), MOST_UNREAD, len(copies)]
        for one in copies:
            flat = [part for pair in one.fields.items() for part in pair]
            args += [one.id.redis, len(flat), *flat]
        lease_key = shard.copying(self._group, replay.id)
        keys = [self._key, lease_key, shard.replay(self._group), shard.stream, shard.dead(self._group)]
        copied = int(await self._copy(keys=keys, args=args))
        if copied < 0:
            raise Superseded if copied == -1 else NoRoom
        return copied
