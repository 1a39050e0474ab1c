"""Run your handlers in tests, without Redis. The functions are those of `worker.testing`."""

from worker.testing import DISPATCH, RECEIPT, STATUSES, Outcome, event, event_of, payload, run

__all__ = ["DISPATCH", "RECEIPT", "STATUSES", "Outcome", "event", "event_of", "payload", "run"]
