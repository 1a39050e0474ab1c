"""The rig's end of the judge: the process, started and asked."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from tests.chaos import judge
from tests.chaos.judge import Case, Ending
from tests.chaos.provider import Tally
from tests.chaos.site import STREAM, Cluster
from tests.chaos.verdict import Verdict

ANSWER_BYTES = 1024 * 1024


class JudgeEnded(Exception):  # noqa: N818 - named for what happened
    """The judge is no more: what it was to say is unknown, and the sitting is void."""


class Court:
    """Asks the judge, one thing at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def is_there(self) -> None:
        await self._answer()

    async def load(self, number: int, count: int, rate: float, seed: str) -> Tally:
        return Tally(**await self._ask(act="load", number=number, count=count, rate=rate, seed=seed))

    async def end(self, number: int, drain_seconds: float = judge.DRAIN_SECONDS) -> Ending:
        said = await self._ask(act="end", number=number, drain_seconds=drain_seconds)
        return Ending(**{**said, "verdict": Verdict(**said["verdict"])})

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
            raise JudgeEnded(f"the judge ended with {await self._process.wait()}, see judge.log")
        return orjson.loads(line)


@asynccontextmanager
async def sitting(site: Cluster, folder: Path) -> AsyncIterator[Court]:
    """Have a judge for the site for the length of the block."""
    case = Case(
        redis_url=site.redis_url,
        stream=STREAM,
        database_url=site.database_url,
        ingest_urls=site.ingest_urls,
        ingest_admin_urls=site.ingest_admin_urls,
        ingest_data=str(site.ingest_data),
        output=str(folder),
        ledger=str(folder / "acked.txt"),
    )
    with (folder / "judge.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", judge.__name__, orjson.dumps(case).decode()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=ANSWER_BYTES,
            start_new_session=True,
        )
    court = Court(process)
    try:
        await court.is_there()
        yield court
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
