"""Append live entries at a fixed rate; the handler ``note`` writes down how long each took to arrive.

``python -m bench.load.live_entries URL RATE SECONDS`` appends them; each payload holds the time it was sent.
"""

import os
import sys
import time
from pathlib import Path

import orjson
from redis import Redis

from bench.rig.statuses import entries
from stream.keys import Shard
from worker import StatusEvent

NOTES = Path("live.txt")
SENT = "sent-"
FAILS = "fails-"
TICK_SECONDS = 0.001
HANDLER = f"{__name__}:note"


def append(url: str, rate: float, seconds: float) -> None:
    """Append ``rate`` entries a second for ``seconds``, each when it is due."""
    server, stream = Redis.from_url(url, protocol=2), Shard().stream
    began, number, sent = time.monotonic(), int(rate * seconds), 0
    while sent < number:
        due = min(int((time.monotonic() - began) * rate) + 1, number)
        with server.pipeline(transaction=False) as pipe:
            for _ in range(due - sent):
                pipe.xadd(stream, _fields())  # type: ignore[arg-type]  # redis-py's are invariant
            pipe.execute()
        sent = due
        time.sleep(max(began + sent / rate - time.monotonic(), TICK_SECONDS))
    server.close()


async def note(event: StatusEvent) -> None:
    """Write down the milliseconds that a live event took; replayed events are ignored. Some events always fail."""
    if event.message_uuid.startswith(FAILS):
        raise ValueError
    if event.message_uuid.startswith(SENT) and not event.replayed:
        took_ms = (time.time_ns() - int(event.message_uuid.removeprefix(SENT))) / 1e6
        os.write(_notes(), b"%.3f\n" % took_ms)


def taken_ms(folder: Path) -> list[float]:
    """Return the times recorded in this folder since the last call, sorted."""
    file = folder / NOTES
    times = sorted(map(float, file.read_text().split()))
    os.truncate(file, 0)
    return times


def _fields() -> dict[bytes, bytes]:
    payload = orjson.dumps(
        {"message_uuid": f"{SENT}{time.time_ns()}", "to": "447700900000", "from": "447700900001", "channel": "sms"}
        | {"timestamp": "2025-02-03T12:14:25Z", "status": "delivered"}
    )
    return next(entries([payload]))._replace(received_ms=time.time_ns() // 1_000_000).to_fields()


_opened: list[int] = []


def _notes() -> int:
    if not _opened:
        _opened.append(os.open(NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    return _opened[0]


if __name__ == "__main__":
    append(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
