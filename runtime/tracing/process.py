"""Decides at the start of a process whether it records traces. Only then it imports OpenTelemetry."""

import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Literal

from runtime.errors import CommandError
from runtime.tracing.settings import OtelSettings

if TYPE_CHECKING:
    from runtime.tracing.tracer import Tracing

Exporter = Literal["off", "otlp"]
RunTracing = Callable[[OtelSettings, str], AbstractAsyncContextManager["Tracing"]]


def import_tracer(exporter: Exporter) -> "tuple[RunTracing, OtelSettings] | None":
    """Return the function that records spans, and its settings; None while traces are off.

    Raises CommandError if a variable of OpenTelemetry is invalid, or if its SDK is not installed.
    """
    if exporter == "off" or (settings := OtelSettings.load()).sdk_disabled:
        return None
    try:
        from runtime.tracing.tracer import run_tracing  # noqa: PLC0415 - without traces OpenTelemetry stays out
    except ModuleNotFoundError as exc:
        raise CommandError(
            f"ACKSTREAM_TRACING={exporter} needs OpenTelemetry, and {exc.name} is not installed: "
            "pip install 'ackstream[otel]', or set ACKSTREAM_TRACING=off"
        ) from None
    return run_tracing, settings


@asynccontextmanager
async def open_tracing(exporter: Exporter, service: str) -> AsyncIterator["Tracing | None"]:
    """Yield the object that records the spans of this process until the block ends; None while traces are off.

    At the end the last spans have a short time to leave. Raises CommandError as ``import_tracer``. ``service`` is the
    name of the service unless ``OTEL_SERVICE_NAME`` is set.
    """
    imported = import_tracer(exporter)
    if imported is None:
        yield None
        return
    run_tracing, settings = imported
    gc.freeze()  # as the other modules (runtime.process), those of OpenTelemetry are never garbage
    async with run_tracing(settings, service) as tracing:
        yield tracing


def find_trace_id(traceparent: str) -> str:
    """Return the id of the trace, from the ``traceparent`` of an entry."""
    return traceparent[3:35]
