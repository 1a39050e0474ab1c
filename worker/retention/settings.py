"""Settings of what reads or writes the archive."""

from pathlib import Path

from pydantic import Field

from stream.settings import StreamSettings


class ArchiveSettings(StreamSettings):
    """What ``ackstream replay`` needs, and no more: a wrong setting of the worker does not stop it."""

    archive: Path | None = Field(None, description="a folder that keeps entries after they are trimmed")
