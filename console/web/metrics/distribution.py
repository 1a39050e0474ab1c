"""Durations by bucket, with quantiles. No I/O."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Distribution:
    """Counts of durations by bucket. ``bounds`` are the upper limits in seconds; the last bucket has none."""

    bounds: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()
    """One more than ``bounds``; not cumulative."""
    total_seconds: float = 0.0

    @property
    def count(self) -> float:
        """The number of durations."""
        return sum(self.counts)

    def plus(self, later: "Distribution") -> "Distribution":
        """Return the durations of both; those of the later one if a process of another version has other buckets."""
        if self.bounds != later.bounds:
            return later if later.counts else self
        counts = tuple(map(sum, zip(self.counts, later.counts, strict=True)))
        return Distribution(self.bounds, counts, self.total_seconds + later.total_seconds)

    def times(self, share: float) -> "Distribution":
        """Return a share of each count."""
        return Distribution(self.bounds, tuple(count * share for count in self.counts), self.total_seconds * share)

    def quantile(self, share: float) -> float | None:
        """Return the duration below which this share lies, linear within its bucket; None without durations.

        A duration in the last bucket counts as the greatest bound.
        """
        rank, below, lower = share * self.count, 0.0, 0.0
        if not self.count:
            return None
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and below + count >= rank:
                return lower + (bound - lower) * (rank - below) / count
            below, lower = below + count, bound
        return lower
