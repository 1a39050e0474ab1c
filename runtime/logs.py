"""Logs: one line per batch or event of interest, a constant dotted name and key=value pairs.

Never a payload, a token, a secret or a whole phone number. So of a foreign logger's line only the first one is kept,
and of its traceback the exception's class: the rest may quote what a client sent. What does not print is escaped. Of
lines that a client can cause there are only so many each second: all of foreign loggers, and those of ours that are
written with ``sampled=True``; ``suppressed`` says how many are missing before a line.
"""

import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from runtime.escape import printable
from runtime.log_throttle import Sampled, Sampling
from runtime.metrics import SUPPRESSED

_SHARED: list[structlog.typing.Processor] = [
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(log_format: Literal["text", "json"]) -> None:
    """Send structlog's and the standard library's logs to standard output in one form."""
    shared, renderer = _SHARED, _renderer(log_format, sys.stdout)
    structlog.configure(
        processors=[_Sample(), *shared, structlog.processors.format_exc_info, _printable, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),  # one write a line: processes share the output
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(Sampled(Sampling()))
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


def line(log_format: Literal["text", "json"], event: str, **pairs: object) -> None:
    """Write one line to standard error: for a command, whose standard output is its answer."""
    processors = [*_SHARED, _printable, _renderer(log_format, sys.stderr)]
    logger = structlog.wrap_logger(structlog.WriteLogger(sys.stderr), processors)
    logger.info(event, **pairs)


def _renderer(log_format: Literal["text", "json"], output: TextIO) -> structlog.typing.Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=output.isatty(), pad_event_to=24, sort_keys=False)


class _Sample:
    """Samples our own lines that ask for it, by the event's name."""

    def __init__(self) -> None:
        self._sampling = Sampling()

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
        return printable(value)
    return [_shown(one) for one in value] if isinstance(value, list | tuple) else value
