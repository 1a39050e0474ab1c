from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from console.queries.statuses import histograms
from console.queries.statuses.costs import sum_costs
from console.queries.statuses.delivery import measure_delivery
from console.queries.statuses.errors import count_errors
from console.queries.statuses.figures import Cost, Counts, Group
from console.queries.statuses.funnel import count_groups, count_messages, list_choices
from console.queries.statuses.histograms import KEEP_SECONDS, DeliveryHistograms
from console.queries.statuses.open_messages import count_open
from console.queries.statuses.selection import Split, StatusFilter
from tests.support.fake_clock import FakeClock
from tests.support.samples.events import body, event
from worker.store.handler import Store

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
TODAY = StatusFilter(since=NOON - timedelta(hours=12), until=NOON + timedelta(hours=12))


async def store(engine: AsyncEngine, *messages: tuple[str, Sequence[tuple[str, float]], dict[str, Any]]) -> None:
    """Store messages: the id, the statuses with seconds after noon, and more fields. ``account`` is verified."""
    events = []
    for name, statuses, fields in messages:
        signature = {"account": fields.pop("account"), "verified": "jwt"} if "account" in fields else {}
        for status, seconds in statuses:
            at = (NOON + timedelta(seconds=seconds)).isoformat()
            events.append(event(body(message_uuid=name, status=status, timestamp=at, **fields), **signature))
    await Store(engine).handle(events)


def network(code: str) -> dict[str, Any]:
    return {"destination": {"network_code": code}}


def price(amount: str, currency: str) -> dict[str, Any]:
    return {"usage": {"price": amount, "currency": currency}}


async def store_some(engine: AsyncEngine) -> None:
    """Store five messages of one day."""
    await store(
        engine,
        ("a", [("submitted", 0), ("delivered", 2)], {"account": "acc-1"} | network("23410") | price("0.0333", "EUR")),
        (
            "b",
            [("submitted", 10), ("rejected", 11)],
            {"account": "acc-1", "error": {"title": "1210"}} | network("23591"),
        ),
        ("c", [("submitted", 4000)], {"account": "acc-2"} | network("26201") | price("0.05", "USD")),
        ("d", [("submitted", 1), ("delivered", 5), ("read", 9)], {"channel": "whatsapp"} | price("0.01", "EUR")),
        ("e", [("undeliverable", -3600)], {"channel": "whatsapp", "error": {"title": "1210"}}),
    )


async def test_the_funnel_counts_each_status_that_was_reached(engine: AsyncEngine) -> None:
    """A message counts in each status that it reached, and is open without a final one."""
    await store_some(engine)

    counts = await count_messages(engine, TODAY)

    assert counts == Counts(messages=5, submitted=4, delivered=2, read=1, rejected=1, undeliverable=1, open=1)
    assert await count_messages(engine, TODAY.previous()) == Counts()


async def test_groups_are_sorted_by_size_or_time(engine: AsyncEngine) -> None:
    """Each message is in one group of a split."""
    await store_some(engine)
    sizes: Mapping[Split, list[tuple[str, int]]] = {
        "channel": [("sms", 3), ("whatsapp", 2)],
        "country": [("", 2), ("United Kingdom", 2), ("Germany", 1)],
        "network": [("", 2), ("23410", 1), ("23591", 1), ("26201", 1)],
        "account": [("", 2), ("acc-1", 2), ("acc-2", 1)],
        "application": [("", 5)],
        "time": [
            ("2026-11-28T11:00:00+00:00", 1),
            ("2026-11-28T12:00:00+00:00", 3),
            ("2026-11-28T13:00:00+00:00", 1),
        ],
    }
    groups = {split: await count_groups(engine, TODAY, split) for split in sizes}
    assert {split: [(group.label, group.counts.messages) for group in groups[split]] for split in sizes} == sizes


async def test_a_long_time_is_split_into_days(engine: AsyncEngine) -> None:
    """More than three days have a group for each day with messages."""
    await store_some(engine)
    month = StatusFilter(since=NOON - timedelta(days=20), until=NOON + timedelta(days=1))
    assert await count_groups(engine, month, "time") == [
        Group("2026-11-28T00:00:00+00:00", await count_messages(engine, TODAY))
    ]


async def test_filters_select_by_value_and_whole_hours(engine: AsyncEngine) -> None:
    """All filters apply at once; the time is widened to whole hours; an empty text selects a missing value."""
    await store_some(engine)
    cases: Sequence[tuple[dict[str, Any], int]] = (
        ({"channel": "sms"}, 3),
        ({"channel": "whatsapp", "network": ""}, 2),
        ({"account": "acc-1"}, 2),
        ({"country": "United Kingdom"}, 2),
        ({"network": "26201", "account": "acc-2"}, 1),
        ({"network": "26201", "account": "acc-1"}, 0),
        ({"since": NOON + timedelta(hours=1)}, 1),
        ({"until": NOON}, 1),
        ({"until": NOON + timedelta(minutes=1)}, 4),
    )
    for filters, number in cases:
        chosen = StatusFilter(**({"since": TODAY.since, "until": TODAY.until} | filters))
        groups = [await count_groups(engine, chosen, "channel"), await count_groups(engine, chosen, "time")]
        assert (await count_messages(engine, chosen)).messages == number, filters
        assert [sum(group.counts.messages for group in split) for split in groups] == [number, number], filters


async def test_errors_have_a_meaning_a_trend_and_the_time_before(engine: AsyncEngine) -> None:
    """Codes are sorted by their messages; codes beyond the limit are summed."""
    await store_some(engine)
    await store(engine, ("old", [("rejected", -86400)], {"error": {"title": "1000"}}))
    await store(engine, ("odd", [("rejected", 7200)], {"error": {"title": "own-code"}}))

    errors = await count_errors(engine, TODAY, limit=1)
    everything = await count_errors(engine, TODAY)

    (spam,) = errors.codes
    assert (spam.code, spam.messages, spam.previous, errors.other_codes, errors.other_messages) == ("1210", 2, 0, 1, 1)
    assert [messages for _, messages in spam.trend] == [0] * 11 + [1, 1] + [0] * 11
    assert spam.meaning is not None
    assert [code.meaning for code in everything.codes[1:]] == [None]


async def test_delivery_times_are_percentiles(engine: AsyncEngine) -> None:
    """Half of the messages, 90 % and 99 % were delivered within these seconds, at most 5 % off."""
    seconds = list(range(1, 101))
    await store(engine, *((f"m-{n}", [("submitted", 0), ("delivered", n)], {}) for n in seconds))

    (delivery,) = await measure_delivery(engine, TODAY, "channel", DeliveryHistograms())
    (by_time,) = await measure_delivery(engine, TODAY, "time", DeliveryHistograms())

    assert (delivery.label, delivery.messages, by_time.messages) == ("sms", 100, 100)
    assert (delivery.p50, delivery.p90, delivery.p99) == (by_time.p50, by_time.p90, by_time.p99)
    for figure, exact in ((delivery.p50, 50), (delivery.p90, 90), (delivery.p99, 99)):
        assert abs(figure / exact - 1) < 0.06


async def test_times_of_old_days_are_kept_until_their_counts_change(engine: AsyncEngine) -> None:
    """A month reads a day again if a message is delivered or gets another network, and each day after an hour."""
    month = StatusFilter(since=NOON - timedelta(days=20), until=NOON + timedelta(hours=12))
    clock, two_days = FakeClock(), 2 * 86400
    kept = DeliveryHistograms(clock)

    async def read(split: Split) -> list[tuple[str, int, int]]:
        rows = await measure_delivery(engine, month, split, kept)
        return [(row.label, row.messages, round(row.p50 / 10)) for row in rows]

    old = [("submitted", -two_days), ("delivered", 10 - two_days)]
    await store(engine, ("a", old, network("23410")), ("b", [("submitted", 0), ("delivered", 40)], network("23410")))
    assert await read("network") == [("23410", 2, 1)]
    assert await read("time") == [("2026-11-26T00:00:00+00:00", 1, 1), ("2026-11-28T00:00:00+00:00", 1, 4)]

    await store(engine, ("c", old, network("26201")))
    await store(engine, ("a", [("read", 20 - two_days)], network("26201")))
    assert await read("network") == [("26201", 2, 1), ("23410", 1, 4)]

    await store(
        engine, *((name, [("delivered", 2 - two_days)], {}) for name in ("a", "c")), ("b", [("delivered", 2)], {})
    )
    before = await read("network")
    clock.now += KEEP_SECONDS + 1
    assert [before, await read("network")] == [[("26201", 2, 1), ("23410", 1, 4)], [("26201", 2, 0), ("23410", 1, 0)]]


async def test_days_with_few_cells_take_memory_too(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the memory of one day, the older one of two days is not kept: a change of its times shows at once."""
    monkeypatch.setattr(histograms, "MOST_CELLS", histograms.DAY_CELLS + 2)
    month = StatusFilter(since=NOON - timedelta(days=20), until=NOON + timedelta(hours=12))
    kept = DeliveryHistograms(FakeClock())

    async def read() -> list[int]:
        return [round(row.p50 / 10) for row in await measure_delivery(engine, month, "time", kept)]

    old = -86400
    await store(engine, ("a", [("submitted", old), ("delivered", old + 10)], {}))
    await store(engine, ("b", [("submitted", 0), ("delivered", 40)], {}))
    before = await read()
    await store(engine, ("a", [("delivered", old + 2)], {}))

    assert [before, await read()] == [[1, 4], [0, 4]]


async def test_currencies_are_never_added(engine: AsyncEngine) -> None:
    """Each currency has its own sum, exact to nine digits."""
    await store_some(engine)
    costs = await sum_costs(engine, TODAY, "channel")
    assert costs == [
        Cost("sms", "EUR", 1, Decimal("0.0333")),
        Cost("sms", "USD", 1, Decimal("0.05")),
        Cost("whatsapp", "EUR", 1, Decimal("0.01")),
    ]
    assert [(cost.currency, cost.messages) for cost in await sum_costs(engine, TODAY, "time")] == [
        ("EUR", 2),
        ("USD", 1),
    ]


async def test_choices_are_the_values_of_the_time(engine: AsyncEngine) -> None:
    """A page offers only values that messages of its time have."""
    await store_some(engine)
    choices = await list_choices(engine, StatusFilter(since=TODAY.since, until=TODAY.until, channel="rcs"))
    assert (choices.channels, choices.accounts, choices.countries) == (
        ["sms", "whatsapp"],
        ["acc-1", "acc-2"],
        ["Germany", "United Kingdom"],
    )
    assert (await list_choices(engine, TODAY.previous())).channels == []


async def test_open_messages_are_counted_by_age_to_the_second(engine: AsyncEngine) -> None:
    """The ages of open messages are exact, also within the hour of a limit."""
    now = NOON + timedelta(hours=30)
    ages = (10, 3599, 3600, 3601, 7000, 86399, 86400, 86401, 500_000)
    limit = 30 * 3600
    await store(engine, *((f"m-{age}", [("submitted", limit - age)], {}) for age in ages))
    await store(engine, ("done", [("submitted", 0), ("delivered", 5)], {}))

    counted = await count_open(engine, now)

    numbers = (counted.under_1h, counted.from_1h_to_24h, counted.over_24h)
    assert [(capped.number, capped.is_exact) for capped in numbers] == [(3, True), (4, True), (2, True)]
