"""Starts the checker process and sends it requests."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from tests.chaos.checker.analysis import Analysis
from tests.chaos.checker.checker import DRAIN_SECONDS, CheckerSettings, LoadResult
from tests.chaos.checker.provider import LoadTally
from tests.chaos.cluster.cluster import STREAM, Cluster

ANSWER_BYTES = 1024 * 1024


class CheckerEnded(Exception):  # noqa: N818 - named for what happened
    """The checker process has ended, so the run has no result."""


class CheckerClient:
    """Sends requests to the checker, one at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def wait_until_started(self) -> None:
        await self._answer()

    async def load(self, number: int, count: int, rate: float, seed: str) -> LoadTally:
        return LoadTally(**await self._ask(act="load", number=number, count=count, rate=rate, seed=seed))

    async def end(self, number: int, drain_seconds: float = DRAIN_SECONDS) -> LoadResult:
        reply = await self._ask(act="end", number=number, drain_seconds=drain_seconds)
        return LoadResult(**{**reply, "analysis": Analysis(**reply["analysis"])})

    async def forge(self, number: int) -> str:
        return str(await self._ask(act="forge", number=number))

    async def _ask(self, **asked: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(asked) + b"\n")
        return await self._answer()

    async def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise CheckerEnded(f"the checker ended with {await self._process.wait()}, see checker.log")
        return orjson.loads(line)


@asynccontextmanager
async def run_checker(cluster: Cluster, folder: Path) -> AsyncIterator[CheckerClient]:
    """Run a checker for this cluster during the block."""
    case = CheckerSettings(
        redis_url=cluster.redis_url,
        stream=STREAM,
        shards=len(cluster.shards),
        database_url=cluster.database_url,
        ingest_urls=cluster.ingest_urls,
        ingest_admin_urls=cluster.ingest_admin_urls,
        ingest_data=str(cluster.ingest_data),
        output=str(folder),
        history=str(folder / "acked.txt"),
    )
    with (folder / "checker.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.checker.checker", orjson.dumps(case).decode()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=ANSWER_BYTES,
            start_new_session=True,
        )
    checker = CheckerClient(process)
    try:
        await checker.wait_until_started()
        yield checker
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
