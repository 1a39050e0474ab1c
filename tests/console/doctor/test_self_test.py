"""The self-test of `doctor`: a webhook from ingest's URL to each group, and the faults on its way."""

import socket
from typing import Any

import pytest

from console.doctor import probe
from console.queries.shards import set_shards
from runtime.health import run_health_server
from stream.keys import Shard
from stream.settings import StreamSettings
from tests.support.checkup import GROUP, Installation
from tests.support.in_process import run_ingest, run_worker
from tests.support.samples.signed import SECRETS
from tests.support.waiting import until

SIGNED: Any = {"signatures": "required", "signature_secrets": SECRETS}


@pytest.fixture(autouse=True)
def _wait_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault is certain after a moment: nothing else happens on the stream."""
    monkeypatch.setattr(probe, "STREAM_SECONDS", 1.0)
    monkeypatch.setattr(probe, "SETTLED_SECONDS", 1.0)


async def test_it_is_signed_and_settled_by_every_group(healthy: Installation) -> None:
    """The times rise from the answer to the last group. No group has an event, a dead letter or a history of it."""
    healthy.monkeypatch.setattr(probe, "SETTLED_SECONDS", 30.0)
    handlers = f"{GROUP},second=log"
    healthy.set({"HANDLERS": handlers})
    async with run_ingest(**SIGNED) as ingest, run_worker():

        async def reads() -> bool:
            return len(await healthy.server.hgetall(healthy.shard.alive("second"))) > 0

        await until(reads)
        report = await healthy.run(probe=True, url=ingest.url)

    assert [finding.summary() for finding in report.findings] == []
    times = report.probe
    assert times is not None
    assert times.answered is not None
    assert times.on_stream is not None
    assert times.settled.keys() == {GROUP, "second"}
    assert all(0 < times.answered <= times.on_stream <= (seconds or 0) for seconds in times.settled.values())
    (fields,) = [fields for _, fields in await _read(healthy)]
    assert (fields[b"verified"], b"probe" in fields) == (b"jwt", True)
    for key in (healthy.shard.dead, healthy.shard.history, healthy.shard.delayed):
        assert not await healthy.server.exists(key(GROUP), key("second"))


async def test_it_is_followed_on_any_shard(healthy: Installation) -> None:
    """Ingest appends to one shard after the other; the self-test finds its entry, and who has settled it."""
    healthy.monkeypatch.setattr(probe, "STREAM_SECONDS", 30.0)
    healthy.monkeypatch.setattr(probe, "SETTLED_SECONDS", 30.0)
    await set_shards(healthy.server, StreamSettings(stream=healthy.shard.name), 3)
    on_shards: set[str] = set()
    async with run_ingest(**SIGNED) as ingest, run_worker():

        async def reads_all() -> bool:
            return await healthy.server.exists(Shard(healthy.shard.name, 2).alive(GROUP)) == 1

        async def was_on_all() -> bool:
            times = (await healthy.run(probe=True, url=ingest.url)).probe
            assert times is not None
            assert times.entry is not None
            assert times.settled[GROUP] is not None
            on_shards.add(times.entry[:2])
            return on_shards == {"0/", "1/", "2/"}

        await until(reads_all)
        await until(was_on_all)


async def test_each_fault_on_its_way_is_found(healthy: Installation, shard: Any) -> None:
    """Ingest does not answer, refuses it, has another stream, and a group settles nothing; and a lack of secrets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://user:a-password@127.0.0.1:{listener.getsockname()[1]}/webhooks/dlr?key=a-password"

    async def examine(url: str) -> list[str]:
        await healthy.read()
        return await healthy.examine(probe=True, url=url)

    report = await healthy.run(probe=True, url=closed)
    assert "a-password" not in repr(report.summary())
    found = [[finding.id for finding in report.findings]]
    async with run_ingest(**SIGNED) as ingest:
        found.append(await examine(ingest.url))
        wrong_path = ingest.url.replace("message-status", "nowhere")
        found.append(await examine(wrong_path))
        healthy.set({"STREAM": f"{shard.name}-2", "HANDLERS": GROUP})
        found.append(await examine(ingest.url))
        healthy.set({"STREAM": shard.name, "SIGNATURES": "off", "SIGNATURE_SECRETS": None})
        found.append(await examine(ingest.url))

    assert found == [
        ["probe.unreachable"],
        ["probe.unsettled"],
        ["probe.refused"],
        ["group.none", "probe.lost"],
        ["probe.unsigned"],
    ]


async def test_a_process_that_is_not_ready_is_found(healthy: Installation) -> None:
    """The finding has the reason that its admin port gives."""
    async with run_health_server("127.0.0.1", 0, lambda: "the spool is full") as port:
        healthy.set({"ADMIN_PORT": str(port)})
        (finding,) = (await healthy.run()).findings

    assert (finding.id, finding.what) == ("process.not-ready", "Ingest is not ready: the spool is full.")


def test_a_group_that_settles_late_is_found() -> None:
    """It needs longer than a person would call at once."""
    assert [finding.id for finding in probe.judge_times({"a": 0.1, "b": 5.0})] == ["probe.slow"]


async def _read(healthy: Installation) -> Any:
    return await healthy.server.xrange(healthy.shard.stream)
