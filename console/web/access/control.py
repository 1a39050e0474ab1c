"""Sign-in, sign-out, and the identity of a request."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Self

import structlog
from aiohttp import web
from aiosqlite import Connection

from console.web.access.audit import KEEP_SECONDS, AuditLog
from console.web.access.links import LinkTable
from console.web.access.login_limit import LoginLimiter
from console.web.access.passwords import PasswordChecker
from console.web.access.perimeter import Perimeter
from console.web.access.roles import Identity
from console.web.access.sessions import LONGEST_SECONDS, SessionTable
from console.web.access.tokens import TokenTable
from console.web.access.users import UserFile

log = structlog.get_logger("console.access")

BUSY_SECONDS = 2.0


class SignInFailed(Exception):  # noqa: N818 - named for the answer
    """The name or the password is wrong. ``tries_left`` attempts may follow before the first wait."""

    def __init__(self, tries_left: int) -> None:
        super().__init__(tries_left)
        self.tries_left = tries_left


class TooManyAttempts(Exception):  # noqa: N818 - named for the answer
    """The attempt was not made. The answer is 429 with Retry-After: ``retry_seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.retry_seconds = ceil(seconds)


@dataclass(frozen=True, slots=True)
class AccessControl:
    """Knows who may do what on this console."""

    perimeter: Perimeter
    users: UserFile
    passwords: PasswordChecker
    limiter: LoginLimiter
    sessions: SessionTable
    links: LinkTable
    tokens: TokenTable
    audit: AuditLog

    @classmethod
    def open(
        cls, database: Connection, users_file: Path, perimeter: Perimeter, *, audit_seconds: float = KEEP_SECONDS
    ) -> Self:
        """Return the access control over this database and file of users."""
        users = UserFile(users_file)
        return cls(
            perimeter,
            users,
            PasswordChecker(users),
            LoginLimiter(),
            SessionTable(database, users),
            LinkTable(database),
            TokenTable(database),
            AuditLog(database, keep_seconds=audit_seconds),
        )

    async def sign_in(self, request: web.Request, response: web.StreamResponse, name: str, password: str) -> Identity:
        """Check the password, and give the response the cookie of a new session.

        Raises SignInFailed, and TooManyAttempts.
        """
        address = self.perimeter.client_address(request)
        seconds = BUSY_SECONDS if self.passwords.is_busy else self.limiter.start(name, address)
        if seconds > 0:
            raise TooManyAttempts(seconds)
        user = await self.passwords.check(name, password)
        if user is None:
            log.warning("sign_in.failed", sampled=True, address=address)
            raise SignInFailed(self.limiter.tries_left(name, address))
        self.limiter.succeed(name, address)
        identity = Identity(user.name, user.role, address)
        await self._enter(request, response, identity, await self.sessions.start(user), "password")
        return identity

    async def use_link(self, request: web.Request, response: web.StreamResponse, secret: str) -> Identity | None:
        """Use up a sign-in link, and give the response the cookie of a new session. None if the link is not valid."""
        used = await self.links.use(secret)
        if used is None:
            return None
        identity = Identity(*used, self.perimeter.client_address(request))
        session = await self.sessions.start_for_link(identity.name, identity.role)
        await self._enter(request, response, identity, session, "link")
        return identity

    async def sign_out(self, request: web.Request, response: web.StreamResponse) -> None:
        """End the session of the request, and remove its cookie."""
        identity = await self.identify(request)
        await self._end_session(request)
        if identity is not None:
            await self.audit.record(identity, action="session.end", result="signed out")
        response.del_cookie(self._cookie_name(request), secure=self.perimeter.is_https(request), httponly=True)

    async def identify(self, request: web.Request, *, is_use: bool = True) -> Identity | None:
        """Return the person that the request's proxy or session cookie names, or None.

        A live stream calls it again and again with ``is_use=False``: then an open page does not keep a session alive.
        """
        address = self.perimeter.client_address(request)
        if (name := self.perimeter.named_user(request)) is not None:
            user = self.users.find(name)
            return Identity(user.name, user.role, address) if user else None
        secret = self._session_secret(request)
        session = await self.sessions.find(secret, is_use=is_use) if secret else None
        return Identity(session.name, session.role, address) if session else None

    async def identify_token(self, request: web.Request, secret: str) -> Identity | None:
        """Return the token's identity, or None."""
        token = await self.tokens.find(secret)
        return Identity(f"token:{token.name}", token.role, self.perimeter.client_address(request)) if token else None

    def has_credentials(self, request: web.Request) -> bool:
        """Whether the browser or the proxy has added credentials to the request."""
        return self.perimeter.named_user(request) is not None or bool(self._session_cookies(request))

    async def _enter(
        self, request: web.Request, response: web.StreamResponse, identity: Identity, secret: str, how: str
    ) -> None:
        await self._end_session(request)  # each sign-in has a new secret
        response.set_cookie(
            self._cookie_name(request),
            secret,
            max_age=int(LONGEST_SECONDS),
            httponly=True,
            samesite="Lax",
            secure=self.perimeter.is_https(request),
        )
        await self.audit.record(identity, action="session.start", scope=how, result="signed in")

    async def _end_session(self, request: web.Request) -> None:
        if secret := self._session_secret(request):
            await self.sessions.end(secret)

    def _session_secret(self, request: web.Request) -> str | None:
        """Return the secret. Of two cookies with its name, another site of this domain has set one: none counts."""
        values = self._session_cookies(request)
        return values[0] if len(values) == 1 else None

    def _session_cookies(self, request: web.Request) -> list[str]:
        name = self._cookie_name(request)
        pairs = (
            pair.strip().partition("=") for line in request.headers.getall("Cookie", []) for pair in line.split(";")
        )
        return [value for key, _, value in pairs if key == name and value]

    def _cookie_name(self, request: web.Request) -> str:
        """Return the cookie's name. A browser accepts ``__Host-`` from this host over HTTPS only.

        On HTTP the name has the port: cookies do not, and several consoles may run on one machine.
        """
        if self.perimeter.is_https(request):
            return "__Host-ackstream"
        port = self.perimeter.port(request)
        return f"ackstream-{port}" if port else "ackstream"
