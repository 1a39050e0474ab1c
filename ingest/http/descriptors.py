"""How many connections there can be: each is an open file, and a process may have only so many."""

import resource
from contextlib import suppress

RESERVED_FILES = 128  # for Redis, the spool, the admin port, the log


def room_for(connections: int) -> int:
    """Raise this process's limit of open files as far as so many connections need; return how many fit."""
    wanted = connections + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted:
        with suppress(ValueError, OSError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == unlimited else min(wanted, hard), hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections if soft == unlimited else max(1, min(connections, soft - RESERVED_FILES))
