"""Baseline: a FastStream subscriber that reads a stream in a consumer group and does nothing with the messages.

``faststream run bench.baselines.faststream_subscriber:app`` starts it; REDIS_URL names the server. Everything else is
FastStream's default, so it logs each message unless BENCH_QUIET is set.
"""

import asyncio
import os
from collections.abc import Iterable
from typing import Any

import orjson
from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.parser import BinaryMessageFormatV1

STREAM = "bench:idle"
GROUP = "idle"
COMMAND = ("faststream", "run", f"{__name__}:app")

_logging: dict[str, Any] = {"logger": None} if os.environ.get("BENCH_QUIET") else {}

broker = RedisBroker(os.environ.get("REDIS_URL", "redis://127.0.0.1"), **_logging)
app = FastStream(broker, **_logging)


@broker.subscriber(stream=StreamSub(STREAM, group=GROUP, consumer="bench"))
async def ignore(_status: dict[str, Any]) -> None:
    """Do nothing."""


def encode_messages(payloads: Iterable[bytes]) -> list[dict[bytes, bytes]]:
    """Return the entries that FastStream's own publisher would append for these statuses."""
    return asyncio.run(_encode_messages(payloads))


async def _encode_messages(payloads: Iterable[bytes]) -> list[dict[bytes, bytes]]:
    return [
        {
            b"__data__": await BinaryMessageFormatV1.encode(
                message=orjson.loads(payload), reply_to=None, headers=None, correlation_id=f"{number:036}"
            )
        }
        for number, payload in enumerate(payloads)
    ]
