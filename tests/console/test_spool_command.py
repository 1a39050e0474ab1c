"""`ackstream spool`: what an operator sees of the spool, and how entries of another server are drained."""

import subprocess
from asyncio import to_thread
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from stream.keys import Shard
from tests.ingest.spool.test_spool import OWNER
from tests.ingest.spool.test_spool_owner import leave
from tests.support.faults.redis_outages import away_redis, sending
from tests.support.processes import Ingest, run_ackstream
from tests.support.waiting import until


def run(folder: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return run_ackstream("spool", *arguments, folder=folder, **settings)


def listed(folder: Path, **settings: str) -> list[dict[str, Any]]:
    done = run(folder, "list", "--json", **settings)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = orjson.loads(done.stdout)["folders"]
    return found


def test_without_a_spool_there_is_nothing_and_nothing_is_made(tmp_path: Path) -> None:
    """Looking creates no folder; to adopt needs a name or --all, and a name that is not there is a sentence."""
    assert listed(tmp_path, redis_url="redis://127.0.0.1:1") == []
    assert run(tmp_path, "list", redis_url="redis://127.0.0.1:1").stdout == "no folders\n"
    for arguments, words in ((("adopt",), "name the folders"), (("adopt", "7"), "has no folder 7")):
        done = run(tmp_path, *arguments, redis_url="redis://127.0.0.1:1")
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["data", "a b%2Fc?d#e'f\"g", "données"])
def test_folders_are_listed_by_whose_they_are(tmp_path: Path, name: str) -> None:
    """Also in a data folder of any name, and while Redis is away: then the address tells."""
    data = tmp_path / name
    leave(data, OWNER, "one", 1, 2)
    leave(data, replace(OWNER, redis="redis://10.0.0.1:6379"), "two", 3)
    found = listed(tmp_path, data=str(data), redis_url="redis://127.0.0.1:1", stream="test")
    assert [(one["folder"], one["state"], one["entries"], one["owner"]["stream"]) for one in found] == [
        ("0", "foreign", 2, "test:{0}"),
        ("1", "foreign", 1, "test:{0}"),
    ]
    same = listed(tmp_path, data=str(data), redis_url="redis://10.0.0.1:6379", stream="test")
    assert [one["state"] for one in same] == ["foreign", "waiting"]


async def test_a_running_ingest_drains_what_is_adopted(tmp_path: Path, shard: Shard) -> None:
    """Of another server: left, until it is adopted while ingest runs; a folder in use is refused with what to do."""
    data = tmp_path / "ackstream-data"
    leave(data, OWNER, "another", 1, 2)
    async with away_redis(tmp_path / "valkey", shard) as away:
        settings = {name: str(value) for name, value in away.settings.items()}
        async with Ingest(tmp_path, **away.settings).running() as ingest, sending(ingest.url) as sender:
            assert await sender.post() == 200
            states = {one["folder"]: one["state"] for one in await to_thread(listed, tmp_path, **settings)}
            assert states == {"0": "foreign", "1": "in use"}
            busy = await to_thread(run, tmp_path, "adopt", "1", **settings)
            assert busy.returncode == 1
            assert "in use by a running ingest: stop it" in busy.stderr

            done = await to_thread(run, tmp_path, "adopt", "--all", "--json", **settings)
            assert done.returncode == 0, done.stderr
            assert [(one["folder"], one["entries"]) for one in orjson.loads(done.stdout)["adopted"]] == [("0", 2)]

            async def is_drained() -> bool:
                return len(await away.entries()) == 3

            await until(is_drained, seconds=30)
            assert {one["state"] for one in await to_thread(listed, tmp_path, **settings)} == {"empty", "in use"}
