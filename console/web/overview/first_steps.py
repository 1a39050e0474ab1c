"""The steps until a new installation goes live. Each ticks itself when it is done."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from console.web.route import Json
from console.web.sampling.snapshot import Snapshot
from console.web.settings import ConsoleSettings
from stream.keys import Shard

INCLUDED = frozenset(("store", "log"))
"""Groups that run without a setting."""


def is_first_run(latest: Snapshot) -> bool:
    """Whether no webhook has ever arrived."""
    return latest.redis.stored == 0 and not latest.spooled


async def list_steps(latest: Snapshot, settings: ConsoleSettings, server: Redis, shards: Sequence[Shard]) -> list[Json]:
    """Return the steps in their order. ``done`` of a step that nobody can know is None. Raises RedisError."""
    has_webhook = not is_first_run(latest) and latest.redis.stored is not None
    return [
        {"name": "start", "done": True},
        {"name": "webhook", "done": has_webhook},
        {"name": "signatures", "done": has_webhook and await _is_signed(server, shards)},
        {
            "name": "handler",
            "done": any(row.registered and name not in INCLUDED for name, row in latest.groups.items()),
        },
        {"name": "alert", "done": any(process.read_at is not None for process in latest.ingest)},
        {"name": "retention", "done": bool({"retention", "retention_bytes"} & settings.model_fields_set)},
    ]


async def _is_signed(server: Redis, shards: Sequence[Shard]) -> bool:
    """Whether the newest webhook of each shard that has one had a valid signature."""
    replies: list[Any] = [await server.xrevrange(shard.stream, count=1) for shard in shards]
    newest = [entries[0][1] for entries in replies if entries]
    return bool(newest) and all(fields.get(b"verified", b"none") != b"none" for fields in newest)
