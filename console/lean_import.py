"""Imports libraries without optional parts that they load if they are installed, and that nothing here uses.

redis-py loads OpenTelemetry for metrics: 0.17 s of a process's start and 3 MB of its memory. structlog loads rich for
tracebacks in colour: a fourteenth of the start of ingest and 4 MB of its memory.
"""

import importlib
import sys

UNUSED = {"redis.asyncio": "opentelemetry", "structlog": "rich"}
"""Libraries, and the optional part of each."""


def import_lean() -> None:
    """Import the libraries. A process calls this before any other module imports them."""
    for library, part in UNUSED.items():
        if part in sys.modules:
            continue
        sys.modules[part] = None  # type: ignore[assignment]  # Python's way to say that a module is not there
        try:
            importlib.import_module(library)
        finally:
            del sys.modules[part]
