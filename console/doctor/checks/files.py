"""Checks that other users of this machine can read neither secrets nor data."""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from console.doctor.daemon_thread import run_in_daemon
from console.doctor.finding import Finding, make_finding
from console.doctor.setup import Setup
from runtime.errors import CommandError
from stream.settings import PREFIX, read_file_variables
from worker.settings import WorkerSettings

MOST_FILES = 10_000
SECRET_MOUNTS = Path("/run/secrets")
"""Containers get their secrets here, and only they see the folder."""


async def check_files(setup: Setup) -> Sequence[Finding]:
    """Return the findings about the modes of files. They are read in a thread."""
    return await run_in_daemon(lambda: [*_find_secrets(setup), *_find_data(setup)])


def _find_secrets(setup: Setup) -> Iterator[Finding]:
    for path in sorted(_list_secret_files(setup)):
        if SECRET_MOUNTS not in path.parents and (mode := find_exposure(path)):
            yield make_finding("files.secret-exposed", path=path, mode=mode)


def _list_secret_files(setup: Setup) -> set[Path]:
    """Return the files that hold secrets: those of the settings, .env, and the headers of forward."""
    paths = {Path(path).absolute() for path in read_file_variables()}
    if _holds_secrets(Path(".env")):
        paths.add(Path(".env").absolute())
    for name in ("handlers_file", "console_users_file"):
        paths |= {Path(path).absolute() for each in setup.loaded.values() if (path := getattr(each, name, None))}
    if setup.worker is not None:
        paths |= {path.absolute() for path in _list_headers(setup.worker)}
    return paths


def _list_headers(worker: WorkerSettings) -> Iterator[Path]:
    with suppress(CommandError):  # another check names an invalid file of handlers
        for spec in worker.specs:
            yield from (header.file for header in spec.options.headers if header.file is not None)


def _holds_secrets(path: Path) -> bool:
    names = tuple(
        f"{PREFIX}{name}" for name in ("SIGNATURE_SECRETS=", "FORWARD_SECRETS=", "REDIS_URL=", "DATABASE_URL=")
    )
    with suppress(OSError, UnicodeDecodeError):
        return any(line.strip().removeprefix("export ").startswith(names) for line in path.read_text().splitlines())
    return False


def _find_data(setup: Setup) -> Iterator[Finding]:
    """Yield one finding for each folder with files that others can read."""
    folders = {setup.data.absolute()}
    sqlite_file: Path | None = getattr(setup.worker or setup.console, "sqlite_file", None)
    files = [*_list_files(setup.data.absolute()), *([sqlite_file.absolute()] if sqlite_file else [])]
    if setup.worker is not None and setup.worker.archive is not None:
        folders.add(setup.worker.archive.absolute())
        files += _list_files(setup.worker.archive.absolute())
    exposed = [(path, mode) for path in dict.fromkeys(files) if (mode := find_exposure(path))]
    if exposed:
        path, mode = exposed[0]
        more = f", and {len(exposed) - 1} more files" if len(exposed) > 1 else ""
        folder = next((folder for folder in folders if folder in path.parents), path)
        yield make_finding("files.data-exposed", path=path, mode=mode, more=more, folder=folder)


def _list_files(folder: Path) -> list[Path]:
    """Return the files below a folder, at most MOST_FILES. Folders that others cannot enter have none for them."""
    files: list[Path] = []
    for parent, names, inside in os.walk(folder):
        names[:] = [name for name in names if find_exposure(Path(parent) / name, stat.S_IXOTH)]
        files += [Path(parent) / name for name in inside]
        if len(files) > MOST_FILES:
            break
    return files[:MOST_FILES]


def find_exposure(path: Path, bit: int = stat.S_IROTH) -> str:
    """Return the mode of a file that every user can reach and read; empty for another one, or a missing one."""
    try:
        mode = path.stat().st_mode
        is_reached = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.absolute().parents)
    except OSError:
        return ""
    return stat.filemode(mode) if mode & bit and is_reached else ""
