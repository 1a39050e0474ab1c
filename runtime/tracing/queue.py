"""The spans that wait for their export: a bounded queue that counts each span that it loses."""

import threading
from collections.abc import Callable, Sequence

import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from runtime.metrics import SPANS_DROPPED

log = structlog.get_logger("tracing")


class SpanQueue(BatchSpanProcessor):
    """Sends ended spans in batches, in a thread. At most ``most_spans`` wait or are on their way; others are lost.

    Raises ValueError if OpenTelemetry's variables of the queue contradict each other.
    """

    def __init__(self, exporter: SpanExporter, most_spans: int) -> None:
        self._most_spans = most_spans
        self._spans = 0
        self._lock = threading.Lock()
        super().__init__(_CountingExporter(exporter, self._remove), most_spans)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue an ended span, or count it as lost. Returns at once."""
        with self._lock:
            has_room = self._spans < self._most_spans
            self._spans += has_room
        if has_room:
            super().on_end(span)
        else:
            SPANS_DROPPED.labels("full").inc()

    def count_waiting(self) -> None:
        """Count the spans that still wait as lost: the process ends."""
        with self._lock:
            SPANS_DROPPED.labels("stopped").inc(self._spans)

    def _remove(self, number: int) -> None:
        with self._lock:
            self._spans -= number


class _CountingExporter(SpanExporter):
    """Calls ``remove`` with the size of each batch after its export, and counts the batches that failed."""

    def __init__(self, exporter: SpanExporter, remove: Callable[[int], None]) -> None:
        self._exporter = exporter
        self._remove = remove

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch. OpenTelemetry tries again until ``OTEL_EXPORTER_OTLP_TIMEOUT``."""
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._remove(len(spans))
            if result is not SpanExportResult.SUCCESS:
                SPANS_DROPPED.labels("failed").inc(len(spans))
                what = "check OTEL_EXPORTER_OTLP_ENDPOINT, and that the collector takes OTLP over HTTP"
                log.warning("tracing.export_failed", spans=len(spans), what=what, sampled=True)
        return result

    def shutdown(self) -> None:
        """End the export that is under way."""
        self._exporter.shutdown()
