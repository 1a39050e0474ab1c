"""Settings of the trimmer, the archive and the cleaner."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from stream.settings import StreamSettings

UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
LONGEST_DAYS = 36_500
AGES = ("tables", "dead_letters", "history", "invalid", "quarantine", "archive")
"""The kinds of records with a greatest age."""


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


def parse_age(value: str) -> int | None:
    """Return a valid age in ms; None for ``off``."""
    return None if value == "off" else _duration_ms(value)


Age = Annotated[str, AfterValidator(_duration)]


def _age(records: str) -> str:
    return f"how long {records} stay: a number with m, h or d, such as 400d; or off"


class RetentionSettings(ArchiveSettings):
    """The settings of the trimmer and of the cleaner."""

    retention: Age = Field(
        "7d", description="how long entries stay on the stream: a number with m, h or d, such as 90m, 12h or 7d; or off"
    )
    retention_bytes: int | None = Field(
        None, ge=1024**2, description="the greatest size of the stream in bytes, at least 1048576"
    )

    tables_retention: Age = Field("off", description=_age("messages with their events in the tables"))
    dead_letters_retention: Age = Field("off", description=_age("dead letters"))
    history_retention: Age = Field("off", description=_age("outcomes in the history of a group"))
    invalid_retention: Age = Field("off", description=_age("recorded invalid payloads"))
    quarantine_retention: Age = Field("off", description=_age("payloads in the quarantine"))
    archive_retention: Age = Field("off", description=_age("files of the archive"))

    @property
    def ages_ms(self) -> Mapping[str, int | None]:
        """The greatest age of each kind of records in ms, by the names of the settings; None for no limit."""
        return {name: parse_age(getattr(self, f"{name}_retention")) for name in AGES}

    @property
    def retention_ms(self) -> int | None:
        """How long entries stay on the stream, in ms; None if this worker does not trim."""
        return parse_age(self.retention)
