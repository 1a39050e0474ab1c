"""The event loop of the tests."""

import asyncio
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests on the loop that the services run on.

    asyncio's own loop has a fault in Python 3.12, 3.13.0 to 3.13.9 and 3.14.0. A write to a connection that has just
    been lost raises AttributeError or TypeError, or leaves its descriptor registered; the next socket that gets the
    number then waits forever: https://github.com/python/cpython/issues/136234.
    """
    return {"uvloop": uvloop.new_event_loop}
