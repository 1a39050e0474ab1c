"""Stores the replays of a group in one Redis hash, with their progress, and makes the copies.

One script makes copies and moves the cursor. It first checks the lease, the state and the cursor. So a process that
copies late, or at the same time as another one, changes nothing, and after a crash the next process continues from the
cursor.

A replay of the stream has a consumer group of its own, without consumers, at its cursor. The trimmer therefore keeps
the entries that the replay has not copied (worker.retention.ack_floor counts every group).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stream.entry import EntryId
from stream.redis.scripts import read_script
from worker.group.group_ref import GroupRef
from worker.group.lease import Lease
from worker.replay.job import ENDED, Place, Progress, Replay, State, parse_rate

MOST_UNREAD = 10_000
KEPT_ENDED = 20
PARTS = ("state", "cursor", "boundary", "done", "error", "rate", "by", "why", "moved", "moved_by", "moved_why")

START = read_script(__file__, "start_replay.lua")
SET_STATE = read_script(__file__, "set_state.lua")
SET_RATE = read_script(__file__, "set_rate.lua")
COPY = read_script(__file__, "copy_entries.lua")


class Superseded(Exception):  # noqa: N818 - the caller stops copying
    """Another process copies for the replay, or its state has changed."""


class NoRoom(Exception):  # noqa: N818
    """The group already has the greatest allowed number of unread copies."""


@dataclass(frozen=True, slots=True)
class ReplayCopy:
    """A copy to make: the id of its entry, and the fields of the copy."""

    id: EntryId
    fields: Mapping[bytes, bytes]


class Replays:
    """The replays of one group. Every method raises RedisError."""

    def __init__(self, group: GroupRef) -> None:
        self._server = group.server
        self._shard = group.shard
        self._group = group
        self._key = group.replays
        self._start = group.server.register_script(START)
        self._set_state = group.server.register_script(SET_STATE)
        self._set_rate = group.server.register_script(SET_RATE)
        self._copy = group.server.register_script(COPY)

    async def all(self) -> list[Progress]:
        """Return the progress of all replays that have not ended, and of those that ended last."""
        stored: Any = await self._server.hgetall(self._key)
        return Progress.all_from(self._shard.number, stored)

    async def find(self, replay_id: str) -> Progress | None:
        """Return the progress of the replay with this id, or None."""
        return next((progress for progress in await self.all() if progress.replay.id == replay_id), None)

    async def start(self, replay: Replay, person: str = "", why: str = "") -> bool:
        """Start the replay, and delete old replays that have ended. Return False if the group is not registered."""
        keys = [self._shard.groups, self._key, self._shard.stream]
        args: list[Any] = [self._group.name, replay.id, replay.to_json(), replay.begin, replay.hold, person, why]
        if not await self._start(keys=keys, args=args):
            return False
        ended = [progress.replay.id for progress in await self.all() if progress.state in ENDED][KEPT_ENDED:]
        if ended:
            parts = [f"{replay_id}:{part}" for replay_id in ended for part in PARTS]
            await self._server.hdel(self._key, *ended, *parts)
        return True

    async def change_state(
        self,
        replay: Replay,
        state: State,
        *,
        allowed: Sequence[State],
        error: str = "",
        person: str = "",
        why: str = "",
    ) -> State | None:
        """Set the state if the replay is in one of the allowed states. Return the state before, None if unknown."""
        args: list[Any] = [replay.id, state, error, replay.hold, int(state in ENDED), person, why, *allowed]
        previous = await self._set_state(keys=[self._key, self._shard.stream], args=args)
        return None if previous is None else State(previous.decode())

    async def change_rate(self, replay: Replay, rate: float) -> State | None:
        """Change the rate unless the replay has ended. Return its state, None if unknown."""
        state = await self._set_rate(keys=[self._key], args=[replay.id, rate, *ENDED])
        return None if state is None else State(state.decode())

    async def read_rate(self, replay: Replay) -> float:
        """Return the rate that is allowed now."""
        rate: Any = await self._server.hget(self._key, f"{replay.id}:rate")
        return parse_rate(rate or b"", replay)

    async def copy(
        self,
        replay: Replay,
        lease: Lease,
        cursors: tuple[EntryId, EntryId],
        copies: Sequence[ReplayCopy],
        *,
        last: bool,
    ) -> int:
        """Make the copies and move the cursor from the first id to the second. ``last`` ends the replay.

        Returns the number of copies: fewer if dead letters were deleted in the meantime. Raises Superseded or NoRoom.
        """
        shard, (cursor, next_cursor) = self._shard, cursors
        args: list[Any] = [lease.token, lease.lease_ms, replay.id, cursor.redis, next_cursor.redis, replay.hold]
        args += [int(last), int(replay.place is Place.DEAD), MOST_UNREAD, len(copies)]
        for copy in copies:
            flat = [part for pair in copy.fields.items() for part in pair]
            args += [copy.id.redis, len(flat), *flat]
        lease_key = shard.copying(self._group.name, replay.id)
        keys = [self._key, lease_key, self._group.replay, shard.stream, self._group.dead]
        copied = int(await self._copy(keys=keys, args=args))
        if copied < 0:
            raise Superseded if copied == -1 else NoRoom
        return copied
