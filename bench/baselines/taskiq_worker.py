"""Baseline: a taskiq task that does nothing; its worker reads a stream in a consumer group.

``taskiq worker bench.baselines.taskiq_worker:broker --workers 1`` starts it; REDIS_URL names the server. Everything
else is taskiq's default.
"""

import os
from collections.abc import Iterable
from typing import Any

import orjson
from taskiq import TaskiqMessage
from taskiq_redis import RedisStreamBroker

STREAM = "bench:tasks"
GROUP = "idle"
COMMAND = ("taskiq", "worker", f"{__name__}:broker", "--workers", "1")

broker = RedisStreamBroker(
    os.environ.get("REDIS_URL", "redis://127.0.0.1"), queue_name=STREAM, consumer_group_name=GROUP
)


@broker.task("nothing")
async def ignore(_status: dict[str, Any]) -> None:
    """Do nothing."""


def encode_messages(payloads: Iterable[bytes]) -> list[dict[bytes, bytes]]:
    """Return the entries that taskiq's own client would append for these statuses."""
    return [{b"data": _message(number, orjson.loads(payload))} for number, payload in enumerate(payloads)]


def _message(number: int, status: dict[str, Any]) -> bytes:
    message = TaskiqMessage(task_id=f"{number:032}", task_name="nothing", labels={}, args=[status], kwargs={})
    return broker.formatter.dumps(message).message
