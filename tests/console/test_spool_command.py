"""`ackstream spool` lists the folders of the spool and drains those of another server."""

import subprocess
from asyncio import to_thread
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from stream.keys import Shard
from tests.support.faults.redis_outages import open_sender, run_proxied_redis
from tests.support.processes import Ingest, run_ackstream
from tests.support.samples.spool_folders import OWNER, spool_and_end
from tests.support.waiting import until


def run(folder: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run one command of `ackstream spool`."""
    return run_ackstream("spool", *arguments, folder=folder, **settings)


def list_folders(folder: Path, **settings: str) -> list[dict[str, Any]]:
    """Return the folders that `list --json` prints."""
    process = run(folder, "list", "--json", **settings)
    assert process.returncode == 0, process.stderr
    folders: list[dict[str, Any]] = orjson.loads(process.stdout)["folders"]
    return folders


def test_without_a_spool_the_commands_create_nothing(tmp_path: Path) -> None:
    """`list` creates no folder; `adopt` needs a folder or --all, and an unknown folder is an error."""
    assert list_folders(tmp_path, redis_url="redis://127.0.0.1:1") == []
    assert run(tmp_path, "list", redis_url="redis://127.0.0.1:1").stdout == "no folders\n"
    for arguments, words in ((("adopt",), "name the folders"), (("adopt", "7"), "has no folder 7")):
        process = run(tmp_path, *arguments, redis_url="redis://127.0.0.1:1")
        assert (process.returncode, process.stdout) == (1, "")
        assert words in process.stderr
        assert "Traceback" not in process.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["data", "a b%2Fc?d#e'f\"g", "données"])
def test_each_folder_is_listed_with_its_owner(tmp_path: Path, name: str) -> None:
    """The data folder can have any name; while Redis is away, the address identifies the owner."""
    data = tmp_path / name
    spool_and_end(data, OWNER, "one", 1, 2)
    spool_and_end(data, replace(OWNER, redis="redis://10.0.0.1:6379"), "two", 3)
    folders = list_folders(tmp_path, data=str(data), redis_url="redis://127.0.0.1:1", stream="test")
    assert [(row["folder"], row["state"], row["entries"], row["owner"]["stream"]) for row in folders] == [
        ("0", "foreign", 2, "test:{0}"),
        ("1", "foreign", 1, "test:{0}"),
    ]
    other_server = list_folders(tmp_path, data=str(data), redis_url="redis://10.0.0.1:6379", stream="test")
    assert [row["state"] for row in other_server] == ["foreign", "waiting"]


async def test_a_running_ingest_drains_what_is_adopted(tmp_path: Path, shard: Shard) -> None:
    """A foreign folder waits until `adopt`, then the running ingest drains it; a folder in use cannot be adopted."""
    data = tmp_path / "ackstream-data"
    spool_and_end(data, OWNER, "another", 1, 2)
    async with run_proxied_redis(tmp_path / "valkey", shard) as away:
        settings = {name: str(value) for name, value in away.settings.items()}
        async with Ingest(tmp_path, **away.settings).run() as ingest, open_sender(ingest.url) as sender:
            assert await sender.post() == 200
            states = {row["folder"]: row["state"] for row in await to_thread(list_folders, tmp_path, **settings)}
            assert states == {"0": "foreign", "1": "in use"}
            busy = await to_thread(run, tmp_path, "adopt", "1", **settings)
            assert busy.returncode == 1
            assert "in use by a running ingest: stop it" in busy.stderr

            process = await to_thread(run, tmp_path, "adopt", "--all", "--json", **settings)
            assert process.returncode == 0, process.stderr
            assert [(row["folder"], row["entries"]) for row in orjson.loads(process.stdout)["adopted"]] == [("0", 2)]

            async def is_drained() -> bool:
                states = {row["state"] for row in await to_thread(list_folders, tmp_path, **settings)}
                return states == {"empty", "in use"} and len(await away.entries()) == 3

            await until(is_drained)
