"""Order mode of ingest: all entries of a message go to one shard."""

from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from ingest.append.connection import AppendConnection
from ingest.append.shard_turns import MessageShards
from ingest.encoding import find_payload, pack
from ingest.settings import IngestSettings
from stream.entry import Entry
from stream.keys import Shard
from stream.layout import change_layout
from stream.payload import find_message_id
from stream.redis.client import client
from stream.settings import InvalidSettings, StreamSettings
from tests.support.samples.events import body, entry
from tests.support.streams.watched import watch_of
from worker.events import samples
from worker.events.vonage import parse
from worker.settings import WorkerSettings

SHARDS, MESSAGES, EVENTS = 3, 12, 4


async def test_each_message_has_one_shard_and_its_order(valkey_url: str, server: Redis, shard: Shard) -> None:
    """A batch is divided among the shards by its messages; each shard has the order of the batch."""
    await change_layout(server, StreamSettings(redis_url=valkey_url, stream=shard.name), SHARDS)
    watch = watch_of(server, shard)
    await watch.refresh()
    user = client(valkey_url)
    connection = await AppendConnection.open(user, MessageShards(watch))
    batch = [
        pack(entry(body(message_uuid=f"m-{message}", client_ref=str(number)), query=b"payload=x"))[1]
        for number in range(EVENTS)
        for message in range(MESSAGES)
    ]

    await connection.append(batch, 5)
    await connection.append((), 5)
    await connection.close()
    await user.aclose()

    places: dict[str, list[tuple[int, int]]] = {}
    for each in watch.shards:
        entries: Any = await server.xrange(each.stream)
        for _, fields in entries:
            status = orjson.loads(fields[b"payload"])
            places.setdefault(status["message_uuid"], []).append((each.number, int(status["client_ref"])))
    assert len(places) == MESSAGES
    for place in places.values():
        assert [number for _, number in place] == list(range(EVENTS))
        assert len({number for number, _ in place}) == 1
    assert len({place[0][0] for place in places.values()}) == SHARDS


def test_ingest_and_workers_find_the_same_message() -> None:
    """The id by which ingest picks the shard is that of the event, in every shape that Vonage sends."""
    payloads = [samples.payload(channel, next(iter(words))) for channel, words in samples.STATUSES.items()]
    numbers = [b'{"message_uuid":%d,"status":"read"}' % number for number in (7, -7, 2**64, 2**64 + 1)]
    for payload in (*payloads, *numbers, b"messageId=1F&status=delivered"):
        packed = pack(Entry(payload, "application/json", 1, "r", query=b"payload=1"))[1]
        event = parse(Entry(payload, "", 1, "r"), "0/1-0")
        assert find_payload(packed) == payload
        assert find_message_id(payload) == event.message_uuid
    assert find_message_id(b"no status") is find_message_id(b"[1]") is find_message_id(b"{}") is None


@pytest.mark.parametrize("settings", [IngestSettings, WorkerSettings])
def test_an_unknown_order_is_refused(settings: type[IngestSettings | WorkerSettings]) -> None:
    """The error names the setting, the value and the valid ones."""
    with pytest.raises(InvalidSettings, match="ACKSTREAM_ORDER: 'messages' is not valid; expected none, or message"):
        settings.load(order="messages")
