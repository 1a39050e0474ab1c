"""Logs: one line per batch or event of interest, a constant dotted name and key=value pairs.

Never a payload, a token, a secret or a whole phone number. So of a foreign logger's line only the first one is kept,
and of its traceback the exception's class: the rest may quote what a client sent. What does not print is escaped. Of
lines that a client can cause there are only so many each second: all of foreign loggers, and those of ours that are
written with ``sampled=True``; ``suppressed`` says how many are missing before a line. Logging never raises and never
blocks: a line that cannot be made or written is counted.
"""

import atexit
import logging
import sys
from collections.abc import Sequence
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from runtime.escape import escape_unprintable
from runtime.log_output import LogOutput
from runtime.log_throttle import LogThrottle, ThrottleFilter
from runtime.metrics import LOST, SUPPRESSED

_SHARED: list[structlog.typing.Processor] = [
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


FLUSH_SECONDS = 1.0

_outputs: list[LogOutput] = []


def configure(log_format: Literal["text", "json"]) -> None:
    """Send structlog's and the standard library's logs to standard output in one form."""
    output = LogOutput(_descriptor(sys.stdout))
    _outputs.append(output)
    atexit.register(flush)
    shared, renderer = _SHARED, _renderer(log_format, sys.stdout)
    structlog.configure(
        processors=[_Chain([_Sample(), *shared, structlog.processors.format_exc_info, _printable, renderer])],
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
                _printable,
                renderer,
            ],
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, _cut, _missing],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def flush() -> None:
    """Return when all lines are written, after FLUSH_SECONDS at the latest: for the end of a process."""
    for output in _outputs:
        output.drain(FLUSH_SECONDS)


class _Lines:
    """structlog's logger: each method takes a line that is ready."""

    def __init__(self, output: LogOutput) -> None:
        self._output = output

    def msg(self, line: str) -> None:
        self._output.write(line + "\n")

    debug = info = warning = error = critical = exception = msg


class _Handler(logging.StreamHandler[LogOutput]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - the library's interface
        """Count the line; the library would write to standard error, which nobody may read."""
        LOST.inc()


class _Chain:
    """Runs processors one after the other; a line that one of them cannot make is counted, and no error."""

    def __init__(self, processors: Sequence[structlog.typing.Processor]) -> None:
        self._processors = processors

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> Any:
        made: Any = event
        try:
            for process in self._processors:
                made = process(logger, method, made)
        except structlog.DropEvent:
            raise
        except Exception:  # noqa: BLE001 - logging never raises
            LOST.inc()
            raise structlog.DropEvent from None
        return made


def _descriptor(output: TextIO | None) -> int | None:
    try:
        return None if output is None else output.fileno()
    except (OSError, ValueError):  # closed, or no file
        return None


def line(log_format: Literal["text", "json"], event: str, **pairs: object) -> None:
    """Write one line to standard error: for a command, whose standard output is its answer."""
    processors = [*_SHARED, _printable, _renderer(log_format, sys.stderr)]
    logger = structlog.wrap_logger(structlog.WriteLogger(sys.stderr), processors)
    logger.info(event, **pairs)


def _renderer(log_format: Literal["text", "json"], output: TextIO | None) -> structlog.typing.Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    colors = output is not None and not output.closed and output.isatty()
    return structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=24, sort_keys=False)


class _Sample:
    """Samples our own lines that ask for it, by the event's name."""

    def __init__(self) -> None:
        self._sampling = LogThrottle()

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if not event.pop("sampled", False):
            return event
        suppressed = self._sampling.admit(event["event"])
        if suppressed is None:
            SUPPRESSED.labels("ackstream").inc()
            raise structlog.DropEvent
        if suppressed:
            event["suppressed"] = suppressed
        return event


def _cut(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["event"] = event["event"].partition("\n")[0]
    if exc_info := event.pop("exc_info", None):
        event["error"] = exc_info[0].__name__
    return event


def _missing(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if suppressed := getattr(event["_record"], "suppressed", 0):
        event["suppressed"] = suppressed
    return event


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: _shown(value) for name, value in event.items()}


def _shown(value: object) -> object:
    if isinstance(value, str):
        return escape_unprintable(value)
    return [_shown(one) for one in value] if isinstance(value, list | tuple) else value
