"""A process that restarts whenever it ends, as under a supervisor; ends that no fault caused are recorded."""

import asyncio
import signal
from typing import NoReturn

from tests.support.preload.shim import Shim
from tests.support.processes import Process, Server

LOOK_SECONDS = 0.02
RESTART_SECONDS = 0.2
STOP_SECONDS = 30.0


class Supervised:
    """A process that `run` keeps running. After `hold` it stays down until the same number of `release` calls.

    With `refuses` the process may refuse to start while Redis is away.
    """

    def __init__(self, name: str, server: Server, shim: Shim | None, *, refuses: bool = False) -> None:
        self.name = name
        self.shim = shim
        """None where no shim can be built."""
        self.crashes: list[str] = []
        """Ends that no fault has caused."""
        self.starts = 0
        self.mortal = 0
        """The number of active faults that may make the process end by itself."""
        self._refuses = refuses
        self._server = server
        self._holds = 0
        self._asked: signal.Signals | None = None

    @property
    def process(self) -> Process:
        return self._server.process

    @property
    def pids(self) -> list[int]:
        """The process and its children."""
        return [self.process.child.pid, *self.children]

    @property
    def children(self) -> list[int]:
        """Its children, if it is the supervisor of several processes."""
        return sorted(child.pid for child in self.process.family())

    async def run(self) -> NoReturn:
        """Start the process, and restart it when it ends, until cancelled."""
        while True:
            await self._server.start()
            self.starts += 1
            while (code := self.process.child.poll()) is None:
                await asyncio.sleep(LOOK_SECONDS)
            if not self._is_allowed(code) and not (self._refuses and self._has_refused(code)):
                self.crashes.append(f"{self.name} ended with {code}, see {self.process.output.name}")
            self._asked = None
            await asyncio.sleep(RESTART_SECONDS)
            while self._holds:
                await asyncio.sleep(LOOK_SECONDS)

    def hold(self, number: signal.Signals) -> Process:
        """End the process by this signal, and keep it down until `release`."""
        self._holds += 1
        if self.process.child.poll() is None:
            self._asked = number
            self.process.send(number)
        return self.process

    async def release(self, ended: Process) -> None:
        """Let it restart after the old process has ended; kill and record an old process that does not end in time."""
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
        """Whether it ended at its start with an error message."""
        return code == 1 and "Traceback" not in self.process.said and ".started" not in self.process.said

    def _is_allowed(self, code: int) -> bool:
        if self.mortal:
            return True
        return self._asked is not None and code in (0, -self._asked, -signal.SIGKILL)
