"""Runs ``ackstream ARGUMENTS`` with every interval of a worker a hundred times as long.

A counted process is slow, so that heartbeats and the like would be a part of the work of each event.
"""

import functools

import worker.app
from console.__main__ import main
from worker.timing import TIMING

FACTOR = 100

if __name__ == "__main__":
    worker.app.serve = functools.partial(worker.app.serve, timing=TIMING.scale(FACTOR))
    main()
