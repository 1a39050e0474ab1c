"""A web application behind the console's guard, on a real port, and a client that sends any headers."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import orjson
from aiohttp import ClientSession, DummyCookieJar, web
from argon2 import PasswordHasher

from console.web.access.control import AccessControl, SignInFailed, TooManyAttempts
from console.web.access.guard import IDENTITY, Roles, add_headers, make_guard
from console.web.access.login_limit import LoginLimiter
from console.web.access.passwords import PasswordChecker
from console.web.access.perimeter import Perimeter
from console.web.access.roles import Role
from console.web.access.users import User
from console.web.database import open_console_database

PASSWORD = "correct horse battery staple"  # noqa: S105 - of tests
QUICK_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ROLES: Roles = {
    ("GET", "/sign-in"): None,
    ("POST", "/sign-in"): None,
    ("POST", "/sign-out"): Role.VIEWER,
    ("GET", "/static/console.css"): None,
    ("GET", "/"): Role.VIEWER,
    ("POST", "/replay"): Role.OPERATOR,
    ("POST", "/drop"): Role.ADMIN,
    ("GET", "/api/v1/groups"): Role.VIEWER,
    ("POST", "/api/v1/groups"): Role.OPERATOR,
}


def make_user(name: str, role: Role = Role.VIEWER) -> User:
    """Return a user with PASSWORD, whose hash takes next to no time."""
    return User(name, role, _hash())


@cache
def _hash() -> str:
    return QUICK_HASHER.hash(PASSWORD)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def cookie(self) -> str:
        """The Cookie header that a browser would send from now on."""
        morsels = SimpleCookie(self.headers["Set-Cookie"]).values()
        return "; ".join(f"{morsel.key}={morsel.value}" for morsel in morsels)


@dataclass(frozen=True, slots=True)
class GuardedServer:
    """A running server and its access control."""

    access: AccessControl
    port: int
    http: ClientSession

    @property
    def origin(self) -> str:
        """The origin of its pages."""
        return f"http://127.0.0.1:{self.port}"

    async def send(self, method: str, path: str, headers: Any = (), data: Any = None) -> Answer:
        """Send one request. ``headers`` is a mapping, or pairs if a header comes twice."""
        async with self.http.request(
            method, f"{self.origin}{path}", headers=headers, data=data, allow_redirects=False
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.text())

    async def sign_in(self, name: str, password: str = PASSWORD, headers: Mapping[str, str] | None = None) -> Answer:
        """Send the form of the sign-in page."""
        return await self.send("POST", "/sign-in", headers or {}, {"name": name, "password": password})

    async def enter(self, name: str, role: Role = Role.VIEWER) -> str:
        """Add a user and start a session; return the cookie."""
        user = make_user(name, role)
        self.access.users.put(user)
        return f"ackstream-{self.port}={await self.access.sessions.start(user)}"


@asynccontextmanager
async def run_guarded(
    folder: Path, perimeter: Perimeter | None = None, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[GuardedServer]:
    """Run a server with the routes of ROLES, whose answers show the identity. The clock is for attempts to sign in."""
    async with open_console_database(folder / "console" / "console.db") as database:
        access = AccessControl.open(database, folder / "console" / "users", perimeter or Perimeter(["127.0.0.1"]))
        passwords = PasswordChecker(access.users, QUICK_HASHER, decoy=_hash())
        access = replace(access, limiter=LoginLimiter(clock), passwords=passwords)
        app = web.Application(middlewares=[make_guard(access, ROLES)])
        app.on_response_prepare.append(add_headers)
        handlers = {("POST", "/sign-in"): _sign_in(access), ("POST", "/sign-out"): _sign_out(access)}
        for method, path in ROLES:
            app.router.add_route(method, path, handlers.get((method, path), _show_identity))
            if method == "GET":
                app.router.add_route("HEAD", path, _show_identity)
        app.router.add_get("/unlisted", _show_identity)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            async with ClientSession(cookie_jar=DummyCookieJar()) as http:
                yield GuardedServer(access, runner.addresses[0][1], http)
        finally:
            await runner.cleanup()


async def _show_identity(request: web.Request) -> web.Response:
    identity = request.get(IDENTITY)
    shown = [identity.name, str(identity.role), identity.address] if identity else []
    return web.Response(body=orjson.dumps(shown), content_type="application/json")


def _sign_in(access: AccessControl) -> Any:
    async def sign_in(request: web.Request) -> web.Response:
        form, response = await request.post(), web.Response(text="signed in")
        try:
            if "link" in form:
                if await access.use_link(request, response, str(form["link"])) is None:
                    return web.Response(status=401, text="not valid")
            else:
                await access.sign_in(request, response, str(form["name"]), str(form["password"]))
        except SignInFailed as exc:
            return web.Response(status=401, text=str(exc.tries_left))
        except TooManyAttempts as exc:
            return web.Response(status=429, headers={"Retry-After": str(exc.retry_seconds)})
        return response

    return sign_in


def _sign_out(access: AccessControl) -> Any:
    async def sign_out(request: web.Request) -> web.Response:
        response = web.Response(text="signed out")
        await access.sign_out(request, response)
        return response

    return sign_out
