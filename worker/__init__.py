"""The processing side: reads entries in consumer groups, parses them, hands events to handlers, settles last.

Whoever writes a handler imports from here what it is given and what it may raise.
"""

from worker.events.event import StatusEvent
from worker.handlers.errors import Discard, Retry, Unavailable

__all__ = ["Discard", "Retry", "StatusEvent", "Unavailable"]
