import os
import re
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import psutil  # type: ignore[import-untyped]  # the PostgreSQL wheel brings it, without its types
import pytest

from stream.settings import StreamSettings
from tests.support.http.load import open_load
from tests.support.processes import ACKSTREAM, INSTALLED, Process, becomes
from tests.support.samples.events import body
from tests.support.workers.up_folder import STOP_SECONDS, UpFolder
from worker.settings import WorkerSettings

LOAD_PAUSE_SECONDS = 0.01
"""Of each sender: some hundred webhooks a second arrive."""


@pytest.fixture
def place(tmp_path: Path) -> UpFolder:
    return UpFolder(tmp_path)


def part(up: Process, name: str) -> psutil.Process | None:
    """The process in which this part runs now."""
    return next((process for process in up.family() if name in process.cmdline()), None)


async def stop_by_ctrl_c(up: Process) -> int:
    """The exit code after what a terminal does: SIGINT for everything in the foreground."""
    os.killpg(up.child.pid, signal.SIGINT)
    return await up.wait_for_end(STOP_SECONDS)


async def test_it_runs_everything_and_goes_on_where_it_was(place: UpFolder) -> None:
    """Webhooks are stored and buried, the commands need only `--data`; after Ctrl-C and a start nothing is redone."""
    place.command = INSTALLED
    with place.up() as up:
        await up.is_ready(place.admin_port)
        assert await place.post(body(status="submitted"), body(), b"no status") == [200, 200, 200]
        assert (await place.settles())["shards"][0]["length"] == 3
        traced = place.ask("trace", "m-1")
        assert (traced["status"], [event["status"] for event in traced["events"]]) == (
            "delivered",
            ["submitted", "delivered"],
        )
        dead = place.ask("dead-letters", "list")
        assert {letter["group"]: letter["reason"] for letter in dead["dead_letters"]} == {
            "store": "invalid-status",
            "log": "invalid-status",
        }
        assert len(up.read_log("message.status")) == 2
        assert len(place.left()) == 5
        assert await stop_by_ctrl_c(up) == 0
    assert place.left() == []
    place.command = ACKSTREAM
    with place.up() as up:
        await up.is_ready(place.admin_port)
        assert (await place.settles())["shards"][0]["length"] == 3
        assert (place.ask("trace", "m-1"), place.ask("dead-letters", "list")) == (traced, dead)
        assert await place.post(body(status="read")) == [200]
        await place.settles()
        assert [event["status"] for event in place.ask("trace", "m-1")["events"]] == [
            "submitted",
            "delivered",
            "read",
        ]
        assert len(up.read_log("message.status")) == 1


async def test_ctrl_c_under_load_loses_nothing_that_was_answered_200(place: UpFolder) -> None:
    """`up` ends in time with 0 while webhooks arrive; each payload that was answered 200 is stored, then or later."""
    with place.up() as up:
        await up.is_ready(place.admin_port)
        async with open_load(place.url, LOAD_PAUSE_SECONDS) as load:
            await load.keeps(300)
            assert await stop_by_ctrl_c(up) == 0
    assert place.left() == []
    with place.up() as up:
        await up.is_ready(place.admin_port)
        await place.settles()
        with closing(sqlite3.connect(place.data / "ackstream.db")) as database:
            stored = {message_uuid for (message_uuid,) in database.execute("SELECT message_uuid FROM messages")}
        assert set(load.accepted_ids) <= stored


async def test_ctrl_c_while_it_starts_ends_it_too(place: UpFolder) -> None:
    """As soon as Valkey runs: it ends in time, with 0, and nothing is left."""
    with place.up() as up:
        await up.has_logged("valkey.started")
        assert await stop_by_ctrl_c(up) == 0
    assert place.left() == []


async def test_the_next_start_after_a_kill_adopts_valkey(place: UpFolder) -> None:
    """Started at once after SIGKILL it adopts the same Valkey with its data, and stops it at its own end."""
    with place.up() as killed:
        await killed.is_ready(place.admin_port)
        assert await place.post(body(), b"no status") == [200, 200]
        killed.kill()
        with place.up() as up:
            await up.has_logged("valkey.adopted")  # until then what is ready may be what was killed
            await up.is_ready(place.admin_port)
            assert up.read_log("valkey.adopted")[0]["pid"] == killed.read_log("valkey.started")[0]["pid"]
            assert (await place.settles())["shards"][0]["length"] == 2
            assert len(place.ask("trace", "m-1")["events"]) == 1
            assert len(place.ask("dead-letters", "list")["dead_letters"]) == 2
            assert await stop_by_ctrl_c(up) == 0
        assert place.left() == []


@pytest.mark.on_disk  # doctor warns of a database in memory
async def test_one_at_a_time_uses_a_folder(place: UpFolder, tmp_path: Path) -> None:
    """`up` prints where webhooks go and where the data is, and doctor finds nothing right after the start.

    A second one exits with 1 and the first does not notice. After SIGKILL only Valkey is left, and the commands no
    longer use its address.
    """
    second = UpFolder(tmp_path)
    with place.up(log_format="text") as up:
        await becomes(lambda: up.lives() and "Ackstream is up" in up.said)
        assert place.url in up.said
        assert str(place.data) in up.said
        check_doctor(place)

        before = place.left()
        length = place.ask("stats")["shards"][0]["length"]
        refused = second.run("up", "--port", str(second.port), "--admin-port", str(second.admin_port))
        assert (refused.returncode, refused.stdout) == (1, "")
        assert re.fullmatch(r"ackstream: another `ackstream up` runs on \S+: stop it, .*\n", refused.stderr)
        assert place.left() == before
        assert await place.post(body()) == [200]
        assert place.ask("stats")["shards"][0]["length"] == length + 1

        used = WorkerSettings.load(data=place.data).redis_url
        up.kill()
        await becomes(lambda: place.left() == ["valkey-server"], seconds=STOP_SECONDS)
        default = StreamSettings.model_fields["redis_url"].default
        assert WorkerSettings.load(data=place.data).redis_url == default != used
        stats = place.run("stats")
        assert stats.returncode == 0 or f"Redis at {default} does not answer" in stats.stderr  # someone may serve there


def check_doctor(place: UpFolder) -> None:
    """Assert that it finds nothing, but perhaps about a disk of this machine; both groups settle the self-test."""
    report = orjson.loads(place.run("doctor", "--json").stdout)
    assert [finding["id"] for finding in report["findings"] if not finding["id"].startswith("spool.")] == []
    assert (report["probe"]["status"], set(report["probe"]["settled"])) == (200, {"store", "log"})
    assert all(report["probe"]["settled"].values())


@pytest.mark.parametrize("option", ["port", "admin_port"])
async def test_a_taken_port_is_told_in_a_sentence(place: UpFolder, option: str) -> None:
    """The sentence names the port, `up` exits with 1, and nothing is left running."""
    with socket.create_server(("127.0.0.1", getattr(place, option))) as holder, place.up() as up:
        assert await up.wait_for_end(20) == 1
        (sentence,) = [line for line in up.said.splitlines() if line.startswith("ackstream: ")]
        assert f"127.0.0.1:{holder.getsockname()[1]}" in sentence
        assert "Traceback" not in up.said
    assert place.left() == []


async def test_a_part_that_dies_is_started_again(place: UpFolder) -> None:
    """Killed once it was ready it comes back by itself and webhooks are stored again; after SIGTERM all ends with 0."""
    with place.up() as up:
        await up.is_ready(place.admin_port)
        assert await place.post(body(status="submitted")) == [200]
        await place.settles()
        for name, status in (("ingest", "delivered"), ("worker", "read")):
            before = part(up, name)
            assert before is not None
            before.kill()
            await up.has_logged(f"{name}.started", times=2)
            assert [died["process"] for died in up.read_log("up.process_died")][-1] == name
            await up.is_ready(place.admin_port)
            assert await place.post(body(status=status)) == [200]
        await place.settles()  # a look there is cheaper than a command
        await becomes(lambda: len(place.ask("trace", "m-1")["events"]) == 3)
        assert len(up.read_log("up.process_died")) == 2
        up.send(signal.SIGTERM)
        assert await up.wait_for_end(STOP_SECONDS) == 0
    assert place.left() == []


async def test_a_valkey_that_dies_is_started_again(place: UpFolder) -> None:
    """A killed Valkey returns with all confirmed entries, the spool is drained into it, and all processes continue."""
    with place.up() as up:
        await up.is_ready(place.admin_port)
        assert await place.post(body(status="submitted")) == [200]
        psutil.Process(up.read_log("valkey.started")[0]["pid"]).kill()
        assert await place.post(body(status="read")) == [200]
        await up.has_logged("valkey.started", times=2)
        assert await place.post(body()) == [200]
        await place.settles()
        await becomes(lambda: len((place.ask("trace", "m-1") or {"events": []})["events"]) == 3)
        await place.settles()
        assert await stop_by_ctrl_c(up) == 0
    assert place.left() == []


async def test_the_demo_sends_signed_statuses_to_its_handlers(place: UpFolder) -> None:
    """`ackstream demo` fills the stream with signed webhooks of the last minutes, and stops with Ctrl-C."""
    with place.up("demo") as demo:
        await demo.is_ready(place.admin_port)
        await becomes(lambda: place.ask("stats")["shards"][0]["length"] > 500)
        assert {"store", "orders", "crm"} == set(place.ask("stats")["groups"])
        assert await stop_by_ctrl_c(demo) == 0
    assert "webhook.refused" not in demo.said
    assert place.left() == []
