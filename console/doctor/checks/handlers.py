"""Checks the handlers: whether functions can be imported, and whether targets of forward can be reached.

No event is sent. A function is imported in a process of its own, because a module can hang, or change the process.
"""

import asyncio
import ssl
import sys
from collections.abc import Iterator, Sequence

from yarl import URL

from console.doctor.checks.signatures import is_loopback
from console.doctor.finding import Finding, make_finding
from console.doctor.setup import Setup
from runtime.errors import CommandError
from worker.handlers.request import parse_url, read_headers
from worker.handlers.spec import BUILT_IN, Spec
from worker.settings import WorkerSettings

CONNECT_SECONDS = 5.0
IMPORT_SECONDS = 15.0
IMPORT = """
import sys
from runtime.errors import CommandError
from worker.handlers.function import load
try:
    load(sys.argv[1])
except CommandError as exc:
    print(exc)
"""


async def check_handlers(setup: Setup) -> Sequence[Finding]:
    """Return the findings about all handlers of the worker."""
    worker = setup.worker
    if worker is None:
        return []
    try:
        specs = worker.specs
    except CommandError:  # the check of the settings names it
        return []
    lists = await asyncio.gather(*(_check_handler(spec, worker) for spec in specs))
    return [finding for findings in lists for finding in findings]


async def _check_handler(spec: Spec, worker: WorkerSettings) -> Sequence[Finding]:
    if spec.url is not None:
        return await _check_target(spec, parse_url(spec.url), worker)
    if spec.target in BUILT_IN:
        return []
    text = await _import_function(spec.target)
    return [make_finding("handler.broken", text=text.rstrip("."))] if text else []


async def _import_function(target: str) -> str:
    """Return why a function cannot be imported; empty if it can."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", IMPORT, target),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(IMPORT_SECONDS):
            output, _ = await child.communicate()
    except TimeoutError:
        return f"importing {target!r} does not end within {IMPORT_SECONDS:.0f} s"
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    last = output.decode(errors="replace").strip().rpartition("\n")[2]
    return last if child.returncode == 0 else last or f"importing {target!r} ends the process ({child.returncode})"


async def _check_target(spec: Spec, url: URL, worker: WorkerSettings) -> Sequence[Finding]:
    findings = [*judge_target(spec, url, worker)]
    host, error = f"{url.host}:{url.port}", ""
    context = ssl.create_default_context() if url.scheme == "https" else None
    kind = "forward.unreachable"
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(url.host, url.port, ssl=context)
        writer.close()
    except ssl.SSLCertVerificationError as exc:
        kind, error = "forward.untrusted", exc.verify_message
    except TimeoutError:
        error = f"no answer within {CONNECT_SECONDS:.0f} s"
    except OSError as exc:
        error = exc.strerror or type(exc).__name__
    return [make_finding(kind, group=spec.group, host=host, error=error), *findings] if error else findings


def judge_target(spec: Spec, url: URL, worker: WorkerSettings) -> Iterator[Finding]:
    """Yield the findings about how events are sent to a target. Its headers may be in files."""
    try:
        read_headers(spec.options.headers)
    except CommandError as exc:
        yield make_finding("handler.broken", text=str(exc).rstrip("."))
    if url.scheme == "http" and not is_loopback(url.host or ""):
        yield make_finding("forward.plain", group=spec.group, host=f"{url.host}:{url.port}")
    if not worker.secrets_of(spec.group):
        yield make_finding("forward.unsigned", group=spec.group)
