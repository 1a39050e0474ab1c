"""Loss detection: every entry that has left the stream is accounted for, or it is missing. No I/O.

The server counts the entries that were ever added. An entry that is no longer there was removed by the trimmer, which
records it in the ledger in the same script, or otherwise: an XTRIM or XDEL by hand, an eviction, a deleted stream, a
server that came back without its last entries. A group that had not settled such an entry has lost it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Account:
    """The entries of a stream at one moment: how many it has, how many were ever added, how many are gone by now."""

    length: int
    added: int
    gone: int


class LossDetector:
    """Compares a stream with its ledger. Only one process at a time may do so, or an entry is reported twice.

    A loss is reported before it is recorded, so no failure in between hides it. A process that is killed in between
    leaves the report to the next one, which makes it again.
    """

    def __init__(self) -> None:
        self._before: Account | None = None
        self._reported: tuple[Account | None, int] = None, 0
        """The ledger that the last report was made against, and what was reported against it in all."""

    def count_missing(self, now: Account, recorded: Account | None) -> int:
        """Return how many entries are missing that have not been reported yet."""
        before, self._before = self._before, now
        missing = 0
        if recorded and now.added < recorded.added:  # the stream was made again
            missing = recorded.length
        elif recorded:
            missing = max(now.gone - recorded.gone, 0)
        if before and now.added < before.added:  # the server has forgotten entries, perhaps together with the ledger
            missing = max(missing, min(before.added - now.added, before.length))
        ledger, reported = self._reported
        if ledger != recorded:
            reported = 0
        self._reported = recorded, max(missing, reported)
        return max(missing - reported, 0)

    def forget(self) -> None:
        """Start again: another process may look from now on."""
        self._before, self._reported = None, (None, 0)
