"""Slow clients: they connect and send nothing, drip a head, or drip a body, and stay until the server closes them.

``python -m bench.load.slow_clients PORT PATH NUMBER`` keeps NUMBER connections open, a third of each kind, and replaces
each that is closed. It writes a line when all are open. When a line arrives on standard input, it opens no more, waits
until the server has closed them all, and writes its observations as JSON.
"""

import asyncio
import resource
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from typing import cast

import orjson
import uvloop

from bench.rig.processes import HOST

OPEN_PER_SECOND = 1000  # opened evenly, so that they also end evenly: bursts would load the core of the clients
STEPS_PER_SECOND = 50  # in each step a share of the clients drips, and some are opened
GIVE_UP_SECONDS = 60.0
HELD = "held"


@dataclass(frozen=True, slots=True)
class Kind:
    """The bytes a client sends first, and the bytes it repeats."""

    name: str
    first: bytes
    drip: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """How connections of a kind ended: how many, after how many seconds, with which first line of an answer."""

    number: int
    shortest_seconds: float
    longest_seconds: float
    answers: Mapping[str, int]


def kinds(path: str) -> Sequence[Kind]:
    """Return the three kinds."""
    line = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\n".encode()
    return (
        Kind("silent", b"", b""),
        Kind("drips a head", line + b"X-Slow: ", b"x"),
        Kind("drips a body", line + b"Content-Length: 100000\r\n\r\n{", b" "),
    )


class Slow(asyncio.Protocol):
    """One such client."""

    def __init__(self, swarm: "Swarm", kind: Kind, place: int) -> None:
        self.kind = kind
        self.place = place
        self.seconds = 0.0
        self.heard = b""
        self._swarm = swarm
        self._transport: asyncio.Transport | None = None
        self._began = time.monotonic()  # the server accepts before asyncio calls connection_made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first bytes."""
        self._transport = cast("asyncio.Transport", transport)
        self._swarm.open.add(self)
        self._transport.write(self.kind.first)

    def drip(self) -> None:
        """Send some more bytes."""
        if self._transport is not None and self.kind.drip and not self._transport.is_closing():
            with suppress(
                RuntimeError
            ):  # uvloop: the server has reset the connection, and connection_lost has not run yet
                self._transport.write(self.kind.drip)

    def data_received(self, data: bytes) -> None:
        """Remember the answer."""
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it ended does not matter
        """Report the loss to the swarm."""
        self.seconds = time.monotonic() - self._began
        self._swarm.lose(self)


class Swarm:
    """All slow clients of a process."""

    def __init__(self, port: int, path: str) -> None:
        self.open: set[Slow] = set()
        self.most = 0
        self._port = port
        self._kinds = kinds(path)
        self._ended: list[Slow] = []
        self._lost: deque[Kind] = deque()
        self._opening = True
        self._opened = 0
        self._steps = 0

    async def begin(self, number: int) -> None:
        """Open ``number`` connections."""
        for kind in islice(cycle(self._kinds), number):
            self._lost.append(kind)
        while self._lost:
            await self._step()

    async def hold(self) -> None:
        """Drip, and open another for each that is lost; until cancelled."""
        while True:
            await self._step()

    async def end(self) -> Mapping[str, Ended]:
        """Drip until the server has closed them all, and return how they ended."""
        self._lost.clear()
        self._opening = False
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while self.open:
                await self._step()
        return {kind.name: self._tell(kind) for kind in self._kinds}

    def lose(self, client: Slow) -> None:
        """Record a connection that the server closed."""
        self.open.discard(client)
        self._ended.append(client)
        if self._opening:
            self._lost.append(client.kind)

    async def _step(self) -> None:
        self._steps += 1
        for client in list(self.open):
            if client.place == self._steps % STEPS_PER_SECOND:
                client.drip()
        for _ in range(min(OPEN_PER_SECOND // STEPS_PER_SECOND, len(self._lost))):
            await self._connect(self._lost.popleft())
        self.most = max(self.most, len(self.open))
        await asyncio.sleep(1 / STEPS_PER_SECOND)

    async def _connect(self, kind: Kind) -> None:
        self._opened += 1
        place = self._opened % STEPS_PER_SECOND
        client = Slow(self, kind, place)
        await asyncio.get_running_loop().create_connection(lambda: client, HOST, self._port)

    def _tell(self, kind: Kind) -> Ended:
        clients = [client for client in self._ended if client.kind is kind]
        seconds = [client.seconds for client in clients] or [0.0]
        answers = Counter(client.heard.partition(b"\r\n")[0].decode(errors="replace") for client in clients)
        return Ended(len(clients), min(seconds), max(seconds), dict(answers))


async def _main(port: int, path: str, number: int) -> None:
    swarm = Swarm(port, path)
    await swarm.begin(number)
    print(HELD, flush=True)
    order = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    holding = asyncio.create_task(swarm.hold())
    await asyncio.wait([order, holding], return_when=asyncio.FIRST_COMPLETED)
    holding.cancel()
    await asyncio.wait([holding])
    if not holding.cancelled():
        await holding  # which failed
    ended = await swarm.end()
    shown = {name: asdict(client) for name, client in ended.items()}
    print(orjson.dumps({"most": swarm.most, "ended": shown}).decode(), flush=True)


def raise_limit() -> None:
    """Raise the open-file limit of this process to its maximum."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    raise_limit()
    uvloop.run(_main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
