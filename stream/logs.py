"""Logs: one line per batch or event of interest, a constant dotted name and key=value pairs.

Never a payload, a token, a secret or a whole phone number. So a foreign logger's traceback is cut down to the
exception's class: its text may quote what a client sent.
"""

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, WrappedLogger


def configure(log_format: Literal["text", "json"]) -> None:
    """Send structlog's and the standard library's logs to standard output in one form."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), pad_event_to=24, sort_keys=False)
    )
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),  # one write a line: processes share the output
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
            ],
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, _only_class],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _only_class(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if exc_info := event.pop("exc_info", None):
        event["error"] = exc_info[0].__name__
    return event
