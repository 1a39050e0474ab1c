"""Runs the processes of ``ackstream up`` and restarts those that die."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
import structlog

from runtime.errors import CommandError
from runtime.tasks import Backoff

log = structlog.get_logger("up")


@dataclass(frozen=True, slots=True)
class ManagedProcess:
    """One process that ``up`` keeps running: `ackstream <arguments>`, ready when /ready on its admin port is 200."""

    arguments: tuple[str, ...]
    admin_url: str

    @property
    def name(self) -> str:
        """The subcommand."""
        return self.arguments[0]


async def keep_running(
    process: ManagedProcess, environment: dict[str, str], stop: asyncio.Event, kill_after_seconds: float
) -> None:
    """Run the process until ``stop``. Raises CommandError if it ends before it has been ready once."""
    backoff = Backoff(first=0.5)
    was_ready = False
    while not stop.is_set():
        child = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-P",
                "-m",
                "console",
                *process.arguments,
            ),  # -P: files of the working folder must not shadow libraries
            stdin=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches only this process, which stops the others in order
        )
        try:
            was_ready = await _wait_for_exit(child, process, stop) or was_ready
        finally:
            await _terminate(child, kill_after_seconds)
        if stop.is_set():
            return
        if not was_ready:
            raise CommandError(f"{process.name} failed to start; see its output above")
        log.error("up.process_died", process=process.name, code=child.returncode, what="restarting it")
        await backoff.wait(stop)


async def _wait_for_exit(child: asyncio.subprocess.Process, process: ManagedProcess, stop: asyncio.Event) -> bool:
    """Wait until the child has ended or ``stop`` is set; return whether it was ready by then."""
    ended = asyncio.create_task(child.wait())
    stopped = asyncio.create_task(stop.wait())
    ready = asyncio.create_task(wait_until_ready([process], stop))
    await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
    for task in (ended, stopped, ready):
        task.cancel()
    return ready.done() and not ready.cancelled() and ready.result()


async def wait_until_ready(processes: Sequence[ManagedProcess], stop: asyncio.Event) -> bool:
    """Wait until all processes are ready; return False if ``stop`` is set first."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as http:
        for process in processes:
            while not await _is_ready(http, f"{process.admin_url}/ready"):
                if stop.is_set():
                    return False
                await asyncio.sleep(0.05)
    return True


async def _is_ready(http: aiohttp.ClientSession, url: str) -> bool:
    with suppress(aiohttp.ClientError, TimeoutError):
        async with http.get(url) as response:
            return response.ok
    return False


async def _terminate(child: asyncio.subprocess.Process, kill_after_seconds: float) -> None:
    if child.returncode is None:
        with suppress(ProcessLookupError):
            child.terminate()
        try:
            async with asyncio.timeout(kill_after_seconds):
                await child.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
