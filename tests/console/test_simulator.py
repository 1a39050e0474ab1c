import asyncio
import io
import random
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from rich.console import Console

from console.simulate.latencies import Latencies
from console.simulate.messages import CHANNELS, RANKS, SimulatedWebhook, plan, predict_statuses
from console.simulate.progress import open_bar
from console.simulate.sender import SendSchedule, send
from runtime.errors import Refusal
from stream.entry import Entry
from worker.events.event import StatusEvent
from worker.events.vonage import decode, parse
from worker.store.projection import dedupe, project

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MESSAGES = 600


@pytest.fixture(scope="module")
def webhooks() -> list[SimulatedWebhook]:
    return list(plan(MESSAGES, 7, start=START))


def event(webhook: SimulatedWebhook, received_ms: int = 0) -> StatusEvent:
    return parse(Entry(webhook.body, "application/json", received_ms, str(received_ms)), f"0/{received_ms}-0")


def by_message(events: Iterable[StatusEvent]) -> list[list[StatusEvent]]:
    found: dict[str, list[StatusEvent]] = defaultdict(list)
    for one in events:
        found[one.message_uuid].append(one)
    return list(found.values())


async def take(_request: web.Request) -> web.Response:
    return web.Response()


@asynccontextmanager
async def receiver(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


def test_a_seed_gives_the_same_bytes_every_time(webhooks: list[SimulatedWebhook]) -> None:
    """Equal arguments give equal webhooks, another seed gives other messages."""
    assert list(plan(MESSAGES, 7, start=START)) == webhooks
    assert not predict_statuses(plan(MESSAGES, 8, start=START)).keys() & predict_statuses(webhooks).keys()
    assert len({tuple(plan(50, 7, start=START, duplicates=0.5, shuffle=True)) for _ in range(2)}) == 1


def test_every_channel_and_every_status_appears(webhooks: list[SimulatedWebhook]) -> None:
    """Six channels, five statuses, as many messages as asked for; read only where the channel tells it."""
    seen = {(event(webhook).channel, webhook.status) for webhook in webhooks}
    assert {channel for channel, _ in seen} == {channel.name for channel in CHANNELS}
    assert {status for _, status in seen} == set(RANKS) == set(predict_statuses(webhooks).values())
    assert {channel.name for channel in CHANNELS if (channel.name, "read") not in seen} == {"sms", "mms"}
    assert len(predict_statuses(webhooks)) == MESSAGES


def test_every_webhook_parses(webhooks: list[SimulatedWebhook]) -> None:
    """The parser takes every body and finds id, status, time, and a coded error with each failure."""
    for webhook in webhooks:
        found = event(webhook)
        assert (found.message_uuid, found.status) == (webhook.message_uuid, webhook.status)
        assert found.occurred_at is not None
        assert (found.error_code is not None) == (found.status in {"rejected", "undeliverable"})
        error = decode(found.raw).get("error", {"type": "#", "title": ""})
        assert error["type"].endswith(f"#{error['title']}")


def test_no_phone_number_is_anyone_s(webhooks: list[SimulatedWebhook]) -> None:
    """Every number is of the range for fiction; messenger has ids of 16 digits. Only sms and mms name a network."""
    for found in map(event, webhooks):
        number = r"\d{16}" if found.channel == "messenger" else r"447700900\d{3}"
        assert re.fullmatch(number, found.to or "")
        assert re.fullmatch(rf"{number}|16273|AcmeInc", found.sender or "")
        assert (found.network_code is not None) == (found.channel in {"sms", "mms"})


def test_only_the_chargeable_status_has_a_price(webhooks: list[SimulatedWebhook]) -> None:
    """An sms or mms is charged on submitted, the others on delivered; an sms for each of its parts."""
    prices = set()
    for found in map(event, webhooks):
        charged_on = "submitted" if found.channel in {"sms", "mms"} else "delivered"
        assert (found.price is not None) == (found.currency == "EUR") == (found.status == charged_on)
        if found.parts and found.price:
            prices.add((found.parts, found.price))
    assert prices == {(1, "0.0333"), (2, "0.0666"), (3, "0.0999")}


def test_webhooks_are_in_the_order_of_their_time(webhooks: list[SimulatedWebhook]) -> None:
    """Unshuffled, time never goes back over all messages, and moves on within each; some times have milliseconds."""
    events = [event(webhook) for webhook in webhooks]
    assert events == sorted(events, key=lambda one: one.time)
    for course in by_message(events):
        assert all(RANKS[one.status] < RANKS[then.status] and one.time < then.time for one, then in pairwise(course))
    assert {len(decode(one.raw)["timestamp"]) for one in events} == {20, 24}


def test_expected_is_what_the_service_makes_of_it() -> None:
    """Projecting the distinct events of each message, in any order and with repeats, gives the expected status."""
    sent = list(plan(300, 3, start=START, duplicates=0.3))
    for order in range(3):
        random.Random(order).shuffle(sent)  # noqa: S311 - a reproducible order
        events = dedupe(event(webhook, number) for number, webhook in enumerate(sent)).values()
        states = [project(of_message) for of_message in by_message(events)]
        assert {state.message_uuid: state.status for state in states} == predict_statuses(sent)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_duplicates_come_byte_for_byte_and_later(webhooks: list[SimulatedWebhook], share: float) -> None:
    """The asked-for share comes exactly twice, after something else has come; nothing else changes."""
    sent = list(plan(MESSAGES, 7, start=START, duplicates=share))
    counts = Counter(sent)
    assert len(sent) - len(webhooks) == sum(count == 2 for count in counts.values()) == int(share * len(webhooks) + 0.5)
    assert list(dict.fromkeys(sent)) == webhooks
    assert sum(one == next_one for one, next_one in pairwise(sent)) < len(sent) / 100


def test_shuffle_changes_the_order_only(webhooks: list[SimulatedWebhook]) -> None:
    """Shuffled, the webhooks are the same ones, and some message's statuses come in the wrong order."""
    shuffled = list(plan(MESSAGES, 7, start=START, shuffle=True))
    assert Counter(shuffled) == Counter(webhooks)
    assert predict_statuses(shuffled) == predict_statuses(webhooks)
    assert predict_statuses(shuffled) != {webhook.message_uuid: webhook.status for webhook in shuffled}


async def test_every_webhook_is_posted_once_as_it_is(webhooks: list[SimulatedWebhook]) -> None:
    """The receiver gets each body once, as JSON; over one connection, in order. The report counts the answers."""
    got: list[tuple[str | None, bytes]] = []
    told: list[None] = []

    async def keep(request: web.Request) -> web.Response:
        got.append((request.headers.get("Content-Type"), await request.read()))
        return web.Response(text="whatever")

    async with receiver(keep) as url:
        report = await send(iter(webhooks), url, rate=None, connections=1, progress=lambda _: told.append(None))
    assert got == [("application/json", webhook.body) for webhook in webhooks]
    assert (report.sent, report.answered) == (len(told), {"200": len(webhooks)})
    assert report.rate == pytest.approx(report.sent / report.seconds, rel=0.05)
    assert report.latency_ms is not None
    assert 0 < report.latency_ms.p50 <= report.latency_ms.p90 <= report.latency_ms.p99 <= report.latency_ms.max


async def test_failures_are_counted_not_raised(webhooks: list[SimulatedWebhook]) -> None:
    """200, a redirect (not followed), 503 and a closed connection each stand in the report, once per webhook."""
    statuses = iter([0, 200, 302, 503] * 10)

    async def fail(request: web.Request) -> web.Response:
        status = next(statuses)
        if not status and request.transport:
            request.transport.abort()
        return web.Response(status=status or 200, headers={"Location": str(request.url)})

    async with receiver(fail) as url:
        report = await send(webhooks[:40], url, rate=None, connections=4, progress=lambda _: None)
    assert report.answered == {"200": 10, "302": 10, "503": 10, "no answer": 10}


async def test_nobody_there_is_no_answer(webhooks: list[SimulatedWebhook]) -> None:
    """Where nobody listens there is no answer and no latency, but a report in JSON; what is no http URL is refused."""
    report = await send(webhooks[:3], f"http://127.0.0.1:{unused_port()}/", rate=None, progress=lambda _: None)
    assert (report.answered, report.latency_ms) == ({"no answer": 3}, None)
    assert orjson.loads(report.to_json()) == report.as_dict()
    with pytest.raises(Refusal, match="http"):
        await send(webhooks, "localhost:3000", rate=None, progress=lambda _: None)


async def test_a_late_answer_is_no_answer(webhooks: list[SimulatedWebhook], monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that has not answered within the provider's limit counts as none."""
    over = asyncio.Event()
    monkeypatch.setattr("console.simulate.sender.ANSWER_SECONDS", 0.05)

    async def dawdle(_request: web.Request) -> web.Response:
        await over.wait()
        return web.Response()

    async with receiver(dawdle) as url:
        report = await send(webhooks[:2], url, rate=None, progress=lambda _: None)
        over.set()
    assert report.answered == {"no answer": 2}


async def test_all_connections_are_used_and_no_more(webhooks: list[SimulatedWebhook]) -> None:
    """A receiver that answers only four at a time is served by four connections; never is a fifth in flight."""
    four, in_flight = asyncio.Barrier(4), 0

    async def together(_request: web.Request) -> web.Response:
        nonlocal in_flight
        in_flight += 1
        answer = web.Response(status=200 if in_flight <= 4 else 500)
        await four.wait()
        in_flight -= 1
        return answer

    async with receiver(together) as url:
        report = await send(webhooks[:20], url, rate=None, connections=4, progress=lambda _: None)
    assert report.answered == {"200": 20}


async def test_the_rate_is_never_exceeded(webhooks: list[SimulatedWebhook]) -> None:
    """Thirty webhooks at 100 a second take 0.29 s or more (less a tick of the clock) on any connections."""
    async with receiver(take) as url:
        report = await send(webhooks[:30], url, rate=100, connections=8, progress=lambda _: None)
    assert report.seconds >= 0.28
    assert report.answered == {"200": 30}


def test_a_pace_is_even_and_catches_up_a_second_s_worth() -> None:
    """At 10 a second, 21 webhooks are due within two seconds; after a stall of 60 s, 11 at once and no more."""
    pace = SendSchedule(10, now=100.0)
    assert [pace.delay_seconds(100.0) for _ in range(21)] == pytest.approx([number / 10 for number in range(21)])
    late = [pace.delay_seconds(162.0) for _ in range(20)]
    assert sum(delay == pytest.approx(0, abs=1e-6) for delay in late) == 11
    assert not any(SendSchedule(None, now=0.0).delay_seconds(now) for now in (0.0, 0.0, 5.0))


def test_latencies_are_right_within_one_percent() -> None:
    """Percentiles of 1 to 1000 ms are the values of that rank, at most 1 % too high; the greatest is exact."""
    latencies = Latencies()
    for ms in range(1, 1001):
        latencies.add(ms)
    found = latencies.summary()
    assert found is not None
    assert all(0 <= p - rank <= rank / 100 for p, rank in ((found.p50, 500), (found.p90, 900), (found.p99, 990)))
    assert found.max == 1000


async def test_a_progress_bar_shows_how_far_it_is() -> None:
    """It counts messages that are sent whole, and shows the rate."""
    shown = io.StringIO()
    async with receiver(take) as url:
        with open_bar(20, Console(file=shown, force_terminal=True, width=100)) as progress:
            report = await send(
                plan(20, 7, start=START, duplicates=0.5), url, rate=None, connections=2, progress=progress
            )
    assert report.accepted == report.webhooks
    assert re.search(r"messages.*20/20.*\d/s", shown.getvalue())
