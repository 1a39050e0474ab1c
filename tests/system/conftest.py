"""The workers of tests that harm their Redis server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stream.keys import Shard
from tests.support.processes import Valkey
from tests.support.workers.worker_cluster import WorkerCluster, run_worker_cluster


@pytest.fixture
async def work(own_valkey: Valkey, shard: Shard, tmp_path: Path) -> AsyncIterator[WorkerCluster]:
    """Work on a server that the test may harm, stored in SQLite."""
    async with run_worker_cluster(own_valkey.url, shard, f"sqlite:///{tmp_path / 'own.db'}", tmp_path) as work:
        yield work
