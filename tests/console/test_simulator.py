"""The plan of simulated messages, and the sender of their webhooks."""

import asyncio
import io
import random
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import islice, pairwise

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from rich.console import Console

from console.simulate.latencies import Latencies
from console.simulate.messages import CHANNELS, SimulatedWebhook
from console.simulate.plan import plan, plan_live
from console.simulate.progress import open_bar
from console.simulate.sender import SendSchedule, send
from runtime.errors import CommandError
from stream.entry import Entry
from tests.support.samples.predicted import RANKS, predict_statuses
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


def group_by_message(events: Iterable[StatusEvent]) -> list[list[StatusEvent]]:
    """Return the events of each message."""
    messages: dict[str, list[StatusEvent]] = defaultdict(list)
    for item in events:
        messages[item.message_uuid].append(item)
    return list(messages.values())


async def accept(_request: web.Request) -> web.Response:
    return web.Response()


@asynccontextmanager
async def open_receiver(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
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
    """The plan has six channels, five statuses and all messages; only channels that report `read` have it."""
    pairs = {(event(webhook).channel, webhook.status) for webhook in webhooks}
    assert {channel for channel, _ in pairs} == {channel.name for channel in CHANNELS}
    assert {status for _, status in pairs} == set(RANKS) == set(predict_statuses(webhooks).values())
    assert {channel.name for channel in CHANNELS if (channel.name, "read") not in pairs} == {"sms", "mms"}
    assert len(predict_statuses(webhooks)) == MESSAGES


def test_every_webhook_parses(webhooks: list[SimulatedWebhook]) -> None:
    """The parser reads id, status and time of every webhook, and the error code of each failure."""
    for webhook in webhooks:
        parsed = event(webhook)
        assert (parsed.message_uuid, parsed.status) == (webhook.message_uuid, webhook.status)
        assert parsed.occurred_at is not None
        assert (parsed.error_code is not None) == (parsed.status in {"rejected", "undeliverable"})
        error = decode(parsed.raw).get("error", {"type": "#", "title": ""})
        assert error["type"].endswith(f"#{error['title']}")


def test_all_phone_numbers_are_fictional(webhooks: list[SimulatedWebhook]) -> None:
    """All numbers are in the range for fiction, messenger has 16-digit ids, and only sms and mms name a network."""
    for parsed in map(event, webhooks):
        number = r"\d{16}" if parsed.channel == "messenger" else r"447700900\d{3}"
        assert re.fullmatch(number, parsed.to or "")
        assert re.fullmatch(rf"{number}|16273|AcmeInc", parsed.sender or "")
        assert (parsed.network_code is not None) == (parsed.channel in {"sms", "mms"})


def test_only_the_chargeable_status_has_a_price(webhooks: list[SimulatedWebhook]) -> None:
    """Sms and mms have a price on submitted, the others on delivered; the price of an sms counts its parts."""
    prices = set()
    for parsed in map(event, webhooks):
        charged_on = "submitted" if parsed.channel in {"sms", "mms"} else "delivered"
        assert (parsed.price is not None) == (parsed.currency == "EUR") == (parsed.status == charged_on)
        if parsed.parts and parsed.price:
            prices.add((parsed.parts, parsed.price))
    assert prices == {(1, "0.0333"), (2, "0.0666"), (3, "0.0999")}


def test_webhooks_are_in_order_of_their_time(webhooks: list[SimulatedWebhook]) -> None:
    """Without shuffle, time never decreases, and increases within a message; some times have milliseconds."""
    events = [event(webhook) for webhook in webhooks]
    assert events == sorted(events, key=lambda item: item.time)
    for course in group_by_message(events):
        assert all(RANKS[a.status] < RANKS[b.status] and a.time < b.time for a, b in pairwise(course))
    assert {len(decode(item.raw)["timestamp"]) for item in events} == {20, 24}


def test_predicted_statuses_equal_the_projection() -> None:
    """The projection of a message, in any order and with repeats, has the predicted status."""
    sent = list(plan(300, 3, start=START, duplicates=0.3))
    for order in range(3):
        random.Random(order).shuffle(sent)  # noqa: S311 - a reproducible order
        events = dedupe(event(webhook, number) for number, webhook in enumerate(sent)).values()
        states = [project(message_events) for message_events in group_by_message(events)]
        assert {state.message_uuid: state.status for state in states} == predict_statuses(sent)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_duplicates_come_byte_for_byte_and_later(webhooks: list[SimulatedWebhook], share: float) -> None:
    """The given share of webhooks is sent exactly twice, with other webhooks between; nothing else changes."""
    sent = list(plan(MESSAGES, 7, start=START, duplicates=share))
    counts = Counter(sent)
    assert len(sent) - len(webhooks) == sum(count == 2 for count in counts.values()) == int(share * len(webhooks) + 0.5)
    assert list(dict.fromkeys(sent)) == webhooks
    assert sum(first == second for first, second in pairwise(sent)) < len(sent) / 100


def test_shuffle_changes_the_order_only(webhooks: list[SimulatedWebhook]) -> None:
    """A shuffle keeps the webhooks, and puts the statuses of some message in the wrong order."""
    shuffled = list(plan(MESSAGES, 7, start=START, shuffle=True))
    assert Counter(shuffled) == Counter(webhooks)
    assert predict_statuses(shuffled) == predict_statuses(webhooks)
    assert predict_statuses(shuffled) != {webhook.message_uuid: webhook.status for webhook in shuffled}


def test_live_webhooks_are_due_after_their_time_and_at_the_rate() -> None:
    """Live webhooks come in the order of their due times, after their timestamps, some too late for their order."""
    rate, webhooks = 50.0, list(islice(plan_live(50.0, 7, start=START, duplicates=0.1), 6000))
    due = [webhook.due or 0.0 for webhook in webhooks]
    times = [datetime.fromisoformat(orjson.loads(webhook.body)["timestamp"]).timestamp() for webhook in webhooks]

    assert due == sorted(due)
    assert all(at <= moment for at, moment in zip(times, due, strict=True))
    steady = [
        moment for moment in due if moment > START.timestamp() + 120
    ]  # the first messages have all their statuses
    assert 0.9 * rate < len(steady) / (steady[-1] - steady[0]) < 1.1 * rate
    assert any(later < earlier for earlier, later in pairwise(times))


async def test_every_webhook_is_posted_once_and_unchanged(webhooks: list[SimulatedWebhook]) -> None:
    """Over one connection the receiver gets each body once, as JSON, in order; the report counts the responses."""
    requests: list[tuple[str | None, bytes]] = []
    progress_calls: list[None] = []

    async def record(request: web.Request) -> web.Response:
        requests.append((request.headers.get("Content-Type"), await request.read()))
        return web.Response(text="ok")

    async with open_receiver(record) as url:
        report = await send(
            iter(webhooks), url, rate=None, connections=1, progress=lambda _: progress_calls.append(None)
        )
    assert requests == [("application/json", webhook.body) for webhook in webhooks]
    assert (report.sent, report.answered) == (len(progress_calls), {"200": len(webhooks)})
    assert report.rate == pytest.approx(report.sent / report.seconds, rel=0.05)
    assert report.latency_ms is not None
    assert 0 < report.latency_ms.p50 <= report.latency_ms.p90 <= report.latency_ms.p99 <= report.latency_ms.max


async def test_failures_are_counted_not_raised(webhooks: list[SimulatedWebhook]) -> None:
    """The report counts 200, a redirect (not followed), 503 and a closed connection once per webhook."""
    statuses = iter([0, 200, 302, 503] * 10)

    async def fail(request: web.Request) -> web.Response:
        status = next(statuses)
        if not status and request.transport:
            request.transport.abort()
        return web.Response(status=status or 200, headers={"Location": str(request.url)})

    async with open_receiver(fail) as url:
        report = await send(webhooks[:40], url, rate=None, connections=4, progress=lambda _: None)
    assert report.answered == {"200": 10, "302": 10, "503": 10, "no answer": 10}


async def test_no_server_counts_as_no_answer(webhooks: list[SimulatedWebhook]) -> None:
    """Without a server the JSON report has no answers and no latency; a URL of another scheme is rejected."""
    report = await send(webhooks[:3], f"http://127.0.0.1:{unused_port()}/", rate=None, progress=lambda _: None)
    assert (report.answered, report.latency_ms) == ({"no answer": 3}, None)
    assert orjson.loads(report.to_json()) == report.as_dict()
    with pytest.raises(CommandError, match="http"):
        await send(webhooks, "localhost:3000", rate=None, progress=lambda _: None)


async def test_a_late_response_counts_as_no_answer(
    webhooks: list[SimulatedWebhook], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response after the provider's time limit counts as no answer."""
    over = asyncio.Event()
    monkeypatch.setattr("console.simulate.sender.ANSWER_SECONDS", 0.05)

    async def dawdle(_request: web.Request) -> web.Response:
        await over.wait()
        return web.Response()

    async with open_receiver(dawdle) as url:
        report = await send(webhooks[:2], url, rate=None, progress=lambda _: None)
        over.set()
    assert report.answered == {"no answer": 2}


async def test_all_connections_are_used_and_no_more(webhooks: list[SimulatedWebhook]) -> None:
    """Four connections serve a receiver that waits for four requests; a fifth request is never in flight."""
    four, in_flight = asyncio.Barrier(4), 0

    async def together(_request: web.Request) -> web.Response:
        nonlocal in_flight
        in_flight += 1
        answer = web.Response(status=200 if in_flight <= 4 else 500)
        await four.wait()
        in_flight -= 1
        return answer

    async with open_receiver(together) as url:
        report = await send(webhooks[:20], url, rate=None, connections=4, progress=lambda _: None)
    assert report.answered == {"200": 20}


async def test_the_rate_is_never_exceeded(webhooks: list[SimulatedWebhook]) -> None:
    """30 webhooks at 100 a second take at least 0.29 s (minus a clock tick) on 8 connections."""
    async with open_receiver(accept) as url:
        report = await send(webhooks[:30], url, rate=100, connections=8, progress=lambda _: None)
    assert report.seconds >= 0.28
    assert report.answered == {"200": 30}


def test_a_schedule_is_even_and_catches_up_by_one_second() -> None:
    """At 10 a second, 21 webhooks are due within 2 s; after a stall of 60 s, only 11 are due at once."""
    schedule = SendSchedule(10, now=100.0)
    assert [schedule.delay_seconds(100.0) for _ in range(21)] == pytest.approx([number / 10 for number in range(21)])
    late = [schedule.delay_seconds(162.0) for _ in range(20)]
    assert sum(delay == pytest.approx(0, abs=1e-6) for delay in late) == 11
    assert not any(SendSchedule(None, now=0.0).delay_seconds(now) for now in (0.0, 0.0, 5.0))


def test_latencies_are_right_within_one_percent() -> None:
    """The percentiles of 1 to 1000 ms are at most 1 % too high, and the maximum is exact."""
    latencies = Latencies()
    for ms in range(1, 1001):
        latencies.add(ms)
    summary = latencies.summary()
    assert summary is not None
    assert all(0 <= p - rank <= rank / 100 for p, rank in ((summary.p50, 500), (summary.p90, 900), (summary.p99, 990)))
    assert summary.max == 1000


async def test_a_progress_bar_counts_messages() -> None:
    """The bar counts messages whose webhooks were all sent, and shows the rate."""
    output = io.StringIO()
    async with open_receiver(accept) as url:
        with open_bar(20, Console(file=output, force_terminal=True, width=100)) as progress:
            report = await send(
                plan(20, 7, start=START, duplicates=0.5), url, rate=None, connections=2, progress=progress
            )
    assert report.accepted == report.webhooks
    assert re.search(r"messages.*20/20.*\d/s", output.getvalue())
