"""Checks the spool: its folder, its volume and file system, and the entries that wait in it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from console.doctor.daemon_thread import run_in_daemon
from console.doctor.file_systems import Weakness, explain_unwritable, find_existing, find_file_system, find_weakness
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

WEAKNESSES: Mapping[Weakness, str] = {
    Weakness.NETWORK: "spool.network",
    Weakness.MEMORY: "spool.memory",
    Weakness.CONTAINER: "spool.container-layer",
}
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
    folder = find_existing(spool)
    if error := explain_unwritable(folder):
        yield make_finding("spool.unwritable", path=spool, error=error)
        return
    kind = find_file_system(mounts, folder.resolve())
    if weakness := find_weakness(kind):
        yield make_finding(WEAKNESSES[weakness], kind=kind)
    yield from judge_room(os.statvfs(folder), ingest.spool_bytes, folder)
    try:
        states = list_folders(ingest.data, owner)
    except CommandError as exc:
        yield make_finding("spool.unwritable", path=spool, error=str(exc))
        return
    for state in states:
        yield from judge_folder(state)


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
