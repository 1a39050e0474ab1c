"""Hashes and checks passwords with argon2id, in threads and at most two at a time: each takes 64 MiB."""

import asyncio
import unicodedata

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from console.web.access.users import NO_PASSWORD, User, UserFile
from runtime.errors import CommandError

log = structlog.get_logger("console.users")

AT_A_TIME = 2
MAX_CHECKS = 16
"""How many checks may run or wait."""

SHORTEST = 12
LONGEST = 1000
PASSWORD_RULE = f"{SHORTEST} to {LONGEST} characters"

_HASHER = PasswordHasher()
# A hash of a random password that was thrown away: an unknown name takes as long as a wrong password.
_DECOY = "$argon2id$v=19$m=65536,t=3,p=4$3QZcFhUtuse5rxJzlTFPJQ$UPEcQ/Y/3iewv5hQ5YHKyUJFOpssZ8o7lGWKHNco76s"


def check_password_rule(password: str) -> str:
    """Return the password. Raises ValueError, without the password, unless it follows PASSWORD_RULE."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise ValueError(f"the password has {len(password)} characters: use {PASSWORD_RULE}")
    return password


def hash_password(password: str) -> str:
    """Return the argon2id hash, which takes 64 MiB and some 50 ms."""
    return _HASHER.hash(_encode(password))


class PasswordChecker:
    """Checks passwords against the users' hashes. The decoy is a hash for names that are unknown."""

    def __init__(self, users: UserFile, hasher: PasswordHasher = _HASHER, decoy: str = _DECOY) -> None:
        self._users = users
        self._hasher = hasher
        self._decoy = decoy
        self._slots = asyncio.Semaphore(AT_A_TIME)
        self._checks = 0

    @property
    def is_busy(self) -> bool:
        """Whether no further check is accepted now."""
        return self._checks >= MAX_CHECKS

    async def check(self, name: str, password: str) -> User | None:
        """Return the user if the password is right. A hash with outdated parameters is replaced. Raises OSError."""
        self._checks += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(self._check, name, password)
        finally:
            self._checks -= 1

    def _check(self, name: str, password: str) -> User | None:
        user = self._users.find(name)
        has_password = user is not None and user.password_hash != NO_PASSWORD
        is_right = _is_right(user.password_hash if user and has_password else self._decoy, password[:LONGEST])
        if user is None or not has_password or not is_right or len(password) > LONGEST:
            return None
        return self._renew(user, password) if self._hasher.check_needs_rehash(user.password_hash) else user

    def _renew(self, user: User, password: str) -> User | None:
        """Store a hash with today's parameters, if the file can be written; return the user as stored."""
        try:
            self._users.replace_hash(user, self._hasher.hash(_encode(password)))
        except (OSError, CommandError) as exc:
            log.warning("users.old_hash", name=user.name, error=type(exc).__name__)
        return self._users.find(user.name)


def _encode(password: str) -> bytes:
    """Return the password's bytes. Keyboards send letters with accents in two forms, which give the same bytes."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _is_right(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, _encode(password))
    except VerificationError:
        return False
