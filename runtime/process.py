"""Runs a process until a signal stops it: the first signal asks for a clean stop, the second one does not wait."""

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any

import structlog
import uvloop

from runtime import logs
from runtime.errors import INTERRUPTED, CommandError

log = structlog.get_logger("process")

STRAY_SECONDS = 1.0
CANCEL_SECONDS = 1.0
"""Time to clean up after a second signal."""
CHILDREN_SECONDS = 20.0
"""As CANCEL_SECONDS, for a process that has to stop its child processes."""
THREAD_SECONDS = 2.0
"""How long the end of a process waits for threads: a disk may not answer, a handler's call may block."""

# A batch makes thousands of objects without reference cycles. At Python's default threshold of 700 the collector scans
# them again and again, which cost the worker more than a tenth of its speed.
GC_THRESHOLDS = 100_000, 20, 100

Serve = Callable[[asyncio.Event], Awaitable[None]]


def run(serve: Serve, *, stop_with_stdin: bool = False, has_children: bool = False) -> None:
    """Run ``serve(stop)`` on uvloop until it returns. A CommandError inside nested exception groups is raised alone.

    SIGTERM, SIGINT and SIGHUP (a closed terminal) set ``stop``; ``serve`` may handle SIGHUP itself, and under nohup it
    stays ignored. A second SIGTERM or SIGINT cancels ``serve`` and ends the process a second later, even if code blocks
    the loop or ignores its cancellation; a third ends it at once. Both give exit code 130. After ``serve`` has returned
    or raised, running tasks and threads delay the end only for a short, fixed time.

    With ``has_children`` a second signal leaves CHILDREN_SECONDS to stop them, and a third one does nothing.
    ``stop_with_stdin`` also sets ``stop`` when standard input ends, because a killed parent sends no signal.
    """
    gc.freeze()  # modules are never garbage
    gc.set_threshold(*GC_THRESHOLDS)
    loop = _Loop()
    asyncio.set_event_loop(loop)
    code = 1
    try:
        _run_until_done(loop, _until_stopped(serve, stop_with_stdin=stop_with_stdin, has_children=has_children))
        code = 0
    except* CommandError as refused:
        raise _first(refused) from None
    except* asyncio.CancelledError:
        code = INTERRUPTED
        sys.exit(code)
    finally:
        logs.flush()  # so that the last lines come before the command's own error message
        _end_despite_threads(code)


class _Loop(uvloop.Loop):
    """A loop whose methods a forked child can replace."""


def is_forked() -> bool:
    """Whether a coroutine runs in a child that was forked while the loop ran: a child has no running loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


def _run_until_done(loop: _Loop, serving: Coroutine[Any, Any, None]) -> None:
    """Run the loop until the coroutine ends: code of a handler can stop the loop, or raise SystemExit in a task of it.

    A forked child that returns to the loop ends at once, because its parent uses the connections of this process.
    """
    os.register_at_fork(after_in_child=lambda: _end_at_return(loop))
    main = loop.create_task(serving)
    main.add_done_callback(lambda _: loop.stop())
    while not main.done():
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as exc:  # a handler that awaits such a task gets the error
            if not main.done():
                log.warning("process.exit_ignored", error=type(exc).__name__, what="a task or callback raised it")
    main.result()


def _end_at_return(loop: _Loop) -> None:
    """Let a child end once its code returns to the loop, or the thread that has forked it returns a result there."""
    if loop.is_running():
        loop.call_soon(os._exit, 1)
        loop.call_soon_threadsafe = lambda *_, **__: os._exit(1)  # type: ignore[method-assign]


def _first(group: BaseExceptionGroup[CommandError]) -> CommandError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


class _Signals:
    """Counts the signals to stop. Python runs the handler between two instructions, even while the loop is blocked."""

    def __init__(self, stop: Callable[[str], None], cancel: Callable[[], object], *, has_children: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = stop
        self._cancel = cancel
        self._has_children = has_children
        self._received = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._hang_up)

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        if not self._received:
            self._receive(number, frame)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self._received += 1
        if self._received == 1:
            self._loop.call_soon_threadsafe(self._stop, signal.Signals(number).name)
        elif self._received == 2:  # noqa: PLR2004 - as the name says
            self._loop.call_soon_threadsafe(self._cancel)
            _end_after(CHILDREN_SECONDS if self._has_children else CANCEL_SECONDS, INTERRUPTED)
        elif not self._has_children:
            os._exit(INTERRUPTED)


async def _until_stopped(serve: Serve, *, stop_with_stdin: bool, has_children: bool) -> None:
    stop = asyncio.Event()
    main = asyncio.current_task()
    assert main is not None  # noqa: S101 - the loop runs a coroutine as a task
    loop = asyncio.get_running_loop()

    def end(why: str) -> None:
        if not stop.is_set():
            log.info("process.stopping", why=why)
            stop.set()

    _Signals(end, main.cancel, has_children=has_children)
    if stop_with_stdin:
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        ended = loop.create_task(reader.read())
        ended.add_done_callback(lambda task: None if task.cancelled() else end("parent ended"))
    try:
        await serve(stop)
    finally:
        await _cancel_strays(main)
        with suppress(TimeoutError):
            async with asyncio.timeout(STRAY_SECONDS):
                await loop.shutdown_asyncgens()


async def _cancel_strays(main: asyncio.Task[None]) -> None:
    """Cancel the tasks that still run, such as those of a handler, and wait a moment for them."""
    strays = asyncio.all_tasks() - {main}
    for task in strays:
        task.cancel()
    if strays:
        _, hanging = await asyncio.wait(strays, timeout=STRAY_SECONDS)
        if hanging:
            log.warning("process.tasks_hang", tasks=len(hanging), what="ending without them")


def _end_despite_threads(code: int) -> None:
    """Limit the time that the interpreter waits for threads: at its end it joins all that are not daemons."""
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        _end_after(THREAD_SECONDS, code)


def _end_after(seconds: float, code: int) -> None:
    def end() -> None:
        logs.flush()
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
