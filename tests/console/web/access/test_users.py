"""The file of users."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from console.web.access.roles import Role
from console.web.access.users import NO_PASSWORD, User, UserFile
from runtime.errors import CommandError
from tests.support.http.guarded import make_user

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", fullmatch=True)
USERS = st.builds(make_user, NAMES, st.sampled_from(Role)) | st.builds(
    User, NAMES, st.sampled_from(Role), st.just(NO_PASSWORD)
)
ADD_USERS = """
import sys
from pathlib import Path
from console.web.access.roles import Role
from console.web.access.users import User, UserFile
sys.stdin.read()
for number in range(20):
    UserFile(Path(sys.argv[1])).put(User(f"{sys.argv[2]}-{number}", Role.VIEWER, "*"))
"""


@settings(max_examples=20)  # each change waits for the disk
@given(st.lists(USERS, max_size=3, unique_by=lambda user: user.name))
def test_users_are_read_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, users: list[User]) -> None:
    """Every valid user comes back with the same name, role and hash, also for another reader."""
    path = tmp_path_factory.mktemp("users") / "users"
    file = UserFile(path)

    for user in users:
        assert not file.put(user)

    assert list(file.users().values()) == list(UserFile(path).users().values()) == users
    for user in users:
        assert file.remove(user.name)
    assert file.users() == {}


@given(st.text(max_size=80))
@example("ann:admin")
@example("ann\nroot:admin:*")
@example("ann\n")
@example("ann\r")
@example("\x00")
@example("\u202eann")
@example("a" * 65)
@example("")
@example("-ann")
@example("ann\u0301")
def test_a_hostile_name_never_becomes_a_line(name: str) -> None:
    """Of all names only those of the rule make a line that is read back as the same user."""
    try:
        user = User.from_line(f"{name}:admin:*")
    except ValueError:
        return
    assert user.name == name
    assert name.isascii()
    assert len(name) <= 64
    assert not set(name) & set(": \r\n\t\x00/\\'\"<>&;")


@given(st.text(max_size=200) | st.text(alphabet="ab:*\n# \r", max_size=40))
def test_any_content_is_read_without_an_error(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    """A file that somebody has damaged never stops the console, and gives nobody a role."""
    path = tmp_path_factory.mktemp("users") / "users"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))

    assert all(user.password_hash == NO_PASSWORD for user in UserFile(path).users().values())


def test_an_invalid_line_is_logged_without_its_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The other users may sign in. The log has the number of the line: a hash may be in the wrong place."""
    path = tmp_path / "users"
    path.write_text(
        f"{make_user('ann').line}\n$argon2id$secret:viewer:bob\nann:admin:*\ncarl:boss:*\ndora:admin:$1$x\n"
    )

    users = UserFile(path).users()

    assert users == {"ann": make_user("ann")}
    log = capsys.readouterr().out
    assert [f"line={number}" in log for number in range(1, 6)] == [False, True, True, True, True]
    assert not any(word in log for word in ("secret", "boss", "$1$"))


def test_a_file_with_an_invalid_line_is_not_written(tmp_path: Path) -> None:
    """A command would lose the line, so it names it instead."""
    path = tmp_path / "users"
    path.write_text("ann:admin\n")

    with pytest.raises(CommandError, match=r"users, line 1: it is not name:role:hash; correct or remove the line"):
        UserFile(path).put(make_user("bob"))

    assert path.read_text() == "ann:admin\n"


def test_a_change_of_the_file_counts_at_once(tmp_path: Path) -> None:
    """The file is read again after an edit in place, a replacement and a removal."""
    path = tmp_path / "users"
    file = UserFile(path)
    users = [file.find("ann")]

    path.write_text("ann:viewer:*\n")
    users.append(file.find("ann"))
    path.write_text("ann:admin:*\n")
    users.append(file.find("ann"))
    UserFile(path).put(make_user("bob"))
    users.append(file.find("bob"))
    path.unlink()
    users.append(file.find("ann"))

    assert [user and user.role for user in users] == [None, Role.VIEWER, Role.ADMIN, Role.VIEWER, None]


def test_the_file_is_written_whole_and_private(tmp_path: Path) -> None:
    """Mode 0600, no draft stays behind, comments stay, and a link to a file elsewhere stays a link."""
    target = tmp_path / "elsewhere"
    target.write_text("# the team\n\nann:admin:*\n")
    path = tmp_path / "console" / "users"
    path.parent.mkdir()
    path.symlink_to(target)

    UserFile(path).put(User("bob", Role.VIEWER, NO_PASSWORD))

    assert target.read_text() == "# the team\nann:admin:*\nbob:viewer:*\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert path.is_symlink()
    assert {entry.name for entry in tmp_path.iterdir()} == {"console", "elsewhere", "elsewhere.lock"}


def test_several_processes_add_users_at_once(tmp_path: Path) -> None:
    """No user is lost, and a reader never sees a part of the file."""
    path = tmp_path / "users"
    command = [sys.executable, "-P", "-c", ADD_USERS, str(path)]
    writers = [subprocess.Popen([*command, name], stdin=subprocess.PIPE, stderr=subprocess.PIPE) for name in "abc"]
    reader, counts = UserFile(path), [0]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()

    while any(writer.poll() is None for writer in writers):
        counts.append(len(reader.users()))

    assert [writer.stderr.read() for writer in writers if writer.stderr] == [b""] * 3
    assert counts == sorted(counts)
    assert len(reader.users()) == 60
    for writer in writers:
        writer.stderr.close()  # type: ignore[union-attr]


def test_a_user_does_not_show_the_hash() -> None:
    """A traceback or a log of a user has no hash."""
    assert "argon2" not in repr(make_user("ann"))


@pytest.mark.parametrize("changed", [make_user("ann", Role.ADMIN), User("ann", Role.VIEWER, NO_PASSWORD)])
def test_a_stamp_changes_with_role_and_password(changed: User) -> None:
    """A session of the user as they were before ends."""
    assert changed.stamp != make_user("ann").stamp == make_user("ann").stamp
