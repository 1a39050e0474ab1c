"""What may go from a stream, and which groups keep what should have gone; decided from a survey, without I/O."""

from collections.abc import Iterator
from dataclasses import dataclass

from stream.entry import EntryId
from worker.retention.ack_floor import GroupPosition, Survey

DEFAULT_BYTES = 1024**3
TOGETHER_MS = 3_600_000
TOGETHER_SHARE = 32


@dataclass(frozen=True, slots=True)
class Due:
    """What goes: all that is before an entry, or so many entries of it, the oldest first."""

    before: EntryId
    entries: int | None


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long and how much is kept: ``most_bytes`` None is half of the server's memory, 1 GiB if that has no limit.

    ``together``: what goes shall be worth a file. Entries stay for up to an hour more, a 24th of the age if that is
    less, and then all go that are too old; of a stream that is too large a 32nd goes at a time.
    """

    age_ms: int
    most_bytes: int | None
    together: bool

    def due(self, survey: Survey) -> Due | None:
        """Return what goes now; None if nothing does. What a group still needs never does."""
        first, floor, oldest = survey.first, survey.floor, self._oldest(survey)
        if first is None or floor is None or not first < floor:
            return None
        longer_ms = min(self.age_ms // 24, TOGETHER_MS) if self.together else 0
        if first.ms < oldest.ms - longer_ms:
            return Due(min(oldest, floor), None)
        excess = self._excess_bytes(survey)
        if excess <= 0:
            return None
        excess += self._most_bytes(survey) // TOGETHER_SHARE if self.together else 0
        return Due(floor, -(-survey.length * excess // survey.stream_bytes))

    def find_blocking_groups(self, survey: Survey) -> Iterator[GroupPosition]:
        """Yield the groups that keep entries which are too old, or the first ones of a stream that is too large."""
        first, oldest, large = survey.first, self._oldest(survey), self._excess_bytes(survey) > 0
        if first is None:
            return
        for group in survey.groups:
            keeps = (large and not first < group.floor) or (first < oldest and group.floor < oldest)
            if keeps and group.count_unsettled(survey.length):
                yield group

    def _oldest(self, survey: Survey) -> EntryId:
        """Return the id that an entry of just the greatest age would have."""
        return EntryId(survey.shard, max(survey.now_ms - self.age_ms, 0), 0)

    def _most_bytes(self, survey: Survey) -> int:
        return self.most_bytes or survey.maxmemory // 2 or DEFAULT_BYTES

    def _excess_bytes(self, survey: Survey) -> int:
        return survey.stream_bytes - self._most_bytes(survey)
