"""Checks the spool: its folder, its volume and file system, and the entries that wait in it."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from console.doctor.daemon_thread import run_in_daemon
from console.doctor.finding import Finding, make_finding
from console.doctor.setup import Setup
from console.format import format_size
from console.queries.spool import SpoolState, list_folders
from ingest.settings import IngestSettings
from ingest.spool.file_set import FREE_BYTES, FREE_SHARE
from ingest.spool.folder import Owner
from runtime.errors import CommandError
from stream.redis.client import redact_url
from stream.server_id import read_server_id

NETWORK = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gfs2", "ocfs2")
)
LOCAL_FUSE = frozenset(("fuse.ext4", "fuseblk", "fuse.lxcfs"))
MEMORY = frozenset(("tmpfs", "ramfs"))
CONTAINER = frozenset(("overlay", "aufs"))
FEWEST_FILES = 1000


async def check_spool(server: Redis, setup: Setup) -> Sequence[Finding]:
    """Return the findings about the spool of ingest. Works without Redis. The disk is asked in a thread."""
    ingest = setup.ingest
    if ingest is None:
        return []
    try:
        identity = await read_server_id(server, ingest.shard)
    except (RedisError, OSError):
        identity = None
    owner = Owner(ingest.shard.stream, redact_url(ingest.redis_url), identity)
    return await run_in_daemon(lambda: list(_look(ingest, owner, setup.mounts())))


def _look(ingest: IngestSettings, owner: Owner, mounts: str) -> Iterator[Finding]:
    spool = ingest.data.absolute() / "spool"
    folder = next(path for path in (spool, *spool.parents) if path.exists())
    if error := _explain_unwritable(folder):
        yield make_finding("spool.unwritable", path=spool, error=error)
        return
    yield from judge_file_system(find_file_system(mounts, folder.resolve()))
    yield from judge_room(os.statvfs(folder), ingest.spool_bytes, folder)
    try:
        states = list_folders(ingest.data, owner)
    except CommandError as exc:
        yield make_finding("spool.unwritable", path=spool, error=str(exc))
        return
    for state in states:
        yield from judge_folder(state)


def _explain_unwritable(folder: Path) -> str:
    if not folder.is_dir():
        return "a file has its name"
    return "" if os.access(folder, os.W_OK | os.X_OK) else "this user may not write there"


def find_file_system(mounts: str, folder: Path) -> str:
    """Return the type of the file system of a folder, from the text of Linux's mountinfo; empty if not known.

    https://docs.kernel.org/filesystems/proc.html#proc-pid-mountinfo-information-about-mounts
    """
    kinds: dict[Path, str] = {}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if len(words := before.split(" ")) > 4 and after:  # noqa: PLR2004 - the fifth is the mount point
            point = words[4].encode().decode("unicode_escape")  # a blank is \040
            kinds[Path(point)] = after.split(" ")[0]
    return next((kinds[path] for path in (folder, *folder.parents) if path in kinds), "")


def judge_file_system(kind: str) -> Iterator[Finding]:
    """Yield a finding about a file system that does not keep what was written, or on which locks may not hold."""
    if kind in NETWORK or (kind.startswith("fuse") and kind not in LOCAL_FUSE):
        yield make_finding("spool.network", kind=kind)
    elif kind in MEMORY:
        yield make_finding("spool.memory", kind=kind)
    elif kind in CONTAINER:
        yield make_finding("spool.container-layer", kind=kind)


def judge_room(volume: os.statvfs_result, limit: int, folder: Path) -> Iterator[Finding]:
    """Yield a finding if the volume has less room than the spool may need. Ingest always leaves some room free."""
    free, total = volume.f_bavail * volume.f_frsize, volume.f_blocks * volume.f_frsize
    usable = free - min(FREE_BYTES, int(total * FREE_SHARE))
    if usable <= 0:
        yield make_finding("spool.no-room", free=format_size(free), path=folder)
    elif usable < limit:
        yield make_finding("spool.little-room", free=format_size(free), limit=format_size(limit), path=folder)
    if volume.f_files and volume.f_favail < FEWEST_FILES:
        yield make_finding("spool.no-inodes", files=volume.f_favail, path=folder)


def judge_folder(state: SpoolState) -> Iterator[Finding]:
    """Yield the findings about one folder. A running ingest drains its own."""
    if state.state == "waiting":
        yield make_finding("spool.waiting", folder=state.folder, entries=state.entries)
    elif state.state == "foreign":
        owner = f"{state.owner.stream} at {state.owner.redis}" if state.owner else "an unknown stream"
        yield make_finding("spool.foreign", folder=state.folder, entries=state.entries, owner=owner)
    if state.damaged_files:
        yield make_finding("spool.damaged", folder=state.folder, files=state.damaged_files, path=state.path)
