"""Faults of processes: by signal, and by the preloaded shim."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.preload.shim import Shim


@contextmanager
def freeze(*pids: int) -> Iterator[None]:
    """Stop processes where they are: their connections stay open, and nothing answers. A process may end before."""
    _send(signal.SIGSTOP, pids)
    try:
        yield
    finally:
        _send(signal.SIGCONT, pids)


def _send(number: signal.Signals, pids: tuple[int, ...]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def disturb_calls(shim: Shim | None, **orders: int) -> Iterator[None]:
    """Set these values of a process's shim (tests.support.preload.shim), and reset them to 0 at the end."""
    assert shim is not None, "needs the shim"
    shim.set(**orders)
    try:
        yield
    finally:
        shim.set(**dict.fromkeys(orders, 0))
