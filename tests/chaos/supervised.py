"""A process under test that is started again whenever it ends, as a supervisor would; an end nobody caused is noted."""

import asyncio
import signal
from typing import NoReturn

from tests.chaos.shim import Orders
from tests.support.processes import Process, Server

LOOK_SECONDS = 0.02
RESTART_SECONDS = 0.2
STOP_SECONDS = 30.0


class Supervised:
    """Kept running by ``run``. What ``hold`` takes down stays down until as many ``release`` have come.

    ``refuses`` says that it may refuse to start, for what it needs to know cannot be found out just then.
    """

    def __init__(self, name: str, server: Server, orders: Orders | None, *, refuses: bool = False) -> None:
        self.name = name
        self.orders = orders
        """What its shim does; None without a shim."""
        self.crashes: list[str] = []
        """Ends that no fault has caused."""
        self.starts = 0
        self.mortal = 0
        """How many faults are at work that may make it end by itself."""
        self._refuses = refuses
        self._server = server
        self._holds = 0
        self._asked: signal.Signals | None = None

    @property
    def process(self) -> Process:
        return self._server.process

    async def run(self) -> NoReturn:
        """Start it, and again whenever it has ended; until cancelled."""
        while True:
            await self._server.start()
            self.starts += 1
            while (code := self.process.child.poll()) is None:
                await asyncio.sleep(LOOK_SECONDS)
            if not self._allowed(code) and not (self._refuses and self._has_refused(code)):
                self.crashes.append(f"{self.name} ended with {code}, see {self.process.output.name}")
            self._asked = None
            await asyncio.sleep(RESTART_SECONDS)
            while self._holds:
                await asyncio.sleep(LOOK_SECONDS)

    def hold(self, number: signal.Signals) -> Process:
        """End it by this signal, and let it not start again until released."""
        self._holds += 1
        if self.process.child.poll() is None:
            self._asked = number
            self.process.send(number)
        return self.process

    async def release(self, ended: Process) -> None:
        """Let it start again, once what was told to end has; if that does not end in time, it is killed and noted."""
        deadline = asyncio.get_running_loop().time() + STOP_SECONDS
        while ended.child.poll() is None:
            if asyncio.get_running_loop().time() > deadline:
                self.crashes.append(f"{self.name} did not stop within {STOP_SECONDS} s, see {ended.output.name}")
                ended.child.kill()
            await asyncio.sleep(LOOK_SECONDS)
        self._holds -= 1

    def kill(self) -> None:
        self._server.kill()

    def _has_refused(self, code: int) -> bool:
        """Whether it ended at its start, with a sentence that says why."""
        return code == 1 and "Traceback" not in self.process.said and ".started" not in self.process.said

    def _allowed(self, code: int) -> bool:
        if self.mortal:
            return True
        return self._asked is not None and code in (0, -self._asked, -signal.SIGKILL)
