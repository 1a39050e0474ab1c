"""Detects entries that left the stream without being trimmed by a worker. No I/O.

The server counts the entries that were ever added. The script of the trimmer records every entry that it removes in the
loss account. Any other entry that left the stream is missing: an XTRIM or XDEL by hand, an eviction, a deleted stream,
or a server that restarted without its last entries. A group that had not settled such an entry has lost it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Account:
    """The loss account of a stream: its length, and how many entries were ever added and are gone."""

    length: int
    added: int
    gone: int


class LossDetector:
    """Compares a stream with its recorded loss account. Only one process at a time may do so; two would report twice.

    A loss is reported before it is recorded, so a failure in between does not hide it. If the process is killed in
    between, the next process reports the loss again.
    """

    def __init__(self) -> None:
        self._before: Account | None = None
        self._reported: tuple[Account | None, int] = None, 0
        """The recorded account of the last report, and how many entries were reported against it in all."""

    def count_missing(self, now: Account, recorded: Account | None) -> int:
        """Return the number of missing entries that were not reported before."""
        before, self._before = self._before, now
        missing = 0
        if recorded and now.added < recorded.added:  # the stream was created again
            missing = recorded.length
        elif recorded:
            missing = max(now.gone - recorded.gone, 0)
        if before and now.added < before.added:  # the server lost entries, and maybe the recorded account too
            missing = max(missing, min(before.added - now.added, before.length))
        account, reported = self._reported
        if account != recorded:
            reported = 0
        self._reported = recorded, max(missing, reported)
        return max(missing - reported, 0)

    def forget(self) -> None:
        """Forget the last comparison, because another process may take over."""
        self._before, self._reported = None, (None, 0)
