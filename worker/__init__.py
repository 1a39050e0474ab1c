"""The processing side: reads entries in consumer groups, parses them, calls handlers, settles last.

A handler imports from here its argument, `StatusEvent`, and the exceptions that it may raise.
"""

from worker.events.event import StatusEvent
from worker.handlers.errors import Discard, Retry, Unavailable

__all__ = ["Discard", "Retry", "StatusEvent", "Unavailable"]
