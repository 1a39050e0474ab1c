"""The users of the console, in a text file: ``name:role:hash`` a line.

The hash is argon2id, or ``*`` for a person who signs in through a reverse proxy only. Blank lines and lines that start
with ``#`` are kept. The file is read again when it changes. Several processes may change it at once.
"""

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import structlog
from argon2 import extract_parameters
from argon2.exceptions import InvalidHashError

from console.web.access.credentials import check_name
from console.web.access.roles import Role
from runtime.disk import make_folder, try_lock, write_file
from runtime.errors import CommandError

log = structlog.get_logger("console.users")

NO_PASSWORD = "*"  # noqa: S105 - the mark of a user without one
LOCK_SECONDS = 5.0
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class User:
    """A person who may sign in."""

    name: str
    role: Role
    password_hash: str = field(repr=False)

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Parse a line of the file. Raises ValueError without the hash in it."""
        parts = line.split(":")
        if len(parts) != 3:  # noqa: PLR2004 - the fields of a line
            raise ValueError("the line is not name:role:hash")
        name, role, password_hash = parts
        if password_hash != NO_PASSWORD:
            try:
                extract_parameters(password_hash)
            except InvalidHashError:
                raise ValueError("the hash is not argon2") from None
        return cls(check_name(name), Role.from_text(role), password_hash)

    @property
    def line(self) -> str:
        """The line of the file."""
        return f"{self.name}:{self.role}:{self.password_hash}"

    @property
    def stamp(self) -> bytes:
        """A digest that changes with the password and the role. A session ends when it differs."""
        return hashlib.sha256(self.line.encode()).digest()


class UserFile:
    """The file of users."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signature: tuple[int, ...] | None = None
        self._users: Mapping[str, User] = {}

    def users(self) -> Mapping[str, User]:
        """Return all users by name; an invalid line is logged and counts as absent. Raises OSError."""
        try:
            state = self._path.stat()
        except FileNotFoundError:
            self._signature, self._users = None, {}
            return self._users
        signature = (state.st_ino, state.st_mtime_ns, state.st_ctime_ns, state.st_size)
        if signature != self._signature:
            users, faults = _parse(_read_lines(self._path))
            for number, fault in faults.items():
                log.warning("users.invalid_line", line=number, why=fault)
            self._signature, self._users = signature, users
        return self._users

    def find(self, name: str) -> User | None:
        """Return the user of this name. Raises OSError."""
        return self.users().get(name)

    def put(self, user: User) -> bool:
        """Add the user, or replace the one of the same name; return whether there was one. Raises CommandError."""

        def change(users: dict[str, User]) -> bool:
            existed = user.name in users
            users[user.name] = user
            return existed

        return self._change(change)

    def remove(self, name: str) -> bool:
        """Remove the user; return whether there was one. Raises CommandError."""
        return self._change(lambda users: users.pop(name, None) is not None)

    def replace_hash(self, user: User, password_hash: str) -> bool:
        """Store a new hash of the same password, unless the user has changed since. Raises CommandError, OSError."""

        def change(users: dict[str, User]) -> bool:
            if users.get(user.name) != user:
                return False
            users[user.name] = User(user.name, user.role, password_hash)
            return True

        return self._change(change)

    def _change(self, change: Callable[[dict[str, User]], bool]) -> bool:
        """Apply a change to the newest content, and write the file if there is one."""
        path = Path(os.path.realpath(self._path))
        make_folder(path.parent)
        lock = _wait_for_lock(path.with_name(f"{path.name}.lock"))
        try:
            lines = _read_lines(path)
            users, faults = _parse(lines)
            for number, fault in faults.items():
                raise CommandError(f"{path}, line {number}: {fault}; correct or remove the line first")
            before = dict(users)
            result = change(users)
            if users != before:
                comments = [line for line in lines if _is_comment(line)]
                write_file(
                    path, "".join(f"{line}\n" for line in [*comments, *(u.line for u in users.values())]).encode()
                )
            return result
        finally:
            os.close(lock)


def _read_lines(path: Path) -> list[str]:
    """Return the lines, none if the file is absent. Raises OSError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return []
    if len(content) > MAX_BYTES:
        raise CommandError(f"{path} is larger than {MAX_BYTES} bytes: it is not a file of users")
    return content.decode("utf-8", "surrogateescape").split("\n")


def _is_comment(line: str) -> bool:
    return line.startswith("#")


def _parse(lines: list[str]) -> tuple[dict[str, User], dict[int, str]]:
    """Return the users by name, and the faults by line number. Of two lines with one name the first counts."""
    users: dict[str, User] = {}
    faults: dict[int, str] = {}
    for number, raw in enumerate(lines, 1):
        line = raw.strip(" \t\r")
        if not line or _is_comment(line):
            continue
        try:
            user = User.from_line(line)
        except ValueError as exc:
            faults[number] = str(exc)
            continue
        if user.name in users:
            faults[number] = f"{user.name} has a line already"
        users.setdefault(user.name, user)
    return users, faults


def _wait_for_lock(path: Path) -> int:
    deadline = time.monotonic() + LOCK_SECONDS
    while (lock := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise CommandError(f"another process has held {path} for {LOCK_SECONDS:.0f} s: try again")
        time.sleep(0.01)
    return lock
