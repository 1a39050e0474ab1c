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
from argon2 import Type, extract_parameters
from argon2.exceptions import InvalidHashError

from console.web.access.credentials import NAME_RULE, is_name
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
        """Parse a line of the file. Raises ValueError, which quotes nothing: a hash may be in the wrong place."""
        name, *rest = line.split(":")
        if len(rest) != 2:  # noqa: PLR2004 - role and hash
            raise ValueError("it is not name:role:hash")
        role, password_hash = rest
        if not is_name(name):
            raise ValueError(f"the name is not {NAME_RULE}")
        if role not in map(str, Role):
            raise ValueError("the role is not viewer, operator or admin")
        if password_hash != NO_PASSWORD and not _is_argon2id(password_hash):
            raise ValueError(f"the hash is neither argon2id nor {NO_PASSWORD}")
        return cls(name, Role.from_text(role), password_hash)

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
        self._newest: tuple[tuple[int, ...], Mapping[str, User]] | None = None

    def users(self) -> Mapping[str, User]:
        """Return all users by name; an invalid line is logged and counts as absent. Raises OSError."""
        try:
            state = self._path.stat()
        except FileNotFoundError:
            return {}
        signature = (state.st_ino, state.st_mtime_ns, state.st_ctime_ns, state.st_size)
        newest = self._newest
        if newest is None or newest[0] != signature:
            users, faults = self.read()
            for number, fault in faults.items():
                log.warning("users.invalid_line", line=number, why=fault)
            newest = self._newest = signature, users
        return newest[1]

    def read(self) -> tuple[dict[str, User], dict[int, str]]:
        """Return the users by name, and the faults of invalid lines by line number. Raises OSError."""
        return _parse(_read_lines(self._path))

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
                content = "".join(f"{line}\n" for line in [*comments, *(user.line for user in users.values())])
                write_file(path, content.encode("utf-8", "surrogateescape"))
            return result
        finally:
            os.close(lock)


def _is_argon2id(password_hash: str) -> bool:
    try:
        return extract_parameters(password_hash).type is Type.ID
    except InvalidHashError:
        return False


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
            faults[number] = "an earlier line has the same name"
        users.setdefault(user.name, user)
    return users, faults


def _wait_for_lock(path: Path) -> int:
    deadline = time.monotonic() + LOCK_SECONDS
    while (lock := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise CommandError(f"another process has held {path} for {LOCK_SECONDS:.0f} s: try again")
        time.sleep(0.01)
    return lock
