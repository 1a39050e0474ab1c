"""`forward` in real workers: how events are settled for each behaviour of a receiver."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.processes import Process, becomes, quick_worker
from tests.support.samples.events import body, entry
from tests.support.servers.webhook_receiver import SECRET, Receiver, run_receiver
from tests.support.streams.delayed import read_delayed
from tests.support.waiting import until
from tests.support.workers.recording import GROUP, RecordingWorkers, ids
from worker.dispatch.pause import resume
from worker.group.group_ref import GroupRef


class Forwarding(RecordingWorkers):
    """Workers that forward to a receiver."""

    async def to(self, receiver: Receiver, options: str = "", **settings: str) -> Process:
        """Start a worker, and return it when it reads."""
        handler = f"{GROUP}=forward:{receiver.url}#{options}"
        all_settings = {**self.settings, "forward_secrets": SECRET, **settings}
        worker = self.running.enter_context(quick_worker(self.pace, handler, self.folder, all_settings))
        await worker.has_logged("consumer.ready")
        return worker


@pytest.fixture
def site(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> Iterator[Forwarding]:
    with ExitStack() as running:
        yield Forwarding(server, shard, tmp_path, running, {"redis_url": valkey_url, "stream": shard.name}, pace=0.3)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with run_receiver() as receiver:
        yield receiver


async def wait_for_delayed(site: RecordingWorkers, retries: int) -> None:
    """Return when this number of events is delayed and no other event is unsettled."""

    async def is_so() -> bool:
        group = await site.group()
        return bool(group["retries"] == group["outstanding"] == retries)

    await until(is_so)


async def test_every_event_is_sent_once_by_few_connections(site: Forwarding, receiver: Receiver) -> None:
    """No more connections than allowed are open; the log has neither the secret of the URL nor the signing secret."""
    await site.append(*ids("m", range(300)))
    worker = await site.to(receiver, "concurrency=4")
    await site.is_done()
    assert (len(receiver.bodies), len({headers["webhook-id"] for headers in receiver.sent})) == (300, 300)
    assert receiver.most <= 4
    assert len(receiver.peers) <= 4
    assert "hunter2" not in worker.said
    assert SECRET[6:] not in worker.said


async def test_a_failure_is_tried_again_with_the_same_id(site: Forwarding, receiver: Receiver) -> None:
    """The worker tries until the attempts are used up; then the event is a dead letter with the status."""
    receiver.how = "500"
    await site.append("m-1")
    await site.to(receiver, "attempts=3&base=0")
    await settle_among_good_events(site)
    assert await site.letters() == [("m-1", "attempts: refused: answered 500", 3)]
    failed = [sent["webhook-id"] for sent, body in zip(receiver.sent, receiver.bodies, strict=True) if b'"m-1"' in body]
    assert len(failed) >= 3  # an attempt that no successful call followed is not counted
    assert len(set(failed)) == 1


async def settle_among_good_events(site: Forwarding) -> None:
    """Return when no entry is unsettled, while events arrive that the receiver accepts."""
    number = itertools.count()

    async def is_empty() -> bool:
        if (await site.group())["outstanding"] == 0:
            return True
        await site.append(f"m-good-{next(number)}")
        await asyncio.sleep(0.1)
        return False

    await until(is_empty)


async def test_retry_after_decides_the_delay(site: Forwarding, receiver: Receiver) -> None:
    """The schedule would try again at once."""
    receiver.how, receiver.headers = "429", {"Retry-After": "3600"}
    await site.append("m-1")
    await site.to(receiver, "base=0")
    await wait_for_delayed(site, 1)
    ((_, seconds),) = await read_delayed(site.server, site.shard, GROUP)
    assert 3500 < seconds <= 3600


async def test_gone_pauses_the_group_until_it_is_resumed(site: Forwarding, receiver: Receiver) -> None:
    """No event is sent, counted or dead-lettered, also after a restart; after a resume all events are sent."""
    receiver.how = "410"
    await site.append(*ids("m", range(20)))
    worker = await site.to(receiver, "concurrency=1")
    await worker.has_logged("group.paused")
    sent = len(receiver.bodies)
    worker.kill()
    receiver.how = "200"
    again = await site.to(receiver)
    await again.has_logged("group.paused")
    assert sent == len(receiver.bodies) == 1
    assert (await site.group())["paused"] == "gone"
    assert await resume(GroupRef(site.server, site.shard, GROUP)) == "gone"
    await site.is_done(seconds=60)
    assert len({headers["webhook-id"] for headers in receiver.sent}) == 20
    assert (len(receiver.sent), await site.letters()) == (21, [])


async def test_a_receiver_that_is_down_pauses_the_group_until_it_is_back(site: Forwarding, receiver: Receiver) -> None:
    """With any failure and with `Retry-After`, no event is dead-lettered, and all events are sent in the end."""
    receiver.how, receiver.headers = "503", {"Retry-After": "1"}
    await site.append(*ids("m", range(200)))
    # With several calls at once some could fail while others succeed: then the events are at fault.
    worker = await site.to(receiver, "attempts=1&concurrency=1&timeout=1")
    await worker.has_logged("group.paused")
    tried = len(receiver.bodies)
    receiver.how = "close"
    await becomes(lambda: len(receiver.bodies) > tried)
    receiver.how = "200"
    await site.is_done(seconds=60)
    assert len({headers["webhook-id"] for headers in receiver.sent}) == 200
    assert await site.letters() == []


async def test_filtered_events_are_settled_without_a_request_and_counted(site: Forwarding, receiver: Receiver) -> None:
    """`only` and `channel` ignore the letter case; a filtered event is neither delayed nor a dead letter."""
    sent = [("a", "delivered", "sms"), ("b", "read", "RCS")]
    left_out = [("c", "submitted", "sms"), ("d", "read", "whatsapp"), ("e", "Submitted", None)]
    for uuid, status, channel in sent + left_out:
        fields: Any = entry(body(message_uuid=uuid, status=status, channel=channel)).to_fields()
        await site.server.xadd(site.shard.stream, fields)
    worker = await site.to(receiver, "only=Delivered|read&channel=sms|rcs")
    await site.is_done()
    assert sorted(orjson.loads(sent)["data"]["message_uuid"] for sent in receiver.bodies) == ["a", "b"]
    port = worker.read_log("worker.started")[0]["admin_port"]
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/metrics") as response:
        metrics = await response.text()
    assert 'ackstream_events_filtered_total{group="recorder"} 3.0' in metrics.splitlines()
    assert 'ackstream_events_handled_total{group="recorder"} 2.0' in metrics.splitlines()
    assert await site.letters() == []


async def test_headers_are_sent_and_never_shown(site: Forwarding, receiver: Receiver) -> None:
    """Neither the log nor the message of the dead letter, which quotes the answer of the receiver, has them."""
    (site.folder / "key").write_text("tok-hunter2-file\n")
    receiver.how = "500"
    await site.append("m-1")
    options = "header.X-A=tok-hunter2&header.X-B=@key&attempts=2&base=0"
    worker = await site.to(receiver, options, log_format="json")
    await settle_among_good_events(site)
    assert {(headers["X-A"], headers["X-B"]) for headers in receiver.sent} == {("tok-hunter2", "tok-hunter2-file")}
    assert await site.letters() == [("m-1", "attempts: refused: answered 500", 2)]
    letters: Any = await site.server.xrange(site.shard.dead(GROUP))
    assert letters[0][1][b"message"].decode() == "answered 500: … in the answer"
    assert "hunter2" not in worker.said


async def test_a_worker_without_a_secret_logs_a_warning(site: Forwarding, receiver: Receiver) -> None:
    """The warning comes once, at the start."""
    receiver.secret = None
    await site.append("m-1")
    worker = await site.to(receiver, forward_secrets="")
    await site.is_done()
    assert len(worker.read_log("forward.unsigned")) == 1
    assert "webhook-signature" not in receiver.sent[0]
