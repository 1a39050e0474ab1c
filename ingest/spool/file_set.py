"""The spool's files that this process uses, oldest first: it decides where to write entries and which to read next.

New entries go to the newest file of the process's own folder, up to FILE_BYTES. A failing file is sealed: it accepts no
more entries, a new file is created, and the sealed one is still drained. A damaged file is drained as far as it can be
read, and then set aside. A drained file is deleted. Not thread-safe: ``queue`` calls it from one thread.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import structlog

from ingest import metrics
from ingest.encoding import Packed
from ingest.spool.errors import Damaged, Failing, Full, NotSpooled, SpoolFault, Why, translate_errors
from ingest.spool.file import REMOVED, Chunk, SpoolFile
from ingest.spool.folder import Owner, SpoolFolder, find_server
from ingest.spool.others import OtherFolders
from ingest.spool.record import Held, entries_bytes
from runtime.errors import CommandError

log = structlog.get_logger("spool")

SLICE_BYTES = 4 * 1024 * 1024
FILE_BYTES = 64 * 1024 * 1024  # per file; small files give disk space back early
RECLAIM_BYTES = 8 * 1024 * 1024
FREE_BYTES, FREE_SHARE = 256 * 1024 * 1024, 0.05  # of the volume stay free; the smaller of the two
CREATE_SECONDS, FAILING_SECONDS = 1.0, 60.0


class SpoolFiles:
    """The files of this process's locked folder, and of folders that it took over from dead processes."""

    def __init__(self, data: Path, owner: Owner, limit_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Lock a folder. Raises CommandError if none can be locked."""
        self.held = Held()
        self._data = data
        self._owner = owner
        self._folder = SpoolFolder.claim(data, owner)
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._writer: SpoolFile | None = None
        self._older: list[SpoolFile] = []
        self._others = OtherFolders()
        self._abandoned: set[Path] = set()  # files that could not be read, renamed or deleted
        self._create_at = clock()
        self._failing_until: dict[Path, float] = {}

    @property
    def foreign_entries(self) -> int:
        """The number of entries in folders of other owners, or of unknown ones."""
        return self._others.foreign_entries

    def open(self) -> None:
        """Inspect the files of the folder, and create a new one, because the old ones may have failed before."""
        self._add_files(self._folder)
        try:
            self._writer = self._create_file()
        except NotSpooled as exc:
            log.warning("spool.unavailable", why=exc.why, meaning=str(exc))
        self.take_over()

    def propose_id(self) -> str:
        """Return an id for a server without one: the id recorded for this stream and address, else a new one."""
        return self._owner.server or find_server(self._data, self._owner) or secrets.token_hex(8)

    def bind(self, server: str) -> None:
        """Drain entries of the server with this id from now on."""
        owner = replace(self._owner, server=server)
        if owner == self._owner:
            return
        if self._owner.server is not None:
            log.error("spool.server_changed", folder=str(self._folder.path), entries=self.held.entries)
            self.close()
            self._older, self._writer = [], None
            self._folder = SpoolFolder.claim(self._data, owner)
        self._owner = owner
        try:
            self._folder.write_owner(owner)
        except OSError as exc:
            log.warning("spool.owner_not_noted", folder=str(self._folder.path), error=type(exc).__name__)
        self._others.reset_reports()
        self.take_over()

    def put(self, entries: Sequence[Packed]) -> None:
        """Return when the entries are on the disk. Raises NotSpooled if they are not, or may not be."""
        if why := self.find_shortage(entries_bytes(entries)):
            raise NotSpooled(why)
        if self._writer is not None and self._writer.written_bytes >= FILE_BYTES:
            self._older.append(self._writer)
            self._writer.close()
            self._writer = None
        for _ in range(2):
            self._writer = self._writer or self._create_file()
            try:
                self._writer.put(entries)
            except Full:
                raise NotSpooled("disk") from None
            except SpoolFault as exc:
                self._seal(self._writer, exc)
            else:
                self._count()
                return
        raise NotSpooled("failing")

    def check(self) -> Why | None:
        """Copy the entries of removed files, before they end with this process, and return as ``find_shortage``."""
        why = self.find_shortage()
        with suppress(SpoolFault, NotSpooled):
            for file in [file for file in self._files() if file.is_removed]:
                self._rescue(file)
        self._count()
        return why

    def find_shortage(self, size: int = 1) -> Why | None:
        """Return the reason why the spool cannot store ``size`` bytes, or None if it can."""
        if self.held.bytes + size > self._limit_bytes:
            return "full"
        try:
            self._require_folder()
            free, total = self._folder.free_bytes()
        except (SpoolFault, CommandError):
            return "failing"
        return "volume" if free - size < min(FREE_BYTES, total * FREE_SHARE) else None

    def read(self, max_entries: int) -> Chunk | None:
        """Return the oldest entries; None if the spool is empty or cannot be read now."""
        part = self._next_part(max_entries)
        self._count()  # a damaged file may hold more or fewer entries than its marks say
        return part

    def confirm(self, part: Chunk) -> None:
        """Mark entries as confirmed by Redis."""
        file, confirmed = part.file, part.slice
        if file not in self._files():  # it was removed: its copy is drained
            return
        metrics.SPOOL_DRAINED.inc(len(confirmed.entries))
        if confirmed.damaged:
            metrics.SPOOL_SET_ASIDE.inc(confirmed.damaged)
            log.error("spool.entries_damaged", file=str(file.path), entries=confirmed.damaged)
        try:
            file.confirm(confirmed)
        except SpoolFault as exc:
            self._seal(file, exc)
        self._retire_if_damaged(file)
        if not file.rows and not file.damaged:
            self._finish(file)
        self._count()

    def take_over(self) -> None:
        """Lock the folders of dead processes whose entries belong to this owner, and report those of other owners."""
        for folder in self._others.take_over(self._folder, self._owner, self._abandoned):
            self._add_files(folder)
        self._release()
        self._count()

    def close(self) -> None:
        """Close all files. Undrained entries stay for the next start, or for another process."""
        self.check()
        for file in self._files():
            if file is self._writer and not file.rows:
                self._drop(file)
            file.close()
        self._others.release()
        self._folder.release()

    def _files(self) -> list[SpoolFile]:
        return [*self._older, *([self._writer] if self._writer else [])]

    def _next_part(self, max_entries: int) -> Chunk | None:
        for file in self._files():
            if self._failing_until.get(file.path, 0.0) > self._clock():
                continue
            rows_before = file.rows
            try:
                entries = file.read(max_entries, SLICE_BYTES) if file.rows or file.damaged else None
            except SpoolFault as exc:
                self._wait_for(file, exc)
                continue
            metrics.SPOOL_FOUND.inc(max(0, file.rows - rows_before))
            self._retire_if_damaged(file)
            if entries is not None:
                return Chunk(file, entries)
            self._finish(file)
        return None

    def _rescue(self, file: SpoolFile) -> None:
        if not file.sealed:
            self._seal(file, Failing(REMOVED))
        if file in self._older:  # it has entries
            self._create_at = self._clock()
            self._writer = self._writer or self._create_file()
            file.copy_to(self._writer)
            self._older.remove(file)
            file.close()

    def _require_folder(self) -> None:
        """Lock a folder again if ours was removed. Raises CommandError if none can be locked."""
        if (removed := self._folder).is_removed:
            log.error("spool.folder_removed", folder=str(removed.path))
            self._folder = SpoolFolder.claim(self._data, self._owner)
            removed.release()
            self._add_files(self._folder)

    def _create_file(self) -> SpoolFile:
        if self._clock() < self._create_at:
            raise NotSpooled("failing")
        try:
            with translate_errors():
                self._folder.write_owner(self._owner)  # without a right owner the entries would go to another server
            return SpoolFile.create(self._folder.next_file())
        except Full:
            raise NotSpooled("disk") from None
        except (SpoolFault, OSError):
            self._create_at = self._clock() + CREATE_SECONDS
            raise NotSpooled("failing") from None

    def _add_files(self, folder: SpoolFolder) -> None:
        for path in folder.files():
            if path in self._abandoned:
                continue
            file = SpoolFile.recover(path)
            self._older.append(file)
            try:
                file.inspect()
            except Damaged as exc:
                self._seal(file, exc)
            except SpoolFault as exc:
                self._wait_for(file, exc)
            metrics.SPOOL_FOUND.inc(file.rows)
            log.info("spool.found", file=str(path), entries=file.rows, damaged=file.damaged)

    def _seal(self, file: SpoolFile, exc: SpoolFault) -> None:
        """Stop writing to a file. Its entries are still drained."""
        file.sealed = True
        file.damaged |= isinstance(exc, Damaged)
        metrics.SPOOL_FILES.labels("damaged" if file.damaged else "failing").inc()
        log.error("spool.sealed", file=str(file.path), error=str(exc), entries=file.rows)
        if file is self._writer:
            self._create_at = self._clock() + CREATE_SECONDS
            self._writer = None
            self._older.append(file)
            if not file.rows and not file.damaged:
                self._finish(file)

    def _retire_if_damaged(self, file: SpoolFile) -> None:
        if file.damaged and file is self._writer:
            self._seal(file, Damaged("detected in use"))

    def _finish(self, file: SpoolFile) -> None:
        """Delete a drained file, or set it aside if it is damaged. The current file is deleted only if it is large."""
        if file.damaged:
            self._older.remove(file)
            self._set_aside(file, "drained as far as it could be read")
        elif file is not self._writer:
            self._older.remove(file)
            self._drop(file)
        elif file.behind or file.size_bytes() > RECLAIM_BYTES:
            self._writer = None
            self._drop(file)
        self._release()

    def _wait_for(self, file: SpoolFile, exc: SpoolFault) -> None:
        """Do not read the file again for FAILING_SECONDS."""
        self._failing_until[file.path] = self._clock() + FAILING_SECONDS
        log.warning("spool.unreadable", file=str(file.path), error=str(exc), again_seconds=FAILING_SECONDS)

    def _set_aside(self, file: SpoolFile, why: str) -> None:
        metrics.SPOOL_SET_ASIDE.inc(file.rows)
        try:
            aside = file.set_aside()
        except SpoolFault as exc:
            self._abandon(file.path, exc)
        else:
            log.error("spool.set_aside", file=str(aside), why=why, entries_lost=file.rows)

    def _drop(self, file: SpoolFile) -> None:
        try:
            file.remove()
        except SpoolFault as exc:
            self._abandon(file.path, exc)

    def _abandon(self, path: Path, exc: SpoolFault) -> None:
        self._abandoned.add(path)  # until the next start
        metrics.SPOOL_FILES.labels("failing").inc()
        log.error("spool.left", file=str(path), error=str(exc), what="the next start tries again")

    def _release(self) -> None:
        self._others.release(keep={file.path.parent for file in self._older})

    def _count(self) -> None:
        files = self._files()
        oldest = min((file.oldest_ms for file in files if file.oldest_ms is not None), default=None)
        self.held = Held(sum(file.rows for file in files), sum(file.bytes for file in files), oldest)
        metrics.SPOOL_ENTRIES.set(self.held.entries)
        metrics.SPOOL_BYTES.set(self.held.bytes)
