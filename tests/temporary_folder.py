"""The temporary folder of the tests: in memory where there is room.

Writes and fsyncs to a disk took a sixth of the processor time of the tests of `store`, the spool and appends. A crash
test kills processes and not machines, so it needs no disk.
"""

import itertools
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # the PostgreSQL wheel brings it, without its types
import pytest

IN_MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a folder of its own in it
LEAST_BYTES = 8 << 30
"""A whole run takes 3 GB, and its processes need memory too."""

_numbers = itertools.count()


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Use the folder in memory, unless TMPDIR names another one. Child processes inherit it."""
    if "TMPDIR" not in os.environ and has_room():
        os.environ["TMPDIR"] = str(IN_MEMORY)
        tempfile.tempdir = None


def has_room() -> bool:
    """Whether the folder is there, has space, and programs may run in it: containers often have only 64 MB."""
    try:
        status = os.statvfs(IN_MEMORY)
    except OSError:
        return False
    free_bytes = min(status.f_bavail * status.f_frsize, psutil.virtual_memory().available)
    return free_bytes >= LEAST_BYTES and not status.f_flag & os.ST_NOEXEC and os.access(IN_MEMORY, os.W_OK)


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of the test's own. That of pytest lists the folders of all tests before to find a free number."""
    if request.node.get_closest_marker("on_disk"):
        with tempfile.TemporaryDirectory(prefix="ackstream-test-", dir="/var/tmp") as name:
            yield Path(name)
        return
    name = re.sub(r"\W", "_", request.node.name)[:30]
    folder = tmp_path_factory.getbasetemp() / f"{name}-{os.getpid()}-{next(_numbers)}"
    folder.mkdir(mode=0o700)
    yield folder
