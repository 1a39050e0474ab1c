"""The public import for your code: events, and the errors that a handler can raise.

``from ackstream import StatusEvent, Discard, Retry, Unavailable``. `ackstream.testing` runs a handler in your tests.
"""

from worker.events.event import StatusEvent
from worker.handlers.errors import Discard, Retry, Unavailable

__all__ = ["Discard", "Retry", "StatusEvent", "Unavailable"]
