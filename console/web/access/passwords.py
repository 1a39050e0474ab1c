"""Hashes and checks passwords with argon2id, in threads and at most two at a time: each takes 64 MiB."""

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from console.web.access.users import NO_PASSWORD, User, UserFile

AT_A_TIME = 2
MAX_WAITING = 16
SHORTEST = 12
LONGEST = 1000
PASSWORD_RULE = f"{SHORTEST} to {LONGEST} characters"

_HASHER = PasswordHasher()
# A hash of a random password that was thrown away: an unknown name takes as long as a wrong password.
_DECOY = "$argon2id$v=19$m=65536,t=3,p=4$3QZcFhUtuse5rxJzlTFPJQ$UPEcQ/Y/3iewv5hQ5YHKyUJFOpssZ8o7lGWKHNco76s"


class TooManyChecks(Exception):  # noqa: N818 - the caller answers 429
    """More passwords wait for their check than the console holds."""


def check_password_rule(password: str) -> str:
    """Return the password. Raises ValueError, without the password, unless it follows PASSWORD_RULE."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise ValueError(f"the password has {len(password)} characters: use {PASSWORD_RULE}")
    return password


def hash_password(password: str) -> str:
    """Return the argon2id hash, which takes 64 MiB and some 50 ms."""
    return _HASHER.hash(password)


class PasswordChecker:
    """Checks passwords against the users' hashes."""

    def __init__(self, users: UserFile) -> None:
        self._users = users
        self._slots = asyncio.Semaphore(AT_A_TIME)
        self._waiting = 0

    async def check(self, name: str, password: str) -> User | None:
        """Return the user if the password is right. Raises TooManyChecks, OSError.

        A hash with outdated parameters is replaced.
        """
        if self._waiting >= MAX_WAITING:
            raise TooManyChecks
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(self._check, name, password)
        finally:
            self._waiting -= 1

    def _check(self, name: str, password: str) -> User | None:
        user = self._users.find(name)
        has_password = user is not None and user.password_hash != NO_PASSWORD
        is_right = _is_right(user.password_hash if user and has_password else _DECOY, password[: LONGEST + 1])
        if user is None or not has_password or not is_right or len(password) > LONGEST:
            return None
        if _HASHER.check_needs_rehash(user.password_hash):
            self._users.replace_hash(user, _HASHER.hash(password))
            return self._users.find(name)
        return user


def _is_right(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except VerificationError:
        return False
