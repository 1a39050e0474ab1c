"""The children of a process that was forked: a server of that process forks them too.

A new interpreter would import for half a second what the forked process has imported.
"""

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.fork_server import Forked, ForkServer, can_fork, serve


class ForkedChild:
    """A child, with the part of `asyncio.subprocess.Process`'s interface that the product uses."""

    def __init__(self, forked: Forked, stdin: int | None) -> None:
        self._forked = forked
        self._stdin = stdin  # ends with this process

    @property
    def pid(self) -> int:
        return self._forked.pid

    @property
    def returncode(self) -> int | None:
        return self._forked.poll()

    async def wait(self) -> int:
        """Return its exit code once it has ended."""
        while (code := self.returncode) is None:
            await _wait_for_end(self.pid)
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None
        return code

    def terminate(self) -> None:
        self._forked.terminate()

    def kill(self) -> None:
        self._forked.kill()


async def _wait_for_end(pid: int) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    descriptor = os.pidfd_open(pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def fork_children() -> dict[str, Any] | None:
    """Let asyncio fork each child that would be a new interpreter. In each such child: return its request."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        os.setsid()  # a signal for the group of its process is not for the server
        request = serve(theirs)
        if request is None:
            os._exit(0)
        return request
    theirs.close()
    server, execute = ForkServer(ours), asyncio.create_subprocess_exec

    async def start(
        *command: str, stdin: int, env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = (), **options: Any
    ) -> Any:
        environment = os.environ if env is None else env
        if not can_fork(command, environment) or "-m" not in command:
            return await execute(*command, stdin=stdin, env=env, pass_fds=pass_fds, **options)
        assert options == {"start_new_session": True}
        theirs, ours = os.pipe() if stdin == asyncio.subprocess.PIPE else (os.open(os.devnull, os.O_RDONLY), None)
        try:
            files = {0: theirs, 1: 1, 2: 2, **{file: file for file in pass_fds}}
            forked = server.fork(command, Path.cwd(), environment, files)
        finally:
            os.close(theirs)
        return ForkedChild(forked, ours)

    asyncio.create_subprocess_exec = start  # type: ignore[assignment]  # for the arguments of the product
    return None
