"""All files of the spool that this process works on, oldest first: where to put entries, and what to read next.

The newest file of the own folder takes what is put, up to FILE_BYTES. A file that fails is sealed: it takes nothing
more, a new one is begun, and what is in it is read all the same. A damaged one is read as far as it can be, and set
aside. One that has been drained is deleted. Not safe for threads: ``queue`` gives all of it to one.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from ingest import metrics
from ingest.encoding import Packed
from ingest.spool.errors import Damaged, Full, NotSpooled, SpoolFault, Why
from ingest.spool.file import SpoolFile
from ingest.spool.folder import Owner, SpoolFolder, folders_in, read_owner
from ingest.spool.others import OtherFolders
from ingest.spool.record import Slice, size_of

log = structlog.get_logger("spool")

SLICE_BYTES = 4 * 1024 * 1024
FILE_BYTES = 64 * 1024 * 1024  # what is put into one file; then a new one is begun, so that space is given back
RECLAIM_BYTES = 8 * 1024 * 1024
FREE_BYTES, FREE_SHARE = 256 * 1024 * 1024, 0.05  # of the volume stay free, whichever is less
BEGIN_SECONDS = 1.0
FAILING_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Held:
    """What the spool holds, as far as is known."""

    entries: int = 0
    bytes: int = 0
    oldest_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Entries to be given to Redis, and the file that they are from."""

    file: SpoolFile
    slice: Slice


class SpoolFiles:
    """The files of one locked folder, and of those taken over from the dead."""

    def __init__(self, data: Path, owner: Owner, limit_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Lock a folder. Raises Refusal if there can be none."""
        self.held = Held()
        self._data = data
        self._owner = owner
        self._folder = SpoolFolder.claim(data, owner)
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._writer: SpoolFile | None = None
        self._older: list[SpoolFile] = []
        self._others = OtherFolders()
        self._left: set[Path] = set()  # files that could be neither read nor deleted
        self._begin_at = clock()
        self._failing_until: dict[Path, float] = {}

    @property
    def foreign_entries(self) -> int:
        """How many are in folders that belong to other owners, or perhaps do."""
        return self._others.foreign_entries

    def open(self) -> None:
        """Find what is in the folder, and begin a new file: the old ones may have failed an earlier process."""
        self._find(self._folder)
        try:
            self._writer = self._begun()
        except NotSpooled as exc:
            log.warning("spool.unavailable", why=exc.why, meaning=str(exc))
        self.take_over()

    def proposed_id(self) -> str:
        """Return the id to give a server that has none: the one known for this stream and address, else a new one.

        So a server that came back without its data is the same one to the spool.
        """
        recorded = (owner for path in folders_in(self._data) if (owner := read_owner(path)))
        mine = (
            owner.server for owner in recorded if (owner.stream, owner.redis) == (self._owner.stream, self._owner.redis)
        )
        return self._owner.server or next(filter(None, mine), None) or secrets.token_hex(8)

    def bind(self, server: str) -> None:
        """Drain from now on what belongs to the server with this id, which Redis has told."""
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
        self._others.look_again()
        self.take_over()

    def put(self, entries: Sequence[Packed]) -> None:
        """Return when they are on the disk. Raises NotSpooled if they are not, or may not stay there."""
        if why := self.why_not(size_of(entries)):
            raise NotSpooled(why)
        if self._writer is not None and self._writer.written_bytes >= FILE_BYTES:
            self._older.append(self._writer)
            self._writer.close()
            self._writer = None
        for _ in range(2):
            self._writer = self._writer or self._begun()
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

    def why_not(self, size: int = 1) -> Why | None:
        """Return why there is no room for so many bytes; None if there is."""
        if self.held.bytes + size > self._limit_bytes:
            return "full"
        try:
            free, total = self._folder.free_bytes()
        except SpoolFault:
            return "failing"
        return "volume" if free - size < min(FREE_BYTES, total * FREE_SHARE) else None

    def read(self, most_entries: int) -> Chunk | None:
        """Return the oldest entries; None if there are none, or none that can be read now."""
        part = self._next_part(most_entries)
        self._count()  # a file that proves to be damaged holds more or less than was known
        return part

    def confirm(self, part: Chunk) -> None:
        """Forget these entries: Redis has confirmed them."""
        file, found = part.file, part.slice
        metrics.SPOOL_DRAINED.inc(len(found.entries))
        if found.damaged:
            metrics.SPOOL_SET_ASIDE.inc(found.damaged)
            log.error("spool.entries_damaged", file=str(file.path), entries=found.damaged)
        try:
            file.confirm(found)
        except SpoolFault as exc:
            self._seal(file, exc)
        self._retire_if_damaged(file)
        if not file.rows and not file.damaged:
            self._finish(file)
        self._count()

    def take_over(self) -> None:
        """Lock the folders of dead processes whose entries belong here, and report those of other owners."""
        for folder in self._others.take_over(self._folder, self._owner, self._left):
            self._find(folder)
        self._release()
        self._count()

    def close(self) -> None:
        """Close everything; what is not drained stays for the next start, or for another process."""
        for file in self._files():
            if file is self._writer and not file.rows:
                self._drop(file)
            file.close()
        self._others.release()
        self._folder.release()

    def _files(self) -> list[SpoolFile]:
        return [*self._older, *([self._writer] if self._writer else [])]

    def _next_part(self, most_entries: int) -> Chunk | None:
        for file in self._files():
            if self._failing_until.get(file.path, 0.0) > self._clock():
                continue
            known = file.rows
            try:
                found = file.read(most_entries, SLICE_BYTES) if file.rows or file.damaged else None
            except SpoolFault as exc:
                self._wait_for(file, exc)
                continue
            metrics.SPOOL_FOUND.inc(max(0, file.rows - known))
            self._retire_if_damaged(file)
            if found is not None:
                return Chunk(file, found)
            self._finish(file)
        return None

    def _begun(self) -> SpoolFile:
        if self._clock() < self._begin_at:
            raise NotSpooled("failing")
        try:
            return SpoolFile.create(self._folder.next_file())
        except Full:
            raise NotSpooled("disk") from None
        except (SpoolFault, OSError):
            self._begin_at = self._clock() + BEGIN_SECONDS
            raise NotSpooled("failing") from None

    def _find(self, folder: SpoolFolder) -> None:
        for path in folder.files():
            if path in self._left:
                continue
            file = SpoolFile.left(path)
            self._older.append(file)
            try:
                file.look()
            except Damaged as exc:
                self._seal(file, exc)
            except SpoolFault as exc:
                self._wait_for(file, exc)
            metrics.SPOOL_FOUND.inc(file.rows)
            log.info("spool.found", file=str(path), entries=file.rows, damaged=file.damaged)

    def _seal(self, file: SpoolFile, exc: SpoolFault) -> None:
        """Put nothing more into it. What is in it is read all the same."""
        file.sealed = True
        file.damaged |= isinstance(exc, Damaged)
        metrics.SPOOL_FILES.labels("damaged" if file.damaged else "failing").inc()
        log.error("spool.sealed", file=str(file.path), error=str(exc), entries=file.rows)
        if file is self._writer:
            self._begin_at = self._clock() + BEGIN_SECONDS
            self._writer = None
            self._older.append(file)
            if not file.rows and not file.damaged:
                self._finish(file)

    def _retire_if_damaged(self, file: SpoolFile) -> None:
        if file.damaged and file is self._writer:
            self._seal(file, Damaged("found in use"))

    def _finish(self, file: SpoolFile) -> None:
        """Do with it what is to be done when there is nothing left in it to read."""
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
        """Leave it alone for a while."""
        self._failing_until[file.path] = self._clock() + FAILING_SECONDS
        log.warning("spool.unreadable", file=str(file.path), error=str(exc), again_seconds=FAILING_SECONDS)

    def _set_aside(self, file: SpoolFile, why: str) -> None:
        metrics.SPOOL_SET_ASIDE.inc(file.rows)
        try:
            aside = file.set_aside()
        except SpoolFault as exc:
            self._leave(file.path, exc)
        else:
            log.error("spool.set_aside", file=str(aside), why=why, entries_lost=file.rows)

    def _drop(self, file: SpoolFile) -> None:
        try:
            file.remove()
        except SpoolFault as exc:
            self._leave(file.path, exc)

    def _leave(self, path: Path, exc: SpoolFault) -> None:
        """Touch it no more in this process."""
        self._left.add(path)
        metrics.SPOOL_FILES.labels("failing").inc()
        log.error("spool.left", file=str(path), error=str(exc), what="the next start tries again")

    def _release(self) -> None:
        """Give back the folders that were taken over and are done with."""
        self._others.release(but={file.path.parent for file in self._older})

    def _count(self) -> None:
        files = self._files()
        oldest = min((file.oldest_ms for file in files if file.oldest_ms is not None), default=None)
        self.held = Held(sum(file.rows for file in files), sum(file.bytes for file in files), oldest)
        metrics.SPOOL_ENTRIES.set(self.held.entries)
        metrics.SPOOL_BYTES.set(self.held.bytes)
