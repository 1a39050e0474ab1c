"""The limit of open files, which limits the number of connections."""

import resource
from contextlib import suppress

RESERVED_FILES = 128  # for Redis, the spool, the admin port, the log


def raise_fd_limit(connections: int) -> int:
    """Raise the process's limit of open files for this many connections; return how many fit."""
    needed = connections + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < needed:
        with suppress(ValueError, OSError):  # some systems allow less than the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed if hard == unlimited else min(needed, hard), hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections if soft == unlimited else max(1, min(connections, soft - RESERVED_FILES))
