"""Times of a filter: the text of a field, and the time that it means."""

import time
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from console.time_args import parse_time_ms
from runtime.errors import CommandError


def _check(text: str) -> str:
    parse_moment(text)
    return text


def parse_moment(text: str) -> datetime:
    """Return the time of a text: ISO 8601, without a zone in UTC, or an age such as 24h. Raises ValueError."""
    try:
        ms = parse_time_ms(text, int(time.time() * 1000))
    except CommandError as exc:
        raise ValueError(str(exc)) from None
    return datetime.fromtimestamp(ms / 1000, UTC)


MomentText = Annotated[str, StringConstraints(max_length=40), AfterValidator(_check)]
