"""Imports libraries without parts that they load, and that nothing here uses.

redis-py loads OpenTelemetry for metrics, if it is installed: 0.17 s of a process's start and 3 MB of its memory.
structlog loads rich for tracebacks in colour, a fourteenth of the start of ingest and 4 MB of its memory, and greenlet,
1 MB. aiohttp reads the system's certificates twice for its client: a fifth of the start of ingest and 1 MB.
"""

import importlib
import os
import sys

UNUSED = {"redis.asyncio": {"opentelemetry"}, "structlog": {"greenlet", "rich"}}
"""Libraries, and the optional parts of each."""
CERTIFICATES = "SSL_CERT_FILE"
"""OpenSSL's variable with the file of the certificates to trust."""


def import_lean() -> None:
    """Import the libraries. A process calls this before any other module imports them."""
    for library, parts in UNUSED.items():
        absent = dict.fromkeys(parts - sys.modules.keys())
        sys.modules.update(absent)  # type: ignore[arg-type]  # None: Python's way to say that a module is not there
        try:
            importlib.import_module(library)
        finally:
            for part in absent:
                del sys.modules[part]


def import_http_server() -> None:
    """Import aiohttp for a process without an HTTP client: aiohttp's client then trusts no server.

    Other connections with TLS are not affected, because they read the certificates later.
    """
    before = os.environ.get(CERTIFICATES)
    os.environ[CERTIFICATES] = os.devnull
    try:
        importlib.import_module("aiohttp")
    finally:
        del os.environ[CERTIFICATES]
        if before is not None:
            os.environ[CERTIFICATES] = before
