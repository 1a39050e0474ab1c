"""Inspect the spool folders of this machine, and change their owner."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ingest.spool.file import SpoolFile
from ingest.spool.folder import Owner, SpoolFolder, folders_in, read_owner
from runtime.errors import CommandError
from runtime.escape import escape_unprintable

State = Literal["in use", "waiting", "foreign", "empty"]


@dataclass(frozen=True, slots=True)
class SpoolState:
    """The state of one folder.

    While a running ingest has the folder, ``entries``, ``bytes`` and ``oldest_ms`` are unknown (None).
    """

    folder: str
    state: State
    entries: int | None
    bytes: int | None
    oldest_ms: int | None
    damaged_files: int
    owner: Owner | None
    path: str


def list_folders(data: Path, owner: Owner) -> list[SpoolState]:
    """Return the state of each folder for this owner; ``owner.server`` may be None if Redis did not answer.

    Raises CommandError if the folders cannot be read.
    """
    try:
        return [_state_of(path, owner) for path in folders_in(data)]
    except OSError as exc:
        raise CommandError(
            f"the spool in {data} cannot be read ({exc.strerror}): run this as the user of ingest"
        ) from None


def adopt_folders(data: Path, owner: Owner, names: Sequence[str]) -> list[SpoolState]:
    """Give the named folders, or without names all foreign ones, to this owner. Returns their states.

    The owner is then identified by stream and address. Raises CommandError before any change if a folder is
    missing or in use.
    """
    states = {state.folder: state for state in list_folders(data, owner)}
    if unknown := [name for name in names if name not in states]:
        raise CommandError(f"the spool has no folder {', '.join(unknown)}: see `ackstream spool list`")
    if busy := [name for name in names if states[name].state == "in use"]:
        raise CommandError(
            f"folder {', '.join(busy)} is in use by a running ingest: stop it, or wait until it has drained the folder"
        )
    chosen = [states[name] for name in names] or [state for state in states.values() if state.state == "foreign"]
    for state in chosen:
        folder = SpoolFolder.lock(data / "spool" / state.folder)
        if folder is None:
            raise CommandError(f"folder {state.folder} has come into use: try again")
        try:
            folder.write_owner(owner)
        except OSError as exc:
            raise CommandError(f"folder {state.folder} cannot be changed ({exc.strerror})") from None
        finally:
            folder.release()
    return chosen


def _state_of(path: Path, owner: Owner) -> SpoolState:
    folder_owner = read_owner(path)
    damaged = len(list(path.glob("*.damaged")))
    folder = SpoolFolder.lock(path)
    if folder is None:
        return SpoolState(path.name, "in use", None, None, None, damaged, folder_owner, escape_unprintable(str(path)))
    try:
        files = [SpoolFile.peek(file) for file in folder.files()]
    finally:
        folder.release()
    entries = sum(file.rows for file in files)
    state: State = "empty" if not entries else "waiting" if _is_drained_by(owner, folder_owner) else "foreign"
    oldest_ms = min((file.oldest_ms for file in files if file.oldest_ms is not None), default=None)
    size = sum(file.bytes for file in files)
    return SpoolState(path.name, state, entries, size, oldest_ms, damaged, folder_owner, escape_unprintable(str(path)))


def _is_drained_by(owner: Owner, folder_owner: Owner | None) -> bool:
    """Whether an ingest of this owner drains the folder; compares addresses if the server's id is unknown."""
    if owner.server is not None or folder_owner is None:
        return owner.owns(folder_owner)
    return (owner.stream, owner.redis) == (folder_owner.stream, folder_owner.redis)


def summarize(state: SpoolState, now_ms: int) -> dict[str, Any]:
    """Return the columns of a folder in a listing."""
    oldest = None if state.oldest_ms is None else f"{max(0, now_ms - state.oldest_ms) // 1000} s"
    return {
        "folder": state.folder,
        "state": state.state,
        "entries": state.entries,
        "oldest": oldest,
        "damaged": state.damaged_files,
        "stream": state.owner.stream if state.owner else "unknown",
        "redis": state.owner.redis if state.owner else "unknown",
    }
