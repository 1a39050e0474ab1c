"""The raw bytes that `forward` sends, as a socket receives them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from tests.support.samples.events import body, event
from tests.support.servers.listen import run_listener
from tests.support.servers.webhook_receiver import Receiver, run_receiver
from worker.handlers.errors import Refused, Throttled
from worker.handlers.forward import Forward, open_session
from worker.handlers.request import parse_url, read_headers
from worker.handlers.spec import Spec
from worker.settle.retry_policy import error_text

EVENT = event(body())


@dataclass(slots=True)
class RawReceiver:
    """A socket that records each request head byte by byte and answers 204."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    @property
    def target(self) -> bytes:
        """The request target of the last request."""
        return self.heads[-1].split(b" ")[1]

    def header(self, name: str) -> list[str]:
        """Return the values of a header of the last request."""
        lines = (line.partition(b": ") for line in self.heads[-1].split(b"\r\n"))
        return [value.decode() for key, _, value in lines if key.lower() == name.lower().encode()]


@pytest.fixture
async def raw() -> AsyncIterator[RawReceiver]:
    receiver = RawReceiver()
    async with run_listener(receiver.serve) as receiver.port:
        yield receiver


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with run_receiver() as receiver:
        receiver.secret = None
        yield receiver


@asynccontextmanager
async def open_handler(text: str) -> AsyncIterator[Forward]:
    """Yield the forward handler of a text."""
    spec = Spec.parse(text)
    assert spec.url is not None
    headers = read_headers(spec.options.headers)
    async with open_session() as client:
        yield Forward(client, parse_url(spec.url), (), 5, headers=headers, query=bool(spec.options.query))


@pytest.mark.parametrize(
    "target",
    [
        "/hook?Expires=1764000000&Signature=ab~cd-ef_gh%2Fij%2bkl%3D%3D&Key-Pair-Id=K2",
        "/a%2Fb/%7Euser/%e4%F6?x=a+b&y=%20&&z=;q=1",
        "/a/../b/./c//d",
        "/%41%42?%41=%42&empty=&flag",
        "/hook?redirect=https://other.test/path?x=1&sig='(a)*!'",
        '/hook?json={"a":[1,2]}|x^y`z\\',
        "/hook?percent=100%&half=%2",
        "/",
    ],
)
async def test_a_url_is_sent_byte_by_byte_as_written(raw: RawReceiver, target: str) -> None:
    """Escapes, their case, dots and odd characters stay unchanged, so a signed URL stays valid."""
    async with open_handler(f"forward:http://127.0.0.1:{raw.port}{target}#timeout=5") as handler:
        await handler.handle([EVENT])

    assert raw.target == target.encode()


async def test_a_url_without_a_path_is_sent_with_a_slash(raw: RawReceiver) -> None:
    """HTTP has no empty path; the query follows as written."""
    async with open_handler(f"forward:http://127.0.0.1:{raw.port}?a=%2f") as handler:
        await handler.handle([EVENT])

    assert raw.target == b"/?a=%2f"


async def test_other_characters_than_ascii_are_sent_as_utf8_escapes(raw: RawReceiver) -> None:
    """Only these characters change; escapes in the same URL stay."""
    async with open_handler(f"forward:http://127.0.0.1:{raw.port}/straße%2Fx?q=ü+%C3") as handler:
        await handler.handle([EVENT])

    assert raw.target == b"/stra%C3%9Fe%2Fx?q=%C3%BC+%C3"


@pytest.mark.parametrize(
    ("text", "host", "path"),
    [
        ("https://straße.example:8443/a%2Fb", "xn--strae-oqa.example", "/a%2Fb"),
        ("https://user:p%40w@münchen.test/x", "xn--mnchen-3ya.test", "/x"),
        ("https://例え.テスト/?q=%2b", "xn--r8jz45g.xn--zckzah", "/?q=%2b"),
        ("http://[::1]:8080/a", "::1", "/a"),
    ],
)
def test_a_host_that_is_not_ascii_is_sent_in_its_idna_form(text: str, host: str, path: str) -> None:
    """The rest of the URL stays as written, also the escapes of a password."""
    url = parse_url(text)

    assert (url.raw_host, url.raw_path_qs) == (host, path)
    assert url.password == ("p@w" if "user" in text else None)


async def test_a_login_in_the_url_is_sent_as_basic_authorization(raw: RawReceiver) -> None:
    """Its escapes are decoded, and the request target does not contain it."""
    async with open_handler(f"forward:http://us%65r:p%40w@127.0.0.1:{raw.port}/a%2Fb") as handler:
        await handler.handle([EVENT])

    assert (raw.target, raw.header("Authorization")) == (b"/a%2Fb", ["Basic dXNlcjpwQHc="])


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.test", "//example.test/x", "ftp://example.test/hunter2", "https:///hunter2", "https://"),
        *("http://example.test:hunter2", "http://example.test:0/", "http://example.test:99999/", "http://[::1/x"),
        *("https://example.test/a b", "https://example.test/\x7f", "https://example.test/a?", "https://a..ü/hunter2"),
    ],
)
def test_an_invalid_url_is_refused_without_being_shown(url: str) -> None:
    """The sentence says why the URL is invalid and how to write it."""
    with pytest.raises(ValueError, match="URL") as caught:
        Spec.parse(f"forward:{url}")

    assert "hunter2" not in str(caught.value)


async def test_configured_headers_are_sent(raw: RawReceiver, tmp_path: Path) -> None:
    """Several headers keep blanks and signs, escapes are decoded, and a file gives a value without its line end."""
    (tmp_path / "key").write_text("s3cr3t+key/==\n")
    options = (
        "header.Authorization=Bearer abc+def/==%26%2525&header.X-Team=sms, rcs&timeout=5"
        f"&header.X-Key=@{tmp_path}/key&header.X-At=%40home"
    )
    async with open_handler(f"forward:http://127.0.0.1:{raw.port}/#{options}") as handler:
        await handler.handle([EVENT])

    assert raw.header("Authorization") == ["Bearer abc+def/==&%25"]
    assert (raw.header("X-Team"), raw.header("X-Key"), raw.header("X-At")) == (
        ["sms, rcs"],
        ["s3cr3t+key/=="],
        ["@home"],
    )
    assert raw.header("webhook-id") == [EVENT.event_id]
    assert raw.header("Content-Type") == ["application/json"]


@pytest.mark.parametrize(("how", "error", "reason"), [("500", Refused, "refused"), ("429", Throttled, "retry")])
async def test_an_error_quotes_the_answer_and_its_reason_does_not(
    receiver: Receiver, how: str, error: type[Exception], reason: str
) -> None:
    """The text of the error has the status and the answer; its reason, which is logged, has only the status."""
    receiver.how, receiver.headers = how, {"Retry-After": "5"}
    async with open_handler(f"forward:{receiver.url}") as handler:
        with pytest.raises(error) as caught:
            await handler.handle([EVENT])

    assert str(caught.value) == f"answered {how}: … in the answer"
    assert error_text(caught.value) == f"{reason}: answered {how}"


async def test_an_answer_is_quoted_up_to_a_limit_without_secrets() -> None:
    """A receiver that echoes its request reveals neither the headers nor the secrets of the URL."""
    echo = b"Bearer tok-123456 tok-123456 /hook?sig=abcdef123 abcdef123 " + b"x" * 5000

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" + echo)
        writer.close()

    async with run_listener(serve) as port:
        text = f"forward:http://127.0.0.1:{port}/hook?sig=abcdef123#header.Authorization=Bearer tok-123456"
        async with open_handler(text) as handler:
            with pytest.raises(Refused) as caught:
                await handler.handle([EVENT])

    message = str(caught.value)
    assert message.startswith("answered 400: … … … … xxx")
    assert len(message) == len("answered 400: ") + 1024


async def test_the_query_of_the_webhook_is_forwarded_only_when_asked_for(receiver: Receiver) -> None:
    """No signature covers the query, so a receiver gets it only with query=true."""
    status_event = event(body(), query=b"ref=order%207&tenant=a&tenant=b")
    for options in ("", "query=false", "query=true"):
        async with open_handler(f"forward:{receiver.url}#{options}") as handler:
            await handler.handle([status_event])

    sent = [orjson.loads(payload)["data"] for payload in receiver.bodies]
    assert ["query" in data for data in sent] == [False, False, True]
    assert sent[2]["query"] == {"ref": "order 7", "tenant": "b"}
