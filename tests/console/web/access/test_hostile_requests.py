"""Requests that no browser sends, byte by byte, to a whole console."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from console.web.access.guard import HEADERS
from console.web.access.roles import Role
from console.web.access.sessions import SessionTable
from console.web.access.users import UserFile
from console.web.database import open_console_database
from stream.keys import Shard
from tests.support.http.console_server import run_console
from tests.support.http.guarded import make_user

FORM = b"Content-Type: application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as it came."""

    head: str
    body: bytes

    @property
    def status(self) -> int:
        """The status; 401 for a redirect to the sign-in page."""
        status = int(self.head.split(" ", 2)[1])
        return 401 if status == 303 and "\r\nLocation: /sign-in" in self.head else status


@dataclass(frozen=True, slots=True)
class RawClient:
    """Sends bytes to a console, as a stranger or as an admin."""

    port: int
    secret: str

    async def send(
        self, line: str, *headers: bytes, host: bytes | None = b"", body: bytes = b"", admin: bool = True
    ) -> RawAnswer:
        """Send a request with these lines; ``host`` is the console's own unless it is given, and None sends none."""
        lines = [line.encode("latin-1"), b"Connection: close", *headers]
        if host is not None:
            lines.append(b"Host: " + (host or b"127.0.0.1:%d" % self.port))
        if admin:
            lines.append(b"Cookie: ackstream-%d=%s" % (self.port, self.secret.encode()))
        if body:
            lines.append(b"Content-Length: %d" % len(body))
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"\r\n".join([*lines, b"", body]))
        async with asyncio.timeout(30):
            head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return RawAnswer(head.decode(), rest)


@pytest.fixture
async def client(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[RawClient]:
    async with run_console(tmp_path, valkey_url, shard.name) as console:
        users, user = UserFile(console.settings.users_file), make_user("admin", Role.ADMIN)
        users.put(user)
        async with open_console_database(console.settings.console_database) as database:
            secret = await SessionTable(database, users).start(user)
        yield RawClient(console.settings.console_port, secret)


async def test_the_host_header_decides_alone_and_once(client: RawClient) -> None:
    """A missing, doubled, malformed or foreign host is refused, with an admin's cookie too; so is an absolute URL."""
    own_host = b"127.0.0.1:%d" % client.port
    wrong = {
        "none": await client.send("GET / HTTP/1.1", host=None),
        "none in HTTP/1.0": await client.send("GET / HTTP/1.0", host=None),
        "two": await client.send("GET / HTTP/1.1", b"Host: " + own_host),
        "one of them foreign": await client.send("GET / HTTP/1.1", b"Host: evil.example"),
        "a foreign URL": await client.send("GET http://evil.example/ HTTP/1.1"),
        "an own URL": await client.send(f"GET http://{own_host.decode()}/ HTTP/1.1", host=b"evil.example"),
        "HTTPS by the URL": await client.send(f"GET https://{own_host.decode()}/ HTTP/1.1"),
        "CONNECT": await client.send("CONNECT evil.example:80 HTTP/1.1"),
    }
    for host in (
        b"evil",
        b"x@" + own_host,
        b"localhost.",
        own_host + b", evil",
        b"2130706433",
        b"0177.0.0.1",
        b"[::1%25lo]",
        b"l\xf6",
    ):
        wrong[repr(host)] = await client.send("GET / HTTP/1.1", host=host)

    assert {name: answer.status for name, answer in wrong.items() if answer.status not in (400, 421)} == {}
    assert (await client.send("GET / HTTP/1.1", host=own_host)).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "//",
        "//api/v1/overview",
        "/%2e%2e/",
        "/./",
        "/api/v1/../../",
        "/api/v1/%2e%2e/%2e%2e/",
        "/api%2fv1/overview",
        "/api/v1/overview/",
        "/api/v1/overview%3f",
        "/sign-in/",
        "/sign-in;x",
        "/sign-in%00",
        "/static/../",
        "/%ff",
    ],
)
async def test_a_path_means_the_same_to_guard_and_router(client: RawClient, path: str) -> None:
    """A stranger gets nothing under any spelling of a path, and an admin gets 404: no spelling is a way around."""
    assert (await client.send(f"GET {path} HTTP/1.1", admin=False)).status == 401
    assert (await client.send(f"GET {path} HTTP/1.1")).status == 404


async def test_an_escaped_letter_needs_the_same_role(client: RawClient) -> None:
    """The router reads %61 as a; the guard checks the route that it finds."""
    assert (await client.send("GET /%61pi/v1/overview HTTP/1.1", admin=False)).status == 401
    assert (await client.send("GET /%61pi/v1/overview HTTP/1.1")).status == 200


async def test_static_files_lead_nowhere_else(client: RawClient) -> None:
    """A path of a static file cannot climb out of the folder."""
    for path in ("/static/x/..%2f..%2fapp.py", "/static/x/../../app.py", "/static/x//etc/passwd", "/static/x/%00"):
        assert (await client.send(f"GET {path} HTTP/1.1", admin=False)).status == 404


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "DELETE", "PATCH", "PROPFIND"])
async def test_other_methods_do_nothing(client: RawClient, method: str) -> None:
    """A stranger is asked to sign in; an admin's browser gets 403 from elsewhere and 405 from an own page."""
    assert (await client.send(f"{method} / HTTP/1.1", admin=False)).status == 401
    assert (await client.send(f"{method} / HTTP/1.1")).status == 403
    assert (await client.send(f"{method} / HTTP/1.1", b"Sec-Fetch-Site: same-origin")).status == 405


async def test_no_header_changes_the_method_or_the_path(client: RawClient) -> None:
    """The console knows none of the headers with which frameworks override these."""
    for header in (b"X-HTTP-Method-Override: POST", b"X-Original-URL: /sign-in", b"X-Rewrite-URL: /sign-in"):
        assert (await client.send("GET / HTTP/1.1", header, admin=False)).status == 401


async def test_oversized_input_is_refused(client: RawClient) -> None:
    """A body, a parameter, a header or a URL that is too long costs the sender an error."""
    big, many = b"name=" + b"a" * 200_000, b"&".join(b"a%d=" % number for number in range(20_000))

    assert (await client.send("POST /sign-in HTTP/1.1", FORM, body=big, admin=False)).status == 413
    assert (await client.send("POST /sign-in HTTP/1.1", FORM, body=many, admin=False)).status == 413
    assert (await client.send(f"GET /sign-in?link={'a' * 5000} HTTP/1.1", admin=False)).status == 400
    assert (await client.send("GET / HTTP/1.1", b"X: " + b"a" * 9000)).status == 400
    assert (await client.send(f"GET /{'a' * 9000} HTTP/1.1")).status == 400
    assert (await client.send("GET / HTTP/1.1", b"Cookie: " + b"a" * 7000, admin=False)).status == 401


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM + b"; charset=nope", b"name=a"),
        (FORM + b"; charset=utf-16", b"name=ab"),
        (FORM, b"name=\xff\xfe"),
        (b"Content-Type: application/json", b'{"name":"\\ud800","password":"x"}'),
        (b"Content-Type: application/json", b"[" * 60_000),
        (
            b"Content-Type: multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: form-data; name=name; filename=a\r\n\r\na\r\n--x--",
        ),
        (b"Content-Type: multipart/form-data", b"name=a"),
        (b"Content-Type: text/plain", b"name=a"),
    ],
)
async def test_a_malformed_form_is_the_fault_of_its_sender(client: RawClient, content_type: bytes, body: bytes) -> None:
    """It is answered 4xx, and never 500."""
    answer = await client.send("POST /sign-in HTTP/1.1", content_type, body=body, admin=False)

    assert 400 <= answer.status < 500


async def test_malformed_http_gets_the_headers_too(client: RawClient) -> None:
    """The answer has the security headers, names no version, and quotes nothing of the request."""
    for line, header in (
        ("GET / HTTP/9.9", b"X: 1"),
        ("get <script> HTTP/1.1", b"X: 1"),
        ("GET / HTTP/1.1", b"<script>\x00: 1"),
        ("POST / HTTP/1.1", b"Transfer-Encoding: chunked\r\nContent-Length: 3"),
        ("GET / HTTP/1.1", b"X: 1\r\n folded"),
    ):
        answer = await client.send(line, header)
        assert answer.status == 400
        assert all(f"\r\n{name}: {value}" in answer.head for name, value in HEADERS.items())
        assert not re.search("aiohttp|Python", answer.head)
        assert answer.body == b"The request is not valid HTTP.\n"


async def test_a_redirect_cannot_be_split_or_lead_elsewhere(client: RawClient) -> None:
    """Line ends and other hosts in the path or in a header of htmx stay text."""
    split = await client.send("GET /x%0d%0aSet-Cookie:%20a=b HTTP/1.1", admin=False)
    assert "\r\nSet-Cookie" not in split.head
    for url, target in (
        (b"http://127.0.0.1:1/groups?a=1", "/sign-in?next=/groups%3Fa%3D1"),
        (b"http://evil.example//evil.example/", "/sign-in"),
        (b"javascript:alert(1)", "/sign-in"),
        (b"//[", "/sign-in"),
        (b"", "/sign-in"),
    ):
        answer = await client.send("GET /live HTTP/1.1", b"HX-Request: true", b"HX-Current-URL: " + url, admin=False)
        assert answer.status == 401
        assert f"\r\nHX-Redirect: {target}\r\n" in answer.head + "\r\n"


async def test_an_address_without_a_port_has_a_cookie_too(client: RawClient) -> None:
    """On port 80 the Host header of an IPv6 address ends with a bracket, which no cookie's name may have."""
    for host in (b"[::1]", b"localhost", b"[::ffff:7f00:1]"):
        answer = await client.send("POST /sign-in HTTP/1.1", FORM, body=b"name=a&password=b", host=host, admin=False)
        assert answer.status == 403
        out = await client.send("POST /sign-out HTTP/1.1", host=host, admin=False)
        assert "\r\nSet-Cookie: ackstream=" in out.head
