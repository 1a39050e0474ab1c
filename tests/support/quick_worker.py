"""Runs `ackstream ARGUMENTS` with every interval of a worker multiplied: `quick_worker.py FACTOR ARGUMENTS`."""

import functools
import sys

import worker.app
from console.__main__ import main
from worker.timing import TIMING

if __name__ == "__main__":
    timing = TIMING.scale(float(sys.argv.pop(1)))
    worker.app.serve = functools.partial(worker.app.serve, timing=timing)
    main()
