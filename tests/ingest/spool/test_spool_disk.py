"""The spool on a disk that others fill."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from ingest.spool import file_set as spool_files
from ingest.spool.errors import NotSpooled
from ingest.spool.folder import read_owner
from tests.support.faults.small_disk import fill, small_disk
from tests.support.samples.spool_folders import OWNER, drain_files, run_files
from tests.support.samples.spooled import pack_entries

ROOT = Path(__file__).parents[3]


def test_some_of_the_volume_stays_free(tmp_path: Path) -> None:
    """Before the disk is full, others need it too; the own limit does not matter then."""
    with small_disk(tmp_path / "disk", 2**21) as disk, run_files(disk) as files:
        count = 0
        with suppress(NotSpooled):
            for count in range(10_000):
                files.put(pack_entries(count, size=2000))
        assert files.find_shortage(2000) == "volume"
        volume = os.statvfs(disk)
        assert volume.f_bavail / volume.f_blocks > spool_files.FREE_SHARE - 0.01
        assert drain_files(files) == list(range(count))


def test_a_full_disk_is_drained_and_given_back(tmp_path: Path) -> None:
    """Nothing can be put and nothing deleted; all is drained, then the whole file goes and there is room again."""
    with small_disk(tmp_path / "disk", 2**20) as disk, run_files(disk) as files:
        files.put(pack_entries(*range(200), size=2000))
        filler = fill(disk)
        with pytest.raises(NotSpooled, match="full"):
            files.put(pack_entries(200, size=2000))
        assert drain_files(files) == list(range(200))
        assert files.held.bytes == 0
        files.put(pack_entries(200, size=2000))
        filler.unlink()
        assert drain_files(files) == [200]


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.support.samples.spooled import pack_entries
from tests.support.samples.spool_folders import open_files
files = open_files(Path(sys.argv[1]))
files.put(pack_entries(*range(200), size=2000))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_one_drains_it_though_the_disk_is_full(tmp_path: Path) -> None:
    """After a kill the disk is filled: the entries are found and drained, and there is room again."""
    with small_disk(tmp_path / "disk", 2**20) as disk:
        result = subprocess.run((sys.executable, "-c", KILLED, str(disk)), cwd=ROOT, check=False)
        assert result.returncode == -signal.SIGKILL
        fill(disk)
        with run_files(disk) as files:
            with pytest.raises(NotSpooled):
                files.put(pack_entries(200))
            assert drain_files(files) == list(range(200))
            files.put(pack_entries(200))
            assert drain_files(files) == [200]


def test_a_process_starts_though_the_disk_is_full(tmp_path: Path) -> None:
    """The process takes no entries until there is room; then the folder has the owner before the first entry."""
    with small_disk(tmp_path / "disk", 2**20) as disk:
        filler = fill(disk)
        with run_files(disk) as files:
            with pytest.raises(NotSpooled, match="full"):
                files.put(pack_entries(0))
            assert read_owner(disk / "spool" / "0") is None
            filler.unlink()
            files.put(pack_entries(0))
            assert read_owner(disk / "spool" / "0") == OWNER
            assert drain_files(files) == [0]


def test_disk_space_is_given_back(tmp_path: Path) -> None:
    """A file that has grown large is not kept when it is empty."""
    with run_files(tmp_path) as files:
        files.put(pack_entries(*range(100), size=120_000))
        assert drain_files(files) == list(range(100))
        assert sum(path.stat().st_size for path in tmp_path.rglob("*")) < 100_000
        files.put(pack_entries(100))
        assert drain_files(files) == [100]
