"""Keys of another type, which another program has written."""

import inspect

import pytest
from redis.asyncio import Redis

from console.doctor.redis.key_types import TYPES, name_wrong_keys
from stream.keys import Shard
from stream.settings import StreamSettings

WORDS = {"stream": "stream", "set": "set", "string": "string", "hash": "hash", "sorted set": "zset"}
UNLISTED = {"cleaning", "copying"}
"""Locks that have another part in their names."""


def test_each_key_has_its_type() -> None:
    """The table has the types that the docstrings of the keys name."""
    described = {
        name: kind
        for name, member in vars(Shard).items()
        for words, kind in WORDS.items()
        if (inspect.getdoc(member) or "").partition(" ")[2].startswith(words)
        if name not in UNLISTED and not name.startswith("_")
    }
    assert {name: kind for kind, names in TYPES.items() for name in names} == described


@pytest.mark.parametrize("name", ["groups", "layout", "delayed", "stream"])
async def test_a_key_of_another_type_is_named(server: Redis, shard: Shard, valkey_url: str, name: str) -> None:
    """Its name, its type and the right type are in the words, also if groups or shards cannot be read."""
    key = getattr(shard, name)
    key = key if isinstance(key, str) else key("g")
    if name != "groups":
        await server.sadd(shard.groups, "g")
    await server.lpush(key, "x")
    words = await name_wrong_keys(server, StreamSettings(redis_url=valkey_url, stream=shard.name))
    [kind] = [kind for kind, names in TYPES.items() if name in names]
    assert words == f"{key} is a list, not a {kind}"
