"""Classifies Redis's errors into kinds of faults.

After any fault a loop drops its in-flight entries without settling them, waits (runtime.tasks) and starts again, as
often as needed. A fault of Redis never ends a process and never settles an entry. The kinds differ in two points:
whether idle connections are still usable, and whether an operator has to act.
"""

import os
from dataclasses import dataclass

from redis.exceptions import AuthenticationError, AuthorizationError, InvalidResponse, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError


class Deposed(RedisConnectionError):  # noqa: N818 - named for what has happened
    """The server refuses writes, because it is not, or may not be, the primary. The text is Redis's error code.

    The text is empty if the sentinels named another primary.
    """


class PrimaryUnknown(RedisConnectionError):  # noqa: N818 - named for what has happened
    """No sentinel that answered in time names a primary, or no node of the cluster answered in time."""


class SlotMoved(RedisConnectionError):  # noqa: N818 - named for what has happened
    """Another node of the cluster has the slot of the key, or is about to get it. The command was not executed."""


class SlotDown(RedisConnectionError):  # noqa: N818 - named for what has happened
    """The cluster is down, or the slot of the key has no node."""


class GroupGone(RedisError):  # noqa: N818 - named for what has happened
    """The consumer group does not exist, or its last delivered id is beyond the end of the stream."""

    def __init__(self) -> None:
        super().__init__("NOGROUP")


class Stalled(RedisTimeoutError):  # noqa: N818 - named for what has happened
    """A wait for Redis does not end, although every command has a time limit."""


@dataclass(frozen=True, slots=True)
class RedisFault:
    """A kind of fault: its name in logs and metrics, and two phrases for the operator."""

    name: str
    meaning: str
    next_step: str
    connected: bool = True
    """Whether idle connections can still be used."""
    passing: bool = True
    """Whether it usually ends by itself. If not, an operator has to act, and it is logged as an error."""

    @property
    def sentence(self) -> str:
        """The meaning and the next step in one sentence, for a command's error."""
        return f"{self.meaning}: {self.next_step}"


AWAY = RedisFault(
    "away", "Redis is away", "start it (or `ackstream up`), or set ACKSTREAM_REDIS_URL to its address", connected=False
)
SILENT = RedisFault("silent", "Redis does not answer in time", "look at its load and at the network", connected=False)
STALLED = RedisFault(
    "stalled", "a read from Redis does not end", "look at its load and at the network", connected=False, passing=False
)
LOADING = RedisFault("loading", "Redis is loading its data", "wait until it has started", connected=False)
READ_ONLY = RedisFault(
    "read-only",
    "Redis is not the primary, or lacks replicas",
    "set ACKSTREAM_REDIS_URL to the primary, or give it its replicas back",
    connected=False,
)
NO_PRIMARY = RedisFault(
    "no-primary",
    "no sentinel names a primary, or no node of the cluster answers",
    "start them, and check the addresses, the service's name and sentinel_password in ACKSTREAM_REDIS_URL",
    connected=False,
)
MAX_CLIENTS = RedisFault("max-clients", "Redis has too many clients", "raise its maxclients", connected=False)
DENIED = RedisFault(
    "denied",
    "Redis denies this user",
    "check the user and the password in ACKSTREAM_REDIS_URL, and the user's rights (deploy/redis-users.acl)",
    connected=False,
    passing=False,
)
FULL = RedisFault("full", "Redis is out of memory", "give it more, or trim the stream", passing=False)
UNWRITABLE = RedisFault("unwritable", "Redis cannot write to its disk", "give it disk space", passing=False)
BUSY = RedisFault("busy", "Redis is busy with a script", "end it with SCRIPT KILL")
GONE = RedisFault("gone", "the stream or its group is gone; a worker creates it again", "nothing")
WRONG_TYPE = RedisFault(
    "wrong-type",
    "a key of the stream holds another type (WRONGTYPE)",
    "remove that key, which `ackstream doctor` names, or set ACKSTREAM_STREAM to another name",
    passing=False,
)
CLUSTER = RedisFault(
    "cluster",
    "Redis is a node of a cluster, and the URL is that of a single server",
    "set ACKSTREAM_REDIS_URL to redis+cluster://HOST:PORT,HOST:PORT",
    passing=False,
)
NO_CLUSTER = RedisFault(
    "no-cluster",
    "Redis has no cluster mode, and the URL is that of a cluster",
    "set ACKSTREAM_REDIS_URL to redis://HOST:PORT",
    passing=False,
)
MOVED = RedisFault(
    "moved",
    "a shard moves to another node of the cluster",
    "wait; if it stays, look at the slots: `redis-cli --cluster check`",
    connected=False,
)
SLOT_DOWN = RedisFault(
    "cluster-down",
    "the cluster is down, or the slot of a shard has no node",
    "start its nodes, and give the slot a node: `redis-cli --cluster fix`",
    connected=False,
)
FOREIGN = RedisFault(
    "foreign",
    "another service than Redis answers",
    "check host, port and scheme (rediss:// for TLS) of ACKSTREAM_REDIS_URL",
    connected=False,
    passing=False,
)
UNSUPPORTED = RedisFault(
    "unsupported",
    "Redis lacks a command, or this user may not run COMMAND INFO",
    "use Redis 7.0, Valkey 8, or later, and allow +command|info",
    passing=False,
)
UNKNOWN = RedisFault("unknown", "Redis returns an unknown error", "report it with the error's code", passing=False)

_BY_CODE = {
    "LOADING": LOADING,
    "READONLY": READ_ONLY,
    "MASTERDOWN": READ_ONLY,
    "NOREPLICAS": READ_ONLY,
    "UNBLOCKED": GONE,  # the stream was deleted during BLOCK, or the server was deposed (then READONLY follows)
    "NOGROUP": GONE,
    "NOAUTH": DENIED,
    "NOPERM": DENIED,
    "WRONGPASS": DENIED,
    "OOM": FULL,
    "MISCONF": UNWRITABLE,
    "BUSY": BUSY,
    "EXECABORT": BUSY,
    "WRONGTYPE": WRONG_TYPE,
    "MOVED": CLUSTER,
    "ASK": CLUSTER,
    "CROSSSLOT": CLUSTER,
    "CLUSTERDOWN": CLUSTER,
    "TRYAGAIN": CLUSTER,
}

_BY_TEXT = {
    "no such key": GONE,
    "cluster support disabled": NO_CLUSTER,
    "max number of clients reached": MAX_CLIENTS,
    "ACL failure in script": DENIED,
}

_BY_CLASS: tuple[tuple[tuple[type[Exception], ...], RedisFault], ...] = (
    ((SlotMoved,), MOVED),
    ((SlotDown,), SLOT_DOWN),
    ((PrimaryUnknown,), NO_PRIMARY),
    ((Deposed,), READ_ONLY),
    ((Stalled,), STALLED),
    ((AuthenticationError, AuthorizationError), DENIED),
    ((InvalidResponse,), FOREIGN),
    ((RedisTimeoutError,), SILENT),
    ((RedisConnectionError,), AWAY),
)


def identify_fault(exc: BaseException) -> RedisFault:
    """Return the kind of fault behind an error that a client of `stream.redis` raised."""
    by_text = (fault for text, fault in _BY_TEXT.items() if text in str(exc))
    by_class = (fault for classes, fault in _BY_CLASS if isinstance(exc, classes))
    return _BY_CODE.get(error_code(exc)) or next(by_text, None) or next(by_class, UNKNOWN)


def is_denied(exc: BaseException) -> bool:
    """Whether the server denies the command to this user, or lacks it. A busy server says nothing about rights."""
    return identify_fault(exc) in (DENIED, UNKNOWN)


def error_code(exc: BaseException) -> str:
    """Return the code of Redis's error reply, such as OOM; an empty string for any other error."""
    if not isinstance(exc, RedisError):
        return ""
    first = str(exc).partition(" ")[0]
    return exc.status_code or (first if first.isupper() and first.isalpha() else "")


def quote_reason(exc: BaseException) -> str:
    """Return why a command failed: Redis's error reply, else the operating system's reason, else the error's text."""
    error: BaseException | None = exc
    while error is not None:
        if code := error_code(error):
            text = str(error)
            return text if text.startswith(code) else f"{code} {text}"
        if isinstance(error, OSError) and error.errno:
            return os.strerror(error.errno)
        error = error.__cause__ or error.__context__
    return str(exc).rstrip(".") or identify_fault(exc).meaning
