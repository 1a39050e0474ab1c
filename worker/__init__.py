"""The processing side: reads entries in consumer groups, parses them, hands events to handlers, settles last.

Whoever writes a handler imports from here what it is given and what it may raise.
"""

from worker.outcome import Discard, Retry, Unavailable
from worker.status import StatusEvent

__all__ = ["Discard", "Retry", "StatusEvent", "Unavailable"]
