"""The folders of dead processes: those of the same owner are taken over, those of other owners are reported."""

from collections.abc import Collection, Iterator
from pathlib import Path

import structlog

from ingest import metrics
from ingest.spool.file import SpoolFile
from ingest.spool.folder import Owner, SpoolFolder

log = structlog.get_logger("spool")


class OtherFolders:
    """The folders that this process has taken over, and the number of entries in folders of other owners."""

    def __init__(self) -> None:
        self.foreign_entries = 0
        """The number of entries in folders of other owners, or of unknown ones."""
        self._taken_over: list[SpoolFolder] = []
        self._foreign: dict[Path, int] = {}  # folders of other owners, and the number of their entries

    def take_over(self, current: SpoolFolder, owner: Owner, abandoned: Collection[Path]) -> Iterator[SpoolFolder]:
        """Lock and yield the folders of this owner, except those that hold only ``abandoned`` files."""
        foreign: dict[Path, int] = {}
        for folder in current.lock_others():
            if set(folder.path.glob("*.db")).issubset(abandoned):
                folder.release()
            elif owner.owns(folder.owner):
                log.info("spool.taken_over", folder=str(folder.path))
                self._taken_over.append(folder)
                yield folder
            else:
                foreign[folder.path] = self._foreign.get(folder.path) or _report(folder, owner)
                folder.release()
        self._foreign = foreign
        self.foreign_entries = sum(foreign.values())
        metrics.SPOOL_FOREIGN.set(self.foreign_entries)

    def reset_reports(self) -> None:
        """Count and report all folders of other owners again at the next ``take_over``."""
        self._foreign = {}

    def release(self, keep: Collection[Path] = ()) -> None:
        """Unlock the folders that were taken over, except those at these paths."""
        for folder in [folder for folder in self._taken_over if folder.path not in keep]:
            folder.release()
            self._taken_over.remove(folder)


def _report(folder: SpoolFolder, current: Owner) -> int:
    """Log that this process does not drain the folder; return the number of its entries."""
    entries = sum(SpoolFile.peek(path).rows for path in folder.files())
    owner = folder.owner
    if entries and current.server is not None:
        log.warning(
            "spool.foreign",
            folder=str(folder.path),
            entries=entries,
            stream=owner.stream if owner else "unknown",
            redis=owner.redis if owner else "unknown",
            what=f"not drained here; if they belong to this stream: ackstream spool adopt {folder.path.name}",
        )
    return entries
