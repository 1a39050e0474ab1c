"""`ackstream console user`, `token` and `link`."""

import asyncio
import os
import sqlite3
import stat
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from console.web.access.links import LinkTable
from console.web.access.passwords import PasswordChecker
from console.web.access.roles import Role
from console.web.access.sessions import SessionTable
from console.web.access.tokens import TokenTable
from console.web.access.users import UserFile
from console.web.database import open_console_database
from runtime import run_file
from tests.support.commands import CommandResult, run_command
from tests.support.http.guarded import PASSWORD, make_user


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of the commands."""
    monkeypatch.setenv("ACKSTREAM_DATA", str(tmp_path))
    return tmp_path


def run(*arguments: str, answer: str = "") -> CommandResult:
    """Run `ackstream console …`."""
    return run_command("console", *arguments, answer=answer)


async def run_in_thread(*arguments: str, answer: str = "") -> CommandResult:
    """Run `ackstream console …`, which has an event loop of its own, in a thread."""
    return await asyncio.to_thread(run, *arguments, answer=answer)


def audit_rows(data: Path) -> list[tuple[str, str, str, str]]:
    """Return the entries of the audit log, oldest first."""
    connection = sqlite3.connect(data / "console" / "console.db")
    rows = connection.execute("SELECT who, action, scope, result FROM audit ORDER BY id").fetchall()
    connection.close()
    return rows


async def test_a_user_is_added_with_a_password(data: Path) -> None:
    """The password comes from standard input, and no output has it or its hash."""
    outcome = await run_in_thread(
        "user", "add", "ann", "--role", "operator", "--password-stdin", answer=f"{PASSWORD}\nmore\n"
    )

    assert (outcome.code, outcome.stdout) == (0, "user ann is added with the role operator\n"), outcome.stderr
    users = UserFile(data / "console" / "users")
    user = await PasswordChecker(users).check("ann", PASSWORD)
    assert user is not None
    assert user.role is Role.OPERATOR
    assert stat.S_IMODE((data / "console" / "users").stat().st_mode) == 0o600
    assert audit_rows(data) == [(f"shell:{os.getuid()}", "user.add", "user=ann", "added, role operator")]


def test_users_are_listed() -> None:
    """A user without password signs in through a proxy."""
    assert run("user", "list").stdout == "no users\n"
    run("user", "add", "ann", "--role", "ADMIN", "--no-password")

    assert run("user", "list", "--json").json == {"users": [{"user": "ann", "role": "admin", "password": False}]}


def test_an_invalid_line_is_named_by_the_list(data: Path) -> None:
    """The valid users are listed, and the line that does not count is named on standard error."""
    run("user", "add", "ann", "--role", "viewer", "--no-password")
    with (data / "console" / "users").open("a") as file:
        file.write("bob:viewer\n")

    outcome = run("user", "list", "--json")

    assert [user["user"] for user in outcome.json["users"]] == ["ann"]
    assert "line 2 of" in outcome.stderr
    assert "line 2" in run("user", "remove", "ann").error


async def test_a_change_and_a_removal_end_the_sessions(data: Path) -> None:
    """A running console refuses the session with the next request."""
    users = UserFile(data / "console" / "users")
    async with open_console_database(data / "console" / "console.db") as database:
        sessions = SessionTable(database, users)
        for arguments in (("add", "ann", "--role", "admin", "--no-password"), ("remove", "ann"), ("sign-out", "ann")):
            user = make_user("ann")
            users.put(user)
            secret = await sessions.start(user)
            assert await sessions.find(secret)

            assert (await run_in_thread("user", *arguments, "--json")).json["sessions_ended"] == 1
            assert await sessions.find(secret) is None
    assert [row[1] for row in audit_rows(data)] == ["user.change", "user.remove", "session.end"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("user", "add", "a:b", "--role", "viewer", "--no-password"), "is not a name"),
        (("user", "add", "ann\nroot", "--role", "viewer", "--no-password"), "is not a name"),
        (("user", "add", "ann", "--role", "boss", "--no-password"), "'boss' is not a role: viewer, operator or admin"),
        (("user", "add", "ann", "--role", "viewer", "--password-stdin"), "has 5 characters: use 12 to 1000"),
        (("user", "add", "ann", "--role", "viewer", "--password-stdin", "--no-password"), "give either"),
        (("user", "remove", "ann"), "no user 'ann'"),
        (("token", "add", "a b", "--role", "viewer"), "is not a name"),
        (("token", "remove", "ci"), "no token 'ci'"),
        (("link",), "no console has run on"),
        (("--data", "/x", "user", "list"), "write --data after"),
    ],
    ids=str,
)
def test_a_mistake_is_explained_and_changes_nothing(arguments: tuple[str, ...], error: str) -> None:
    """The error names the next step, and there is neither a user nor a token afterwards."""
    assert error in run(*arguments, answer="short\n").error
    assert run("user", "list", "--json").json == {"users": []}
    assert run("token", "list", "--json").json == {"tokens": []}


async def test_a_token_is_printed_once(data: Path) -> None:
    """Its secret is alone on standard output, so that a program can read it; the list does not have it."""
    outcome = await run_in_thread("token", "add", "ci", "--role", "operator")

    secret = outcome.stdout.strip()
    async with open_console_database(data / "console" / "console.db") as database:
        token = await TokenTable(database).find(secret)
    assert token is not None
    assert (token.name, token.role) == ("ci", Role.OPERATOR)
    assert "exists" in (await run_in_thread("token", "add", "ci", "--role", "admin")).error
    listed = await run_in_thread("token", "list", "--json")
    assert [entry["token"] for entry in listed.json["tokens"]] == ["ci"]
    assert secret not in listed.stdout
    assert (await run_in_thread("token", "remove", "ci")).stdout == "token ci is removed\n"
    assert secret not in repr(audit_rows(data))
    assert [row[1] for row in audit_rows(data)] == ["token.add", "token.remove"]


async def test_a_link_is_printed_for_the_running_console(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leads to the address of the settings, or to the given one, and signs in with the given role."""
    monkeypatch.setenv("ACKSTREAM_CONSOLE_HOST", "::,0.0.0.0")
    monkeypatch.setenv("ACKSTREAM_CONSOLE_PORT", "8181")
    async with open_console_database(data / "console" / "console.db") as database:
        own = (await run_in_thread("link")).stdout.strip()
        other = (await run_in_thread("link", "--role", "viewer", "--url", "https://console.example")).stdout.strip()

        assert own.startswith("http://[::1]:8181/sign-in?link=")
        assert other.startswith("https://console.example/sign-in?link=")
        use = await LinkTable(database).use(parse_qs(urlsplit(other).query)["link"][0])
    assert use is not None
    assert use[1] is Role.VIEWER


def test_a_link_leads_to_the_console_of_a_running_up(data: Path) -> None:
    """Its port may come from an option of `up`, which no setting has."""
    lock = run_file.lock_folder(data)
    other = "http://127.0.0.1:1"
    run_file.Addresses("redis://x", "sqlite:///x", other, other, other, "http://127.0.0.1:8282").write(data)
    (data / "console").mkdir()
    (data / "console" / "console.db").touch()

    link = run("link").stdout
    os.close(lock)

    assert link.startswith("http://127.0.0.1:8282/sign-in?link=")


def test_nothing_changes_without_an_entry_in_the_audit_log(data: Path) -> None:
    """If the entry cannot be written, users and tokens stay as they are, and the command can be repeated."""
    run("user", "add", "ann", "--role", "viewer", "--no-password")
    run("token", "add", "ci", "--role", "viewer")
    before = [run(kind, "list", "--json").json for kind in ("user", "token")]
    database = sqlite3.connect(data / "console" / "console.db")
    database.execute("ALTER TABLE audit RENAME TO hidden")
    acts = (
        ("user", "add", "bob", "--role", "admin", "--no-password"),
        ("user", "add", "ann", "--role", "admin", "--no-password"),
        ("user", "remove", "ann"),
        ("token", "add", "cd", "--role", "admin"),
        ("token", "remove", "ci"),
    )

    failed = [run(*act).code for act in acts]

    assert failed == [1] * len(acts)
    assert [run(kind, "list", "--json").json for kind in ("user", "token")] == before
    database.execute("ALTER TABLE hidden RENAME TO audit")
    database.close()
    assert [run(*act).code for act in acts] == [0] * len(acts)
    assert [row[1] for row in audit_rows(data)][2:] == [
        "user.add",
        "user.change",
        "user.remove",
        "token.add",
        "token.remove",
    ]


def test_a_database_that_cannot_be_opened_is_explained(data: Path) -> None:
    """The sentence names the file and the setting of the data folder, not the database of statuses."""
    (data / "console").mkdir()
    (data / "console" / "console.db").write_bytes(b"no database at all" * 100)

    error = run("token", "list").error

    assert "the console's database at" in error
    assert "--data" in error
    assert "ACKSTREAM_DATABASE_URL" not in error
