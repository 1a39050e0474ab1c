"""A process's life: run until it is told to stop, then stop in good order; told twice, stop without waiting."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import structlog
import uvloop

from runtime.errors import Refusal

log = structlog.get_logger("process")

INTERRUPTED = 130
STRAY_SECONDS = 1.0

# A batch makes thousands of objects that no cycle holds; at Python's own threshold of 700 the collector looks at them
# again and again, which cost the worker a tenth of its speed and more.
GC_THRESHOLDS = 100_000, 20, 100

Serve = Callable[[asyncio.Event], Awaitable[None]]


def run(serve: Serve, *, stop_with_stdin: bool = False, has_children: bool = False) -> None:
    """Run ``serve(stop)`` on uvloop until it returns; Refusal leaves it out of whatever group of tasks it comes from.

    SIGTERM, SIGINT and SIGHUP (a closed terminal) set ``stop``; a second SIGTERM or SIGINT cancels ``serve``, a third
    ends the process where it stands; both give exit code 130. Under nohup SIGHUP stays ignored. With ``has_children`` a
    third one does nothing: children of this process would be left.

    ``stop_with_stdin`` sets it too when standard input ends: for a parent that may be killed without a word.
    """
    gc.freeze()  # what is loaded by now stays
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        uvloop.run(_until_stopped(serve, stop_with_stdin=stop_with_stdin, has_children=has_children))
    except* Refusal as refused:
        raise _first(refused) from None
    except* asyncio.CancelledError:
        sys.exit(INTERRUPTED)


def _first(group: BaseExceptionGroup[Refusal]) -> Refusal:
    one = group.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one


async def _until_stopped(serve: Serve, *, stop_with_stdin: bool, has_children: bool) -> None:
    stop = asyncio.Event()
    main = asyncio.current_task()
    assert main is not None  # noqa: S101 - uvloop runs a coroutine as a task
    loop = asyncio.get_running_loop()

    def tell(why: str) -> None:
        if not stop.is_set():
            log.info("process.stopping", why=why)
            stop.set()
        elif not main.cancelling():
            main.cancel()
        elif not has_children:
            os._exit(INTERRUPTED)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell, number.name)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, lambda: None if stop.is_set() else tell("SIGHUP"))
    if stop_with_stdin:
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        ended = loop.create_task(reader.read())
        ended.add_done_callback(lambda task: None if task.cancelled() or stop.is_set() else tell("parent ended"))
    await serve(stop)
    await _end_strays(main)


async def _end_strays(main: asyncio.Task[None]) -> None:
    """Cancel what still runs, for example a user's code; if something does not let itself be, end the process."""
    strays = asyncio.all_tasks() - {main}
    for task in strays:
        task.cancel()
    if strays:
        _, hanging = await asyncio.wait(strays, timeout=STRAY_SECONDS)
        if hanging:
            log.warning("process.tasks_hang", tasks=len(hanging), what="ending without them")
            os._exit(0)
