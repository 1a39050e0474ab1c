"""Password checks: right, wrong and unknown cost the same, and few run at a time."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from console.web.access.passwords import AT_A_TIME, MAX_CHECKS, PasswordChecker, check_password_rule, hash_password
from console.web.access.roles import Role
from console.web.access.users import NO_PASSWORD, User, UserFile
from tests.support.http.guarded import PASSWORD, QUICK_HASHER, make_user
from tests.support.waiting import until

OLD = QUICK_HASHER.hash(PASSWORD)


@pytest.fixture
def ann(users: UserFile) -> User:
    """A user whose hash has today's parameters."""
    user = User("ann", Role.VIEWER, hash_password(PASSWORD))
    users.put(user)
    return user


@pytest.fixture
def users(tmp_path: Path) -> UserFile:
    file = UserFile(tmp_path / "users")
    file.put(User("proxied", Role.ADMIN, NO_PASSWORD))
    return file


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ann", f"{PASSWORD} "),
        ("ann", f"{PASSWORD}\0"),
        ("ann", f"{PASSWORD}{'x' * 2000}"),
        ("ann", "\ud800"),
        ("ANN", PASSWORD),
        ("ann\n", PASSWORD),
        ("", ""),
        ("proxied", NO_PASSWORD),
    ],
)
async def test_only_the_right_password_counts(users: UserFile, name: str, password: str) -> None:
    """A near miss, an unknown name, a user without password and odd characters all fail in the same way."""
    users.put(make_user("ann"))

    assert await PasswordChecker(users, QUICK_HASHER, decoy=OLD).check(name, password) is None


async def test_the_right_password_gives_the_user(users: UserFile, ann: User) -> None:
    """The user comes back with the role of the file."""
    assert await PasswordChecker(users).check("ann", PASSWORD) == ann


async def test_a_password_is_not_cut(users: UserFile) -> None:
    """A longer one with the same first 1,000 characters is wrong."""
    users.put(User("bob", Role.VIEWER, QUICK_HASHER.hash("x" * 1000)))
    checker = PasswordChecker(users, QUICK_HASHER)

    assert await checker.check("bob", "x" * 1000)
    assert await checker.check("bob", "x" * 1001) is None


async def test_letters_with_accents_match_in_both_forms(users: UserFile) -> None:
    """Keyboards send a composed letter, or a letter and an accent."""
    users.put(User("zoe", Role.VIEWER, hash_password("caf\u00e9 au lait, svp")))

    assert await PasswordChecker(users).check("zoe", "cafe\u0301 au lait, svp")


@pytest.mark.usefixtures("ann")
async def test_an_unknown_name_takes_as_long_as_a_wrong_password(users: UserFile) -> None:
    """An attacker cannot find out names by the time of the answer. Without a check it would be a thousandth."""
    checker = PasswordChecker(users)

    async def measure(name: str) -> float:
        started = time.process_time()  # of all threads; the machine may be busy
        assert await checker.check(name, "wrong") is None
        return time.process_time() - started

    times = {name: min([await measure(name) for _ in range(2)]) for name in ("ann", "nobody", "proxied")}

    assert max(times.values()) < 3 * min(times.values()), times


async def test_two_checks_run_at_a_time_and_few_wait(tmp_path: Path) -> None:
    """Each check takes 64 MiB, so the others wait, and beyond a number the console is busy."""
    release, running = threading.Event(), []

    class SlowFile(UserFile):
        def find(self, name: str) -> User | None:
            running.append(name)
            release.wait(30)
            raise OSError

    checker = PasswordChecker(SlowFile(tmp_path / "users"))
    checks = [asyncio.create_task(checker.check(str(number), "wrong")) for number in range(MAX_CHECKS)]

    async def is_full() -> bool:
        return checker.is_busy and len(running) >= AT_A_TIME

    await until(is_full)
    assert len(running) == AT_A_TIME
    release.set()
    await asyncio.gather(*checks, return_exceptions=True)
    assert not checker.is_busy


async def test_an_old_hash_is_renewed_at_sign_in(users: UserFile) -> None:
    """The user keeps password and role, and the next check needs no new hash."""
    users.put(User("old", Role.OPERATOR, OLD))
    checker = PasswordChecker(users)

    user = await checker.check("old", PASSWORD)

    assert user == users.find("old")
    assert user is not None
    assert (user.role, user.password_hash[:30]) == (Role.OPERATOR, "$argon2id$v=19$m=65536,t=3,p=4")
    assert await checker.check("old", PASSWORD) == user


async def test_an_old_hash_in_a_file_that_cannot_be_written_still_counts(tmp_path: Path) -> None:
    """A file of users may come from a secret store and be read-only."""
    (tmp_path / "users").write_text(f"old:viewer:{OLD}\n")
    (tmp_path / "users.lock").mkdir()  # no lock, no change

    user = await PasswordChecker(UserFile(tmp_path / "users")).check("old", PASSWORD)

    assert user is not None
    assert user.password_hash == OLD


@pytest.mark.parametrize("password", ["", "x" * 11, "x" * 1001])
def test_a_short_password_is_refused_without_showing_it(password: str) -> None:
    """The error has the length only."""
    with pytest.raises(ValueError, match=f"^the password has {len(password)} characters: use 12 to 1000 characters$"):
        check_password_rule(password)
