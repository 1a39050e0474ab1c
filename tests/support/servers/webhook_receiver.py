"""A real HTTP server that takes what is forwarded, checks it with the Standard Webhooks library, and misbehaves."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - the one of the specification's examples
OTHER = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"


@dataclass(slots=True)
class Receiver:
    """The received webhooks and the answer to each: `how`, or an answer for one webhook-id."""

    port: int = 0
    how: str = "200"
    headers: dict[str, str] = field(default_factory=dict)
    secret: str | None = SECRET
    bodies: list[bytes] = field(default_factory=list)
    sent: list[Mapping[str, str]] = field(default_factory=list)
    peers: set[Any] = field(default_factory=set)
    running: int = 0
    most: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?key=hunter2"

    async def take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if self.secret is not None:
            Webhook(self.secret).verify(body, dict(request.headers), json_parse=False)
        self.bodies.append(body)
        self.sent.append(request.headers)
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._answer(request, body)
        finally:
            self.running -= 1

    async def _answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        await asyncio.sleep(0)
        if b'"m-good' in body:
            return web.Response()
        match self.how:
            case "hang":
                await self.release.wait()
            case "close":
                assert request.transport is not None
                request.transport.abort()
            case "endless":
                response = web.StreamResponse()
                await response.prepare(request)
                for _ in range(100):
                    await response.write(b"x" * 65536)
                return response
        status = int(self.how) if self.how.isdigit() else 200
        return web.Response(status=status, headers=self.headers, text="hunter2 in the answer")


@asynccontextmanager
async def run_receiver() -> AsyncIterator[Receiver]:
    """A receiver on loopback for the length of the block."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None  # noqa: SLF001 - there is no other way to the port
    receiver.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]  # noqa: SLF001
    try:
        yield receiver
    finally:
        receiver.release.set()
        await runner.cleanup()
