"""What lies in the folders of a spool, for who does not drain them."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from ingest.spool.errors import SpoolFault
from ingest.spool.file import SpoolFile
from ingest.spool.folder import Owner, SpoolFolder, folders_in, read_owner

log = structlog.get_logger("spool")


def look_at_files(folder: SpoolFolder) -> Sequence[SpoolFile]:
    """Return the files of a folder that this process has locked, closed, with their counts as far as is known."""
    files = [SpoolFile.left(path) for path in folder.files()]
    for file in files:
        with suppress(SpoolFault):
            file.look()
    return files


def find_server_id(data: Path, owner: Owner) -> str | None:
    """Return the server's id that a folder has noted for this stream and address; None if none has."""
    for path in folders_in(data):
        found = read_owner(path)
        if found and found.server and (found.stream, found.redis) == (owner.stream, owner.redis):
            return found.server
    return None


def report_foreign(folder: SpoolFolder, entries: int) -> None:
    """Log that these entries are not drained here, and what to do."""
    owner = folder.owner
    log.warning(
        "spool.foreign",
        folder=str(folder.path),
        entries=entries,
        stream=owner.stream if owner else "unknown",
        redis=owner.redis if owner else "unknown",
        what=f"not drained here; if they belong to this stream: ackstream spool adopt {folder.path.name}",
    )
