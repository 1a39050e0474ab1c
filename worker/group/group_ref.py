"""Names one consumer group: the server, the shard and the group's name, with the keys that belong to the group."""

from dataclasses import dataclass

from redis.asyncio import Redis

from stream.keys import Shard
from worker.sources import Source, streams


@dataclass(frozen=True, slots=True)
class GroupRef:
    """One group of one shard, and the client that reaches it. ``stream.keys`` describes the keys."""

    server: Redis
    shard: Shard
    name: str

    @property
    def streams(self) -> dict[Source, str]:
        """The key of each stream that the group reads."""
        return streams(self.shard, self.name)

    @property
    def alive(self) -> str:
        """The key of the heartbeat counters."""
        return self.shard.alive(self.name)

    @property
    def checkpoint(self) -> str:
        """The key of the checkpoint."""
        return self.shard.checkpoint(self.name)

    @property
    def dead(self) -> str:
        """The stream of dead letters."""
        return self.shard.dead(self.name)

    @property
    def delayed(self) -> str:
        """The key of the delayed retries."""
        return self.shard.delayed(self.name)

    @property
    def handled(self) -> str:
        """The key of the dedup marks."""
        return self.shard.handled(self.name)

    @property
    def history(self) -> str:
        """The stream of outcomes."""
        return self.shard.history(self.name)

    @property
    def owner(self) -> str:
        """The key of the owner in order mode."""
        return self.shard.owner(self.name)

    @property
    def paused(self) -> str:
        """The key of the pause."""
        return self.shard.paused(self.name)

    @property
    def poison(self) -> str:
        """The key of the crash counts and marks of suspects."""
        return self.shard.poison(self.name)

    @property
    def replay(self) -> str:
        """The stream of replayed entries."""
        return self.shard.replay(self.name)

    @property
    def replays(self) -> str:
        """The key of the replay jobs."""
        return self.shard.replays(self.name)

    @property
    def retry(self) -> str:
        """The stream of due retries."""
        return self.shard.retry(self.name)

    @property
    def succeeded(self) -> str:
        """The key of the time of the latest successful call."""
        return self.shard.succeeded(self.name)
