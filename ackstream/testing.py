"""Run your handlers in tests, without Redis: see `worker.testing`, whose functions these are."""

from worker.testing import DISPATCH, RECEIPT, STATUSES, Outcome, event, event_of, payload, run

__all__ = ["DISPATCH", "RECEIPT", "STATUSES", "Outcome", "event", "event_of", "payload", "run"]
