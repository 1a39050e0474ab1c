"""The proxy itself: a fault that does not happen would make every test that uses it worthless."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from tests.support.servers.listen import run_listener
from tests.support.servers.proxy import Proxy, run_proxy, through
from tests.support.waiting import until


class Echo:
    """A server that says back what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(1000):
                self.heard += piece
                writer.write(piece)
                await writer.drain()
        writer.close()


class Client:
    """One connection by way of the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def say(self, words: bytes) -> bytes:
        self.writer.write(words)
        return await self._reader.readexactly(len(words))

    async def hear_all(self) -> bytes:
        """Return the bytes until the other side ends."""
        return await asyncio.wait_for(self._reader.read(), 5)

    async def hears(self, *, seconds: float = 0.1) -> bytes | None:
        """Return the next bytes; empty if the other side ended; None if nothing comes within ``seconds``."""
        try:
            return await asyncio.wait_for(self._reader.read(1000), seconds)
        except TimeoutError:
            return None


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    async with run_listener(echo.serve) as port, run_proxy(port) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))
    assert await client.say(b"well") == b"well"
    yield client
    client.writer.transport.abort()


async def test_what_is_held_back_comes_in_order(proxy: Proxy, client: Client) -> None:
    """Frozen, nothing passes and nothing is closed; thawed, all of it does."""
    proxy.freeze()
    for part in (b"a", b"b", b"c"):
        client.writer.write(part)
        assert await client.hears() is None
    proxy.thaw()
    assert await client.say(b"d") == b"abcd"[:1]
    assert await client.hears() == b"bcd"


async def test_a_frozen_one_takes_connections(proxy: Proxy) -> None:
    """A frozen proxy accepts connections and does not answer, as the kernel does for a stopped process."""
    proxy.freeze()
    client = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))
    client.writer.write(b"a")
    assert await client.hears() is None
    proxy.thaw()
    assert await client.hears(seconds=5) == b"a"
    client.writer.transport.abort()


async def test_swallowed_replies_were_heard(proxy: Proxy, client: Client, echo: Echo) -> None:
    """The server has what was said, the client never learns of it."""
    proxy.swallows_replies = True
    client.writer.write(b"deed")
    assert await client.hears() is None
    assert echo.heard == b"welldeed"
    proxy.swallows_replies = False
    assert await client.say(b"word") == b"word"


async def test_a_cut_ends_what_is_open(proxy: Proxy, client: Client) -> None:
    """The client sees a reset; a new connection works."""
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await client.hears(seconds=5)
    second = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))
    assert await second.say(b"a") == b"a"
    second.writer.transport.abort()
    assert proxy.connections == 2


async def test_a_cut_can_fall_into_the_middle(proxy: Proxy, client: Client, echo: Echo) -> None:
    """The server gets exactly the bytes before the cut."""
    proxy.cut_after(3)
    client.writer.write(b"abcdef")

    async def heard() -> bool:
        return echo.heard == b"wellabc"

    await until(heard)
    with pytest.raises(ConnectionResetError):
        await client.hear_all()


async def test_a_refusal_is_for_new_ones(proxy: Proxy, client: Client) -> None:
    """Connections that are open stay open."""
    proxy.refuses = True
    with pytest.raises(ConnectionResetError):
        await Client(*await asyncio.open_connection("127.0.0.1", proxy.port)).hears(seconds=5)
    assert await client.say(b"a") == b"a"


async def test_a_delay_is_for_each_piece(proxy: Proxy, client: Client) -> None:
    """Both ways take it."""
    proxy.delay_seconds = 0.1
    began = asyncio.get_running_loop().time()
    assert await client.say(b"a") == b"a"
    assert asyncio.get_running_loop().time() - began > 0.19  # timers of uvloop count whole milliseconds


async def test_its_address_keeps_the_rest_of_the_url(proxy: Proxy) -> None:
    """User, password, database and options stay."""
    url = "redis://me:secret@example.test:6379/1?a=b"
    assert through(proxy, url) == f"redis://me:secret@127.0.0.1:{proxy.port}/1?a=b"
