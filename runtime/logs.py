"""Logs: one line per batch or event of interest, a constant dotted name and key=value pairs.

A log holds no payload, token, secret or whole phone number. A record of a library's logger may quote a client, so only
its first line and the class of its exception are kept. Unprintable characters are escaped. Lines that a client can
cause are throttled: all lines of library loggers, and our own with ``sampled=True``; ``suppressed`` is the number of
lines left out before this one. Logging never raises and never blocks; a line that cannot be built or written is
counted.
"""

import atexit
import logging
import sys
from collections.abc import Sequence
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from runtime.escape import escape_unprintable
from runtime.log_output import LogOutput
from runtime.log_throttle import LogThrottle, ThrottleFilter
from runtime.metrics import LOST, SUPPRESSED

_SHARED: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


FLUSH_SECONDS = 1.0

_outputs: list[LogOutput] = []
_processors: list[list[Processor]] = []
"""The processors of our own lines and of those of libraries, in the order in which they run."""


def configure(log_format: Literal["text", "json"]) -> None:
    """Send structlog's and the standard library's logs to standard output in one format."""
    output = LogOutput(_descriptor(sys.stdout))
    _outputs.append(output)
    atexit.register(flush)
    renderer = _renderer(log_format, sys.stdout)
    own: list[Processor] = [_Throttle(), *_SHARED, structlog.processors.format_exc_info, _escape_event, renderer]
    foreign: list[Processor] = [*_SHARED, structlog.stdlib.add_logger_name, _drop_details, _add_suppressed]
    _processors.extend((own, foreign))
    structlog.configure(
        processors=[_Chain(own)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_args: _Lines(output),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(output)
    handler.addFilter(ThrottleFilter(LogThrottle()))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _escape_event,
                renderer,
            ],
            foreign_pre_chain=foreign,
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def add_processor(processor: Processor) -> None:
    """Let a processor add to each line from now on."""
    for processors in _processors:
        processors.insert(1, processor)


def flush() -> None:
    """Wait until all lines are written, at most FLUSH_SECONDS. A process calls this before it ends."""
    for output in _outputs:
        output.drain(FLUSH_SECONDS)


async def wait_until_written() -> None:
    """Wait until the lines logged until now are written or lost, at most FLUSH_SECONDS."""
    for output in _outputs:
        await output.wait_until_written(FLUSH_SECONDS)


class _Lines:
    """structlog's innermost logger: each method writes a rendered line."""

    def __init__(self, output: LogOutput) -> None:
        self._output = output

    def msg(self, line: str) -> None:
        self._output.write(line + "\n")

    debug = info = warning = error = critical = exception = msg


class _Handler(logging.StreamHandler[LogOutput]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - the library's interface
        """Count the lost line. The library would write to standard error instead."""
        LOST.inc()


class _Chain:
    """Runs processors in order. A line on which one of them fails is counted as lost; the error is dropped."""

    def __init__(self, processors: Sequence[Processor]) -> None:
        self._processors = processors

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> Any:
        result: Any = event
        try:
            for process in self._processors:
                result = process(logger, method, result)
        except structlog.DropEvent:
            raise
        except Exception:  # noqa: BLE001 - logging never raises
            LOST.inc()
            raise structlog.DropEvent from None
        return result


def _descriptor(output: TextIO | None) -> int | None:
    try:
        return None if output is None else output.fileno()
    except (OSError, ValueError):  # closed, or no file
        return None


def write_line(log_format: Literal["text", "json"], event: str, **pairs: object) -> None:
    """Write one line to standard error. Commands use this, because their standard output holds the result."""
    processors = [*_SHARED, _escape_event, _renderer(log_format, sys.stderr)]
    logger = structlog.wrap_logger(structlog.WriteLogger(sys.stderr), processors)
    logger.info(event, **pairs)


def _renderer(log_format: Literal["text", "json"], output: TextIO | None) -> Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    colors = output is not None and not output.closed and output.isatty()
    return structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=24, sort_keys=False)


class _Throttle:
    """Throttles our own lines that have ``sampled=True``, by event name."""

    def __init__(self) -> None:
        self._throttle = LogThrottle()

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if not event.pop("sampled", False):
            return event
        suppressed = self._throttle.admit(event["event"])
        if suppressed is None:
            SUPPRESSED.labels("ackstream").inc()
            raise structlog.DropEvent
        if suppressed:
            event["suppressed"] = suppressed
        return event


def _drop_details(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["event"] = event["event"].partition("\n")[0]
    if exc_info := event.pop("exc_info", None):
        event["error"] = exc_info[0].__name__
    return event


def _add_suppressed(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if suppressed := getattr(event["_record"], "suppressed", 0):
        event["suppressed"] = suppressed
    return event


def _escape_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: _escape(value) for name, value in event.items()}


def _escape(value: object) -> object:
    if isinstance(value, str):
        return escape_unprintable(value)
    return [_escape(item) for item in value] if isinstance(value, list | tuple) else value
