"""Shares, comparisons and the chart of the time to delivery, for the statuses page. No I/O."""
