"""Runs ``ackstream ingest`` or ``worker``: as one process, as a supervisor of several, or as one of those."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from console.settings_report import report_settings
from runtime import logs, process
from runtime.children.child import Child, Inheritance
from runtime.children.supervisor import Plan, Reserve, supervise

if TYPE_CHECKING:
    from ingest.settings import IngestSettings
    from worker.settings import WorkerSettings

Serve = Callable[[Any, asyncio.Event, Child | None], Awaitable[None]]
"""Serves with settings until the event, perhaps as a child."""


def run_command(
    settings: "IngestSettings | WorkerSettings",
    load_serve: Callable[[], Serve],
    report: Callable[[], bytes],
    reserve: Reserve,
    *,
    inheritance: str | None,
    stop_with_stdin: bool,
) -> None:
    """Run the command until a signal stops it. ``load_serve`` imports its work, which a supervisor does not need.

    A child has an ``inheritance``. ``reserve`` reserves the port that children share.
    """
    logs.configure(settings.log_format)
    if inheritance is not None:
        child = Child(Inheritance.from_option(inheritance))
        serve = load_serve()
        process.run(partial(child.run, lambda stop: serve(settings, stop, child)))
        return
    if not stop_with_stdin:  # else the parent process has reported them
        report_settings(settings)
    if settings.processes == 1:
        serve = load_serve()
        process.run(lambda stop: serve(settings, stop, None), stop_with_stdin=stop_with_stdin)
        return
    plan = Plan(
        ("-m", "console", *sys.argv[1:]),
        settings.processes,
        settings.grace_seconds,
        settings.admin_host,
        settings.admin_port,
        report,
    )
    process.run(partial(supervise, plan, reserve), stop_with_stdin=stop_with_stdin, has_children=True)
