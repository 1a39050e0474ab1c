"""Checks that workers can write the archive: without it they trim nothing, and the stream fills Redis."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from console.doctor.daemon_thread import run_in_daemon
from console.doctor.file_systems import explain_unwritable, find_existing
from console.doctor.finding import Finding, make_finding
from console.doctor.setup import Setup
from console.format import format_size
from worker.retention.archive_writer import FILE_BYTES


async def check_archive(setup: Setup) -> Sequence[Finding]:
    """Return the findings about the folder of the archive. The disk is asked in a thread."""
    worker = setup.worker
    if worker is None or worker.archive is None or worker.retention_ms is None:
        return []
    folder = worker.archive
    return await run_in_daemon(lambda: list(_look(folder)))


def _look(archive: Path) -> Iterator[Finding]:
    folder = find_existing(archive)
    error = explain_unwritable(folder)
    if not error:
        volume = os.statvfs(folder)
        free = volume.f_bavail * volume.f_frsize
        error = "" if free >= FILE_BYTES else f"its volume has only {format_size(free)} free"
    if error:
        yield make_finding("archive.unusable", path=archive, error=error)
