import asyncio
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from console.up.valkey import find_free_port
from tests.support.samples.events import body, event
from tests.support.samples.examples import NAMES, example
from tests.support.servers.webhook_receiver import OTHER, SECRET, Receiver, run_receiver
from worker.handlers.errors import Gone, Refused, Retry, Throttled, TimedOut
from worker.handlers.forward import ALL, Forward, after_seconds, encode_event, open_session, parse_secrets
from worker.handlers.request import parse_url
from worker.handlers.spec import Spec
from worker.settings import WorkerSettings
from worker.settle.retry_policy import error_text

EVENT = event(body(to="447700900123", client_ref="order-7", **{"from": "AcmeInc"}))


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with run_receiver() as receiver:
        yield receiver


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as client:
        yield client


def forward(client: aiohttp.ClientSession, url: str, *secrets: str, raw: bool = False, seconds: float = 5) -> Forward:
    return Forward(client, parse_url(url), secrets or (SECRET,), seconds, raw=raw)


async def test_an_event_is_posted_signed_in_one_shape(receiver: Receiver, client: aiohttp.ClientSession) -> None:
    """The signature verifies, the webhook id is the event id, and the answer is neither kept nor logged."""
    await forward(client, receiver.url).handle([EVENT])
    sent = orjson.loads(receiver.bodies[0])
    assert (sent["type"], sent["timestamp"][:4]) == ("message.status", "2025")
    assert {name: sent["data"][name] for name in ("message_uuid", "status", "to", "from", "client_ref")} == {
        "message_uuid": "m-1",
        "status": "delivered",
        "to": "447700900123",
        "from": "AcmeInc",
        "client_ref": "order-7",
    }
    assert not {"raw", "sender", "attempt"} & sent["data"].keys()
    assert receiver.sent[0]["webhook-id"] == sent["data"]["event_id"] == EVENT.event_id


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("sig", "v1-13"))])
async def test_every_example_is_forwarded_raw_and_normalised(
    receiver: Receiver, client: aiohttp.ClientSession, name: str
) -> None:
    """Raw is the payload byte by byte with its type; the default JSON has the same fields for all payloads."""
    stored = example(name)
    status_event = event(stored.payload)
    await forward(client, receiver.url, raw=True).handle([status_event])
    await forward(client, receiver.url).handle([status_event])
    assert receiver.bodies[0] == stored.payload
    is_json = stored.payload.lstrip().startswith(b"{")
    assert receiver.sent[0]["Content-Type"] == f"application/{'json' if is_json else 'x-www-form-urlencoded'}"
    assert orjson.loads(receiver.bodies[1])["data"].keys() == orjson.loads(encode_event(EVENT))["data"].keys()


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("500", Refused, "refused: answered 500"),
        ("404", Refused, "refused: answered 404"),
        ("302", Refused, "refused: answered 302"),
        ("429", Refused, "refused: answered 429"),
        ("close", Refused, "refused: no answer (ServerDisconnectedError)"),
        ("hang", TimedOut, "timeout: not done within 0.5 s"),
    ],
)
async def test_an_answer_other_than_2xx_is_a_failure(
    receiver: Receiver, client: aiohttp.ClientSession, how: str, error: type[Exception], message: str
) -> None:
    """The error has the status or the kind of error, but neither URL nor answer; redirects are not followed."""
    receiver.how = how
    receiver.headers = {"Location": receiver.url} if how == "302" else {}
    with pytest.raises(error) as caught:
        await forward(client, receiver.url, seconds=0.5).handle([EVENT])
    assert error_text(caught.value) == message
    assert (len(receiver.bodies), isinstance(caught.value, Retry)) == (1, False)


async def test_a_receiver_that_is_not_there_is_a_failure(client: aiohttp.ClientSession) -> None:
    """The error does not contain the address."""
    with pytest.raises(Refused) as caught:
        await forward(client, f"http://127.0.0.1:{find_free_port()}/hook").handle([EVENT])
    assert error_text(caught.value) == "refused: no answer (ClientConnectorError)"


@pytest.mark.parametrize("status", ["429", "503"])
async def test_retry_after_is_honoured(receiver: Receiver, client: aiohttp.ClientSession, status: str) -> None:
    """`Retry-After` sets the delay until the next attempt."""
    receiver.how, receiver.headers = status, {"Retry-After": "17"}
    with pytest.raises(Throttled) as caught:
        await forward(client, receiver.url).handle([EVENT])
    assert (caught.value.after_seconds, caught.value.reason) == (17, f"answered {status}")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("9" * 400, 86_400),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 99),
        ("Friday, 31-Dec-99 23:59:59 GMT", 99),
        ("Fri, 31 Dec 1999 23:00:00 GMT", 0),
        ("Fri, 31 Dec 2049 23:59:59 GMT", 86_400),
        *((value, None) for value in ("", "-1", "1.5", "soon", "٣", "Fri, 99 Dec 1999 99:99:99 GMT")),
    ],
)
def test_retry_after_is_seconds_or_a_date_with_a_limit(value: str, seconds: float | None) -> None:
    """The limit is a day; a time in the past means now; an unreadable value means None."""
    assert after_seconds(value, 946_684_700) == seconds


async def test_gone_stops_the_group(receiver: Receiver, client: aiohttp.ClientSession) -> None:
    """A receiver that answers 410 raises Gone."""
    receiver.how = "410"
    with pytest.raises(Gone):
        await forward(client, receiver.url).handle([EVENT])


async def test_connections_are_used_again(receiver: Receiver, client: aiohttp.ClientSession) -> None:
    """A connection is reused, also after a failure, but not after an endless answer, which is cut off."""
    handler = forward(client, receiver.url)
    for how in ("200", "500", "200"):
        receiver.how = how
        await asyncio.gather(handler.handle([EVENT]), return_exceptions=True)
    assert len(receiver.peers) == 1
    receiver.how = "endless"
    await handler.handle([EVENT])
    receiver.how = "200"
    await handler.handle([EVENT])
    assert len(receiver.peers) == 2


async def test_two_secrets_give_two_signatures(receiver: Receiver, client: aiohttp.ClientSession) -> None:
    """Each request has a signature of each secret."""
    for secret in (SECRET, OTHER):
        receiver.secret = secret
        await forward(client, receiver.url, SECRET, OTHER).handle([EVENT])
    assert len(receiver.bodies) == 2


async def test_without_a_secret_requests_are_not_signed(receiver: Receiver, client: aiohttp.ClientSession) -> None:
    """The other two headers are there."""
    receiver.secret = None
    await Forward(client, parse_url(receiver.url), (), 5).handle([EVENT])
    assert {name for name in receiver.sent[0] if name.startswith("webhook-")} == {"webhook-id", "webhook-timestamp"}
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(receiver.bodies[0], dict(receiver.sent[0]))


def test_secrets_are_for_all_or_for_one_group() -> None:
    """The secrets of a group replace those for all; an invalid secret is refused without being shown."""
    text = f"{SECRET}\nshop={OTHER}, shop={SECRET}"
    assert parse_secrets(text) == {ALL: [SECRET], "shop": [OTHER, SECRET]}
    settings = WorkerSettings.load(forward_secrets=text)
    assert [settings.secrets_of(group) for group in ("shop", "other")] == [[OTHER, SECRET], [SECRET]]
    assert WorkerSettings.load().secrets_of("shop") == ()
    for wrong in ("hunter2", "whsec_", "whsec_hunter-2", "shop:whsec_AAAA", "whsec_AAAAA"):
        with pytest.raises(Exception, match="FORWARD_SECRETS: its value is not valid") as caught:
            WorkerSettings.load(forward_secrets=wrong)
        assert wrong not in str(caught.value).partition("expected")[0]


def test_a_group_is_named_without_the_secrets_of_its_url() -> None:
    """The default name has the host and 8 hex digits, and other options do not change it."""
    spec = Spec.parse("forward:https://user:hunter2@example.test/a=b?key=hunter2#raw=true&concurrency=2")
    assert spec.url == "https://user:hunter2@example.test/a=b?key=hunter2"
    assert (spec.options.raw, spec.group[:-8], len(spec.group)) == (True, "forward:example.test-", 29)
    assert Spec.parse("shop=forward:https://example.test/#timeout=5").group == "shop"


@pytest.mark.parametrize(
    "text",
    [
        *("forward:", "forward:example.test", "forward:ftp://example.test/hunter2", "forward:https:///hunter2"),
        *("forward:http://example.test:hunter2", "forward:https://example.test#raw=perhaps", "log#raw=true"),
    ],
)
def test_an_invalid_url_is_refused(text: str) -> None:
    """The error does not show the URL."""
    with pytest.raises(Exception, match="HANDLERS: ") as caught:
        WorkerSettings.load(handlers=text)
    assert "hunter2" not in str(caught.value).partition("expected")[0]
