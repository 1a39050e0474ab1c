"""The places on the disk: the spool of this machine and the archive."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from console.privacy.place import Pages, Unreachable
from console.privacy.places import FILES
from console.privacy.selection import Record, Selection
from ingest.spool import eraser as spool
from ingest.spool.errors import SpoolFault
from ingest.spool.folder import SpoolFolder, folders_in
from stream.entry import fields_from_flat
from stream.keys import Shard
from worker.retention import archive_eraser as archive
from worker.retention.archive_reader import ArchiveDamaged, ArchivedEntry, read_file

DRAFT_SECONDS = 60.0
POLL_SECONDS = 0.2


class SpooledFiles:
    """The spool folders of a data folder. Those of running processes are only looked at."""

    def __init__(self, data: Path) -> None:
        self.name = str(FILES["spool"].place)
        self.seen = 0
        self._data = data

    async def find(self, selection: Selection) -> Pages:
        """Yield the entries of the selection, one page for each file. Raises Unreachable at the end."""
        troubles: list[str] = []
        for folder in folders_in(self._data):
            for path in sorted(folder.glob("*.db")):
                try:
                    yield await asyncio.to_thread(self._find_in, path, selection)
                except SpoolFault as exc:
                    troubles.append(f"{path} cannot be read ({exc})")
            troubles += [f"{path} is damaged: salvage it or delete it" for path in sorted(folder.glob("*.damaged"))]
        if troubles:
            raise Unreachable("\n".join(troubles))

    async def erase(self, records: Sequence[Record], selection: Selection) -> Mapping[str, int]:
        """Erase the entries of the file of these records. Raises Unreachable."""
        path: Path = records[0].key
        folder = SpoolFolder.lock(path.parent)
        if folder is None:
            raise Unreachable(
                f"a running ingest has {len(records)} entries in {path.parent}: stop it, or restart it after it has "
                "drained them, and run the command again"
            )
        try:
            belongs = partial(_is_spooled_of, path, selection)
            return {self.name: await asyncio.to_thread(spool.erase_entries, path, belongs)}
        except SpoolFault as exc:
            raise Unreachable(f"{path} cannot be changed ({exc})") from None
        finally:
            folder.release()

    def _find_in(self, path: Path, selection: Selection) -> list[Record]:
        """Return the entries of the selection in a file. Raises SpoolFault."""
        records = []
        folder = SpoolFolder.lock(path.parent)
        try:
            for entry in spool.read_running(path) if folder is None else spool.read_entries(path):
                self.seen += 1
                record = _spooled(path, entry)
                if selection.has(record):
                    records.append(record)
        finally:
            if folder is not None:
                folder.release()
        return records


class ArchiveFiles:
    """The files of the archive with entries of one shard."""

    def __init__(self, folder: Path, shard: Shard) -> None:
        self.name = str(FILES["archive"].place)
        self.seen = 0
        self._folder = folder
        self._shard = shard

    async def find(self, selection: Selection) -> Pages:
        """Yield the entries of the selection, one page for each file. Raises Unreachable at the end."""
        troubles = await self._wait_for_drafts()
        try:
            files = await asyncio.to_thread(archive.list_files, self._folder, self._shard.stream)
        except (ArchiveDamaged, OSError) as exc:
            raise Unreachable(str(exc)) from None
        for file in files:
            try:
                yield await asyncio.to_thread(self._find_in, file, selection)
            except ArchiveDamaged as exc:
                troubles.append(f"{exc}: restore it, or delete it together with its line in the index")
        if troubles:
            raise Unreachable("\n".join(troubles))

    async def erase(self, records: Sequence[Record], selection: Selection) -> Mapping[str, int]:
        """Write the file of these records again without them. Raises Unreachable."""
        file: archive.ArchiveFile = records[0].key
        try:
            with archive.lock_archive(self._folder):
                belongs = partial(_belongs, self._shard, selection)
                return {self.name: await asyncio.to_thread(archive.erase_entries, file, belongs)}
        except archive.ArchiveLocked:
            raise Unreachable(f"another process erases entries of {self._folder}: run the command again") from None
        except (ArchiveDamaged, OSError) as exc:
            raise Unreachable(f"{file.path.name} cannot be written again ({exc})") from None

    async def _wait_for_drafts(self) -> list[str]:
        """Wait until a trimmer has finished the files that it is writing: they may have entries of the selection."""
        deadline, drafts = time.monotonic() + DRAFT_SECONDS, set(archive.list_drafts(self._folder, self._shard.number))
        while drafts and time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)
            drafts &= set(archive.list_drafts(self._folder, self._shard.number))
        return [f"{path} is unfinished: run the command again in an hour" for path in sorted(drafts)]

    def _find_in(self, file: archive.ArchiveFile, selection: Selection) -> list[Record]:
        records = []
        for stream, entry in read_file(file.path, file.shard):
            self.seen += 1
            record = _archived(self._shard, entry, file)
            if stream == self._shard.stream and selection.has(record):
                records.append(record)
        return records


def _spooled(path: Path, entry: spool.SpooledEntry) -> Record:
    return Record(path, fields_from_flat(entry.flat))


def _is_spooled_of(path: Path, selection: Selection, entry: spool.SpooledEntry) -> bool:
    return selection.has(_spooled(path, entry))


def _belongs(shard: Shard, selection: Selection, entry: ArchivedEntry) -> bool:
    return selection.has(_archived(shard, entry, None))


def _archived(shard: Shard, entry: ArchivedEntry, key: Any) -> Record:
    return Record(key, entry.fields, f"{shard.number}/{entry.id.redis}")
