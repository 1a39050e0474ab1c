"""Imports redis-py without the metrics of OpenTelemetry, which redis-py loads if they are installed.

Nothing here uses those metrics. They take 0.17 s of a process's start and 3 MB of its memory.
"""

import importlib
import sys

OPENTELEMETRY = "opentelemetry"


def import_redis() -> None:
    """Import redis-py. A process calls this before any other module imports it."""
    if OPENTELEMETRY in sys.modules:
        return
    sys.modules[OPENTELEMETRY] = None  # type: ignore[assignment]  # Python's way to say that a module is not there
    try:
        importlib.import_module("redis.asyncio")
    finally:
        del sys.modules[OPENTELEMETRY]
