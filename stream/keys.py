"""The names of all keys in Redis.

The number of the shard is the hash tag of its keys, so all of them are on one node of a cluster and a script may use
several of them. The stream itself is ``<name>:{i}``, by default ``vonage:status:{0}``.
"""

from dataclasses import dataclass

DEFAULT_STREAM = "vonage:status"
MOST_SHARDS = 64


@dataclass(frozen=True, slots=True)
class Shard:
    """One stream and the keys that belong to it."""

    name: str = DEFAULT_STREAM
    number: int = 0

    @property
    def stream(self) -> str:
        """The stream that ingest appends to and every group reads."""
        return f"{self.name}:{{{self.number}}}"

    @property
    def groups(self) -> str:
        """A set: the groups that are registered, whether or not they exist on the server right now."""
        return f"{self.stream}:groups"

    @property
    def server_id(self) -> str:
        """A string: a random id of the server, written once (stream.server_id)."""
        return f"{self.stream}:server"

    @property
    def layout(self) -> str:
        """A string, on shard 0 only: how many shards are in use and known, and the last change (stream.layout)."""
        return f"{self.stream}:shards"

    @property
    def trimmer(self) -> str:
        """A string: which process trims the stream right now (worker.group.lease)."""
        return f"{self.stream}:trimmer"

    def cleaning(self, kind: str) -> str:
        """A string: which process removes old records of this kind right now (worker.retention.cleaner)."""
        return f"{self.stream}:cleaning:{kind}"

    @property
    def removed(self) -> str:
        """A hash: the loss account, how many entries were added and removed (worker.retention.loss_detector)."""
        return f"{self.stream}:removed"

    def alive(self, group: str) -> str:
        """A hash: consumer → heartbeat counter (worker.group.heartbeat)."""
        return f"{self.stream}:alive:{group}"

    def checkpoint(self, group: str) -> str:
        """A string: an id up to which the group has settled everything (worker.group.consumer_group)."""
        return f"{self.stream}:checkpoint:{group}"

    def retry(self, group: str) -> str:
        """A stream: copies due for another attempt, which workers read like live entries (worker.settle.delayed)."""
        return f"{self.stream}:retry:{group}"

    def replay(self, group: str) -> str:
        """A stream: copies of entries that a replay gives the group again, which workers read like live entries."""
        return f"{self.stream}:replay:{group}"

    def replays(self, group: str) -> str:
        """A hash: the group's replays, each with its scope and progress (worker.replay.repository)."""
        return f"{self.stream}:replays:{group}"

    def copying(self, group: str, replay: str) -> str:
        """A string: which process copies for this replay right now (worker.group.lease)."""
        return f"{self.stream}:copying:{group}:{replay}"

    def delayed(self, group: str) -> str:
        """A sorted set: packed copies that wait for another attempt, by the moment at which they are due, in ms."""
        return f"{self.stream}:delayed:{group}"

    def succeeded(self, group: str) -> str:
        """A string: the start of the latest call of the group that succeeded, in ms (worker.settle.settler)."""
        return f"{self.stream}:succeeded:{group}"

    def history(self, group: str) -> str:
        """A stream of bounded length: outcomes of entries that were not handled at their first attempt."""
        return f"{self.stream}:history:{group}"

    def owner(self, group: str) -> str:
        """A string, in order mode: the consumer that handles the shard for the group (worker.order.ownership)."""
        return f"{self.stream}:owner:{group}"

    def paused(self, group: str) -> str:
        """A hash, while the group is paused: why, since when, and when it is tried again (worker.dispatch.pause)."""
        return f"{self.stream}:paused:{group}"

    def handled(self, group: str) -> str:
        """A sorted set: marks of the events that the group handled last (worker.settle.dedup)."""
        return f"{self.stream}:handled:{group}"

    def poison(self, group: str) -> str:
        """A hash: entries whose workers died, and the entries that each worker has marked (worker.group.poison)."""
        return f"{self.stream}:poison:{group}"

    def dead(self, group: str) -> str:
        """A stream: the group's dead letters (worker.settle.settler)."""
        return f"{self.stream}:dead:{group}"

    @property
    def invalid(self) -> str:
        """A stream of bounded size: invalid payloads without a verified signature (worker.settle.invalid)."""
        return f"{self.stream}:invalid"

    @property
    def invalid_ids(self) -> str:
        """A sorted set: ids of entries whose payload was recorded as invalid; the last ones (worker.settle.invalid)."""
        return f"{self.stream}:invalid:ids"

    @property
    def invalid_totals(self) -> str:
        """A hash: the bytes of that record, and how many were recorded, dropped, discarded and replayed."""
        return f"{self.stream}:invalid:totals"

    @property
    def quarantine(self) -> str:
        """A stream: the latest payloads that ingest rejected for a wrong signature (ingest.auth.quarantine)."""
        return f"{self.stream}:quarantine"

    @property
    def quarantine_index(self) -> str:
        """A hash: hashes of the payloads in the quarantine, and how many entries each budget has."""
        return f"{self.quarantine}:index"

    def progress(self, group: str) -> tuple[str, ...]:
        """Return the keys of the group's progress: all of its keys except the dead letters."""
        kinds = (
            self.alive,
            self.checkpoint,
            self.delayed,
            self.handled,
            self.history,
            self.owner,
            self.paused,
            self.replay,
            self.replays,
            self.retry,
            self.poison,
            self.succeeded,
        )
        return tuple(key(group) for key in kinds)
