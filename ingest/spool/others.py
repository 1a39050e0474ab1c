"""The folders of dead processes: those whose entries belong here are taken over, those of other owners reported."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import structlog

from ingest import metrics
from ingest.spool.errors import SpoolFault
from ingest.spool.file import SpoolFile
from ingest.spool.folder import Owner, SpoolFolder

log = structlog.get_logger("spool")


class OtherFolders:
    """Which folders this process has taken over, and how many entries others hold that are not its own."""

    def __init__(self) -> None:
        self.foreign_entries = 0
        """How many are in folders that belong to other owners, or perhaps do."""
        self._taken_over: list[SpoolFolder] = []
        self._foreign: dict[Path, int] = {}  # folders of other owners, and how many entries are in them

    def take_over(self, own: SpoolFolder, owner: Owner, left: Collection[Path]) -> Iterator[SpoolFolder]:
        """Lock and yield the folders whose entries are the owner's, but none with no files beside ``left``."""
        foreign: dict[Path, int] = {}
        for folder in own.others():
            if set(folder.path.glob("*.db")).issubset(left):
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

    def look_again(self) -> None:
        """Count and report at the next ``take_over`` those too that were reported before."""
        self._foreign = {}

    def release(self, but: Collection[Path] = ()) -> None:
        """Give back the folders that were taken over, but those at these paths."""
        for folder in [folder for folder in self._taken_over if folder.path not in but]:
            folder.release()
            self._taken_over.remove(folder)


def _report(folder: SpoolFolder, here: Owner) -> int:
    """Log that the entries of this folder are not drained here; return how many there are."""
    entries = 0
    for path in folder.files():
        file = SpoolFile.left(path)
        with suppress(SpoolFault):
            file.look()
        entries += file.rows
    owner = folder.owner
    if entries and here.server is not None:
        log.warning(
            "spool.foreign",
            folder=str(folder.path),
            entries=entries,
            stream=owner.stream if owner else "unknown",
            redis=owner.redis if owner else "unknown",
            what=f"not drained here; if they belong to this stream: ackstream spool adopt {folder.path.name}",
        )
    return entries
