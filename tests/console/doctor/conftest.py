from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.checkup import Installation, make_installation


@pytest.fixture
async def healthy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Redis, valkey_url: str, shard: Shard
) -> AsyncIterator[Installation]:
    """An installation without a fault."""
    async with make_installation(monkeypatch, tmp_path, server, valkey_url, shard) as made:
        yield made
