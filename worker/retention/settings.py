"""Settings of the trimmer and the archive."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from stream.settings import StreamSettings

UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
LONGEST_DAYS = 36_500


def _duration(value: str) -> str:
    if value != "off" and not 0 < _duration_ms(value) <= LONGEST_DAYS * UNIT_MS["d"]:
        raise ValueError
    return value


def _duration_ms(value: str) -> int:
    if not re.fullmatch(r"\d{1,8}[mhd]", value, re.ASCII):
        raise ValueError
    return int(value[:-1]) * UNIT_MS[value[-1]]


class ArchiveSettings(StreamSettings):
    """The settings of ``ackstream replay``, which works even if a setting of the worker is invalid."""

    archive: Path | None = Field(None, description="a folder that keeps entries after they are trimmed")


class RetentionSettings(ArchiveSettings):
    """The settings of the trimmer."""

    retention: Annotated[str, AfterValidator(_duration)] = Field(
        "7d", description="how long entries stay on the stream: a number with m, h or d, such as 90m, 12h or 7d; or off"
    )
    retention_bytes: int | None = Field(
        None, ge=1024**2, description="the greatest size of the stream in bytes, at least 1048576"
    )

    @property
    def retention_ms(self) -> int | None:
        """How long entries stay on the stream, in ms; None if this worker does not trim."""
        return None if self.retention == "off" else _duration_ms(self.retention)
