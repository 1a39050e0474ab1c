"""Every route of the console, with every kind of identity: the guard decides before a handler runs."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession, DummyCookieJar
from aiosqlite import Connection

from console.web import routes
from console.web.access.roles import Role
from console.web.access.sessions import SessionTable
from console.web.access.tokens import TokenTable
from console.web.access.users import UserFile
from console.web.database import open_console_database
from console.web.live import LiveStreams
from console.web.route import Route
from stream.keys import Shard
from tests.support.http.console_server import SAME_ORIGIN, run_console
from tests.support.http.guarded import make_user

ALL = routes.collect(LiveStreams(routes.LIVE, asyncio.Event()))
ROUTES = [(route, route.role) for route in ALL if route.role is not None]
PUBLIC = {("GET", "/sign-in"), ("POST", "/sign-in"), ("POST", "/sign-out"), ("GET", "/static/{digest}/{name:.+}")}
REFUSED = {401, 403}

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Doors:
    """A running console, and the headers of each identity."""

    url: str
    http: ClientSession
    roles: Mapping[Role, Headers]
    tokens: Mapping[Role, Headers]
    strangers: Mapping[str, Headers]

    async def status(self, route: Route, *headers: Headers, method: str = "") -> int:
        """Return the status of a request without parameters; a redirect to the sign-in page counts as 401."""
        url = self.url + re.sub(r"\{[^}]*\}", "x", route.path)
        sent = {name: value for part in headers for name, value in part.items()}
        async with self.http.request(method or route.method, url, headers=sent, allow_redirects=False) as answer:
            return 401 if answer.headers.get("Location", "").startswith("/sign-in") else answer.status


@pytest.fixture
async def doors(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[Doors]:
    async with (
        run_console(tmp_path, valkey_url, shard.name) as console,
        ClientSession(cookie_jar=DummyCookieJar()) as http,
        open_console_database(console.settings.console_database) as database,
    ):
        users, tokens = UserFile(console.settings.users_file), TokenTable(database)
        sessions = SessionTable(database, users)
        for role in Role:
            users.put(make_user(str(role), role))
        name = f"ackstream-{console.settings.console_port}"

        def cookie(secret: str) -> Headers:
            return {"Cookie": f"{name}={secret}"}

        yield Doors(
            console.url,
            http,
            {role: cookie(await sessions.start(make_user(str(role), role))) for role in Role},
            {role: {"Authorization": f"Bearer {await tokens.add(str(role), role)}"} for role in Role},
            {
                "nothing": {},
                "a made-up cookie": cookie("x" * 43),
                "an expired session": cookie(await start_expired(database, users)),
                "a session after sign-out": cookie(await start_ended(sessions)),
                "a removed user": cookie(await start_removed(sessions, users)),
                "a removed token": {"Authorization": f"Bearer {await add_removed(tokens)}"},
                "a password as Basic": {"Authorization": "Basic YWRtaW46YWRtaW4="},
                "a header of a proxy": {"X-Forwarded-User": "admin", "X-Forwarded-For": "127.0.0.1"},
            },
        )


async def start_expired(database: Connection, users: UserFile) -> str:
    sessions = SessionTable(database, users, lambda: 0.0)
    return await sessions.start(make_user("admin", Role.ADMIN))


async def start_ended(sessions: SessionTable) -> str:
    secret = await sessions.start(make_user("admin", Role.ADMIN))
    await sessions.end(secret)
    return secret


async def start_removed(sessions: SessionTable, users: UserFile) -> str:
    user = make_user("removed", Role.ADMIN)
    users.put(user)
    secret = await sessions.start(user)
    users.remove(user.name)
    return secret


async def add_removed(tokens: TokenTable) -> str:
    secret = await tokens.add("removed", Role.ADMIN)
    await tokens.remove("removed")
    assert secret is not None
    return secret


def test_the_public_routes_are_these() -> None:
    """A route without sign-in is a decision: it changes this list."""
    assert {(route.method, route.path) for route in ALL if route.role is None} == PUBLIC


def test_each_route_has_one_role() -> None:
    """Method and path are unique, so that the guard knows the role that counts."""
    keys = [(route.method, route.path) for route in ALL]
    assert sorted(keys) == sorted(set(keys))


async def test_a_stranger_reaches_no_route(doors: Doors) -> None:
    """Without a valid identity every route, and HEAD on every page, answers 401 or leads to the sign-in page."""
    reached = {
        (who, method, route.path): status
        for route, _ in ROUTES
        for who, headers in doors.strangers.items()
        for method in ([route.method, "HEAD"] if route.method == "GET" else [route.method])
        if (status := await doors.status(route, SAME_ORIGIN, headers, method=method)) != 401
    }

    assert reached == {}


async def test_each_role_reaches_its_routes_only(doors: Doors) -> None:
    """A person of the role and those above it reach a route; a person below gets 403."""
    wrong = {
        (role.name, route.method, route.path): status
        for route, needed in ROUTES
        for role in Role
        if ((status := await doors.status(route, SAME_ORIGIN, doors.roles[role])) in REFUSED) != (role < needed)
    }

    assert wrong == {}


async def test_a_token_reaches_the_api_only(doors: Doors) -> None:
    """On the API it has its role, without cookie and from anywhere; on pages and their actions it counts as nothing."""
    wrong = {
        (role.name, route.method, route.path): status
        for route, needed in ROUTES
        for role, headers in doors.tokens.items()
        if ((status := await doors.status(route, headers)) in REFUSED) != (not route.is_api or role < needed)
    }

    assert wrong == {}


async def test_no_action_can_be_forged(doors: Doors) -> None:
    """A page of another site, or of another port of this host, cannot make an admin's browser act."""
    forged = {
        (route.path, *headers.values()): status
        for route, _ in ROUTES
        if route.method == "POST"
        for headers in (
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "none"},
            {"Origin": "http://evil.example"},
            {"Origin": "http://127.0.0.1:1"},
            {"Origin": "null"},
            {},
        )
        if (status := await doors.status(route, headers, doors.roles[Role.ADMIN])) != 403
    }

    assert forged == {}


async def test_no_route_answers_under_a_foreign_name(doors: Doors) -> None:
    """DNS rebinding: a page of evil.example, whose name points to this machine, gets 421 from every route."""
    reached = {
        (route.method, route.path): status
        for route in ALL
        if (status := await doors.status(route, {"Host": "evil.example"}, doors.roles[Role.ADMIN])) != 421
    }

    assert reached == {}
