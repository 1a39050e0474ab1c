"""What Redis's errors mean for a loop that works with it: each kind is judged here, once.

Whatever the trouble, a loop drops what it has in hand unsettled, waits (stream.backoff) and begins again from the
start, for as long as it takes: no trouble with Redis ends a process, acks an entry or gives one up. What differs is
whether connections can still be trusted, and whether somebody has to act.
"""

from dataclasses import dataclass

from redis.exceptions import AuthenticationError, AuthorizationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError


class Deposed(RedisConnectionError):  # noqa: N818 - named for what has happened
    """The server takes no writes, for it is no primary or not sure to be one: its answer's code is the text.

    Without a text: the sentinels name another.
    """


class PrimaryUnknown(RedisConnectionError):  # noqa: N818 - likewise
    """No sentinel that answered in time names a primary."""


class GroupGone(RedisError):  # noqa: N818 - likewise
    """The group is missing, or stands where it would read nothing."""

    def __init__(self) -> None:
        super().__init__("NOGROUP")


class Stalled(TimeoutError):  # noqa: N818 - likewise
    """What waits for Redis does not end, although every command has its limit."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A kind of trouble: its name in logs and metrics, and what it means, in words for whoever looks."""

    name: str
    meaning: str
    connected: bool = True
    """Whether idle connections can still be used."""
    passing: bool = True
    """Whether it usually ends by itself; else somebody has to act, and it is logged as an error."""


AWAY = Trouble("away", "Redis is away", connected=False)
SILENT = Trouble("silent", "Redis does not answer", connected=False)
STALLED = Trouble("stalled", "a read from Redis does not end", connected=False, passing=False)
LOADING = Trouble("loading", "Redis is loading its data", connected=False)
DEPOSED = Trouble("deposed", "Redis is not the primary, or lacks replicas", connected=False)
LEADERLESS = Trouble("leaderless", "no sentinel names a primary", connected=False)
CROWDED = Trouble("crowded", "Redis has too many clients", connected=False)
DENIED = Trouble("denied", "Redis denies this user: check the password and the rights", connected=False, passing=False)
FULL = Trouble("full", "Redis is out of memory", passing=False)
UNWRITABLE = Trouble("unwritable", "Redis cannot write to its disk", passing=False)
BUSY = Trouble("busy", "Redis is busy with somebody's script")
GONE = Trouble("gone", "the stream or its group is gone, and is made again")
MISTAKEN = Trouble("mistaken", "a key of the stream holds something else (WRONGTYPE): remove it", passing=False)
CLUSTERED = Trouble("clustered", "Redis is a node of a cluster, which is not supported", passing=False)
UNFIT = Trouble("unfit", "Redis lacks a command, or does not let this user ask (COMMAND INFO)", passing=False)
UNKNOWN = Trouble("unknown", "Redis gives an error that is not known", passing=False)

_BY_CODE = {
    "LOADING": LOADING,
    "READONLY": DEPOSED,
    "MASTERDOWN": DEPOSED,
    "NOREPLICAS": DEPOSED,
    "UNBLOCKED": GONE,  # the stream was deleted during BLOCK, or (then READONLY follows) the server deposed
    "NOGROUP": GONE,
    "NOAUTH": DENIED,
    "NOPERM": DENIED,
    "WRONGPASS": DENIED,
    "OOM": FULL,
    "MISCONF": UNWRITABLE,
    "BUSY": BUSY,
    "EXECABORT": BUSY,
    "WRONGTYPE": MISTAKEN,
    "MOVED": CLUSTERED,
    "ASK": CLUSTERED,
    "CROSSSLOT": CLUSTERED,
    "CLUSTERDOWN": CLUSTERED,
    "TRYAGAIN": CLUSTERED,
}

_BY_TEXT = {"no such key": GONE, "max number of clients reached": CROWDED}

_BY_CLASS: tuple[tuple[tuple[type[Exception], ...], Trouble], ...] = (
    ((PrimaryUnknown,), LEADERLESS),
    ((Deposed,), DEPOSED),
    ((Stalled,), STALLED),
    ((AuthenticationError, AuthorizationError), DENIED),
    ((RedisTimeoutError, TimeoutError), SILENT),
    ((RedisConnectionError, OSError), AWAY),
)


def trouble(exc: BaseException) -> Trouble:
    """Judge an error that redis-py or a socket raised."""
    by_text = (known for text, known in _BY_TEXT.items() if text in str(exc))
    by_class = (known for classes, known in _BY_CLASS if isinstance(exc, classes))
    return _BY_CODE.get(code(exc)) or next(by_text, None) or next(by_class, UNKNOWN)


def code(exc: BaseException) -> str:
    """Return the code of Redis's error reply, such as OOM; empty if the error is none."""
    if not isinstance(exc, RedisError):
        return ""
    first = str(exc).partition(" ")[0]
    return exc.status_code or (first if first.isupper() and first.isalpha() else "")
