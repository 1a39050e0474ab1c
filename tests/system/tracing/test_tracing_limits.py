"""Traces that are off, cannot be sent, or cannot be recorded."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from console.up.valkey import find_free_port
from stream.keys import Shard
from stream.settings import child_environment
from tests.support import loaded_modules
from tests.support.in_process import run_ingest, run_worker
from tests.support.processes import Ingest, Process, ackstream, becomes, run_ackstream, start_process
from tests.support.samples.events import body
from tests.support.servers.otlp_receiver import run_otlp_receiver
from tests.support.waiting import until

TRACING = ("runtime/tracing/", "ingest/http/webhook_tracing.py", "worker/handler_tracing.py")
WEBHOOKS = 60
GROUP = "log"


async def post(url: str, number: int) -> None:
    """Send this number of webhooks; each must be answered 200."""
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as http:
        for place in range(number):
            async with http.post(url, data=body(message_uuid=f"m-{place}")) as answer:
                assert answer.status == 200


async def has_settled(server: Redis, shard: Shard, number: int) -> bool:
    """Whether the group has read and acked this number of entries."""
    groups: Any = await server.xinfo_groups(shard.stream)
    return any(group["entries-read"] == number and not group["pending"] for group in groups)


@contextmanager
def run_listing(folder: Path, *arguments: str, **settings: str) -> Iterator[tuple[Process, Path]]:
    """Run `ackstream ARGUMENTS` in an interpreter of its own. After SIGUSR1 the yielded file has its loaded modules."""
    file = folder / f"modules-{arguments[0]}"
    command = (sys.executable, "-m", loaded_modules.__name__, str(file), *arguments)
    process = start_process(command, folder, arguments[0], child_environment(log_format="json", **settings))
    try:
        yield process, file
    finally:
        process.end()


async def list_modules(process: Process, file: Path) -> set[str]:
    process.send(signal.SIGUSR1)
    await becomes(lambda: process.lives() and file.exists())
    return set(file.read_text().split())  # noqa: ASYNC240 - a small local file


async def test_without_traces_no_process_imports_opentelemetry(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path
) -> None:
    """Ingest and a worker that have handled webhooks have no module of OpenTelemetry, and no recorder of spans."""
    port, admin_port = find_free_port(), find_free_port()
    common = {"redis_url": valkey_url, "stream": shard.name, "data": str(tmp_path / "data")}
    ports = {"port": str(port), "admin_port": str(admin_port), "signatures": "off"}
    with (
        run_listing(tmp_path, "ingest", **common, **ports) as (ingest, of_ingest),
        run_listing(tmp_path, "worker", "--handler", GROUP, **common) as (worker, of_worker),
    ):
        await ingest.is_ready(admin_port)
        await worker.has_logged("consumer.ready")
        await post(f"http://127.0.0.1:{port}/webhooks/dlr", 1)
        await until(lambda: has_settled(server, shard, 1))
        modules = await list_modules(ingest, of_ingest) | await list_modules(worker, of_worker)

    assert {"ingest.http.webhook", "worker.handler_loader", "runtime.tracing.process"} <= modules
    assert not {name for name in modules if name.startswith("opentelemetry") or name == "runtime.tracing.tracer"}


async def test_without_traces_no_function_of_tracing_is_called(valkey_url: str, server: Redis, shard: Shard) -> None:
    """From the request to the ack, every called function is defined outside of the modules of tracing."""
    called: set[str] = set()

    def note(frame: FrameType, _event: str, _argument: object) -> None:
        called.add(frame.f_code.co_filename)

    common: dict[str, Any] = {"redis_url": valkey_url, "stream": shard.name}
    async with run_ingest(**common) as ingest, run_worker(**common, handlers=GROUP):
        await post(ingest.url, 1)
        await until(lambda: has_settled(server, shard, 1))
        sys.setprofile(note)
        try:
            await post(ingest.url, 1)
            await until(lambda: has_settled(server, shard, 2))
        finally:
            sys.setprofile(None)

    assert any(file.endswith("ingest/http/webhook.py") for file in called)
    assert any(file.endswith("worker/handlers/log.py") for file in called)
    assert not {file for file in called if any(part in file for part in TRACING)}


async def test_an_endpoint_that_never_answers_holds_up_nothing(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Webhooks are answered and handled, lost spans are counted, and both processes stop in time."""
    admin_port = str(find_free_port())
    common = {"redis_url": valkey_url, "stream": shard.name, "data": str(tmp_path / "data"), "tracing": "otlp"}
    async with run_otlp_receiver() as receiver:
        receiver.how = None
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
        of_worker = {**common, "admin_port": admin_port}
        async with Ingest(tmp_path, **common).run() as ingest:
            with ackstream("worker", "--handler", f"{GROUP}#batch=1", folder=tmp_path, **of_worker) as worker:
                await post(ingest.url, WEBHOOKS)
                await until(lambda: has_settled(server, shard, WEBHOOKS))
                await until(lambda: has_dropped(str(ingest.admin_port)))
                await until(lambda: has_dropped(admin_port))
                started = time.monotonic()
                for process in (worker, ingest.process):
                    process.send(signal.SIGTERM)
                codes = [await process.wait_for_end(60) for process in (worker, ingest.process)]

    assert codes == [0, 0]
    assert time.monotonic() - started < 60
    assert receiver.exports == 2


async def has_dropped(port: str) -> bool:
    """Whether a process has lost spans because its queue was full."""
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/metrics") as answer:
        return 'ackstream_spans_dropped_total{why="full"}' in await answer.text()


def test_without_the_extra_the_start_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the package to install, and the setting."""
    (tmp_path / "opentelemetry.py").write_text("raise ModuleNotFoundError(name=__name__)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    done = run_ackstream("ingest", folder=tmp_path, tracing="otlp", signatures="off")

    assert done.returncode == 1
    assert done.stderr == (
        "ackstream: ACKSTREAM_TRACING=otlp needs OpenTelemetry, and opentelemetry is not installed: "
        "pip install 'ackstream[otel]', or set ACKSTREAM_TRACING=off\n"
    )
