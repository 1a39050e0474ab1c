"""The load generator of the latency figures charges a server for all requests that were due while it did not answer."""

import asyncio
import os
import time
from itertools import islice
from pathlib import Path

import pytest

from bench.load.steady_rate import CONNECTIONS, make_requests, run_load
from tests.support.waiting import until

RATE = 1000
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class StallingServer:
    """Answers no request until ``answering`` is set."""

    def __init__(self) -> None:
        self.answering = asyncio.Event()
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until it ends."""
        while head := await self._read_head(reader):
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            await reader.readexactly(length)
            self.requests += 1
            await self.answering.wait()
            writer.write(ANSWER)
        writer.close()

    async def _read_head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""


async def answer(is_true: bool) -> bool:
    """Return it: ``until`` awaits its condition."""
    return is_true


async def test_a_stalling_server_is_charged_for_requests_that_wait(tmp_path: Path) -> None:
    """Requests are due at a fixed rate also while all connections wait, and their time counts from then."""
    stalling, late = StallingServer(), 100
    server = await asyncio.start_server(stalling.serve, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]

    with run_load(port, "/", RATE, min(os.sched_getaffinity(0)), tmp_path) as load:
        await until(lambda: answer(stalling.requests >= CONNECTIONS))
        stalled_until = time.monotonic() + late / RATE
        await until(lambda: answer(time.monotonic() > stalled_until))
        released = time.monotonic()
        stalling.answering.set()
        await until(lambda: answer(stalling.requests >= CONNECTIONS + 2 * late))
        samples = await asyncio.to_thread(load.samples)
    server.close()

    assert [sample.due - samples[0].due for sample in samples] == pytest.approx(
        [number / RATE for number in range(len(samples))], abs=1e-6
    )
    waiting = [sample for sample in samples if sample.due < released]
    assert len(waiting) >= CONNECTIONS + late
    assert all(sample.due + sample.seconds >= released for sample in waiting)


def test_each_status_is_new_without_a_number_of_statuses() -> None:
    """With 0 no request is like another one; with a number the load sends so many different ones in turn."""
    endless, repeated = list(islice(make_requests("/", 0), 2000)), list(islice(make_requests("/", 3), 6))

    assert len(set(endless)) == 2000
    assert len(set(repeated)) == 3
    assert repeated[:3] == repeated[3:]
