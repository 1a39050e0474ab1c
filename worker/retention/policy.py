"""Decides which entries to trim, and which groups block trimming, from a survey. No I/O."""

from collections.abc import Iterator
from dataclasses import dataclass

from stream.entry import EntryId
from worker.retention.ack_floor import GroupPosition, Survey

DEFAULT_BYTES = 1024**3
TOGETHER_MS = 3_600_000
TOGETHER_SHARE = 32


@dataclass(frozen=True, slots=True)
class Due:
    """The entries to trim: all before an entry, or at most ``entries`` of them, the oldest first."""

    before: EntryId
    entries: int | None


@dataclass(frozen=True, slots=True)
class OtherShards:
    """The shards that share the size of the stream with this one: those in use, and those that hold entries."""

    number: int = 0
    stream_bytes: int = 0


ALONE = OtherShards()


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """The age and size of the stream. ``most_bytes`` None means half of maxmemory, or 1 GiB without maxmemory.

    The size is that of all shards together; for half of maxmemory, of all shards on the same node. If they are too
    large, those with more than an equal part are trimmed.

    ``together`` collects enough entries for a file of the archive. Entries then stay for up to an hour longer, or for a
    24th of the age if that is less, and all old entries are trimmed at once. A stream that is too large is trimmed by a
    32nd at a time.
    """

    age_ms: int
    most_bytes: int | None
    together: bool

    def due(self, survey: Survey, others: OtherShards = ALONE) -> Due | None:
        """Return the entries to trim now, or None. An entry that a group has not settled is never trimmed."""
        first, floor, oldest = survey.first, survey.floor, self._oldest(survey)
        if first is None or floor is None or not first < floor:
            return None
        longer_ms = min(self.age_ms // 24, TOGETHER_MS) if self.together else 0
        if first.ms < oldest.ms - longer_ms:
            return Due(min(oldest, floor), None)
        excess = self._excess_bytes(survey, others)
        if excess <= 0:
            return None
        excess += self._most_bytes(survey, others) // TOGETHER_SHARE if self.together else 0
        return Due(floor, -(-survey.length * excess // survey.stream_bytes))

    def find_blocking_groups(self, survey: Survey, others: OtherShards = ALONE) -> Iterator[GroupPosition]:
        """Yield the groups that block trimming: with entries that are too old, or the first of a too large stream."""
        first, oldest, large = survey.first, self._oldest(survey), self.is_too_large(survey, others)
        if first is None:
            return
        for group in survey.groups:
            blocks = (large and not first < group.floor) or (first < oldest and group.floor < oldest)
            if blocks and group.count_unsettled(survey.length):
                yield group

    def is_too_large(self, survey: Survey, others: OtherShards = ALONE) -> bool:
        """Whether this shard has more bytes than an equal part, and all shards together have too many."""
        return self._excess_bytes(survey, others) > 0

    def _oldest(self, survey: Survey) -> EntryId:
        """Return the id of an entry of exactly the greatest age."""
        return EntryId(survey.shard, max(survey.now_ms - self.age_ms, 0), 0)

    def _most_bytes(self, survey: Survey, others: OtherShards) -> int:
        """Return the most bytes of this shard: an equal part, or more if the others have less."""
        total = self.most_bytes or survey.maxmemory // 2 or DEFAULT_BYTES
        return max(total // (1 + others.number), total - others.stream_bytes)

    def _excess_bytes(self, survey: Survey, others: OtherShards) -> int:
        return survey.stream_bytes - self._most_bytes(survey, others)
