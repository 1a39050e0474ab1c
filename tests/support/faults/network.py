"""Faults of the network before a server, made by a proxy."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.servers.proxy import Proxy

NETWORK_FAULTS = ("freeze", "cut", "swallow", "delay")
"""Nothing passes; connections are reset and refused; replies are dropped; each piece is late."""


@contextmanager
def disturb(proxy: Proxy, fault: str, delay_seconds: float = 0.0) -> Iterator[None]:
    """Disturb the connections of the proxy by one of NETWORK_FAULTS."""
    match fault:
        case "freeze":
            proxy.freeze()
        case "cut":
            proxy.refuses = True
            proxy.cut()
        case "swallow":
            proxy.swallows_replies = True
        case "delay":
            proxy.delay_seconds = delay_seconds
    try:
        yield
    finally:
        match fault:
            case "freeze":
                proxy.thaw()
            case "cut":
                proxy.refuses = False
            case "swallow":
                proxy.swallows_replies = False
            case "delay":
                proxy.delay_seconds = 0.0
