"""Plan the webhooks of many made-up messages, in the order in which the provider sends them. No I/O."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count

from console.simulate.messages import (
    LONGEST,
    WEBHOOKS_PER_MESSAGE,
    SignReceipt,
    SimulatedWebhook,
    plan_message,
    random_delay,
)

SPACING = timedelta(milliseconds=20)
"""The time between the starts of two messages."""
SHUFFLE_WEBHOOKS = 10_000
_DUPLICATE_SECONDS = (1.0, 60.0)
_ON_TIME_SECONDS = (0.2, 1.2)
_LATE_SECONDS = (5.0, 60.0)


def plan(
    messages: int,
    seed: int,
    *,
    start: datetime,
    duplicates: float = 0.0,
    shuffle: bool = False,
    sign_receipt: SignReceipt | None = None,
) -> Iterator[SimulatedWebhook]:
    """Yield all webhooks of this number of messages in the order of their timestamps; equal arguments give equal bytes.

    ``start``, an aware time, is the start of the first message; see ``latest_start``. ``duplicates``, 0 to 1, is the
    share of webhooks that are sent again later with equal bytes. ``shuffle`` puts the webhooks in random order within
    SHUFFLE_WEBHOOKS. Neither option changes the webhooks. With ``sign_receipt`` some messages report by delivery
    receipts of the SMS API. A message reaches at most one of delivered, undeliverable and rejected. The memory does not
    grow with the number of messages.
    """
    order = random.Random(f"{seed} order")  # noqa: S311 - made-up data, the same for a seed
    webhooks = _sort_by_time(
        _plan_messages(range(messages), seed, start.astimezone(UTC), sign_receipt), order, duplicates
    )
    return _shuffle(webhooks, order) if shuffle else webhooks


def plan_live(
    rate: float,
    seed: int,
    *,
    start: datetime,
    duplicates: float = 0.0,
    sign_receipt: SignReceipt | None = None,
) -> Iterator[SimulatedWebhook]:
    """Yield webhooks without end, each with its ``due`` time; ``rate`` is their average number in a second.

    The first message starts at ``start``. The other arguments are those of ``plan``. About one webhook in 50 is late by
    up to a minute, so a later status of the message can arrive before it.
    """
    order = random.Random(f"{seed} order")  # noqa: S311 - made-up data, the same for a seed
    spacing = timedelta(seconds=WEBHOOKS_PER_MESSAGE * (1 + duplicates) / rate)
    messages = _plan_messages(count(), seed, start.astimezone(UTC), sign_receipt, spacing)
    return _sort_by_time(messages, order, duplicates, late=1 / 50)


def latest_start(messages: int, now: datetime) -> datetime:
    """Return the latest start of the first message for which no timestamp of the messages is later than ``now``."""
    return now - messages * SPACING - LONGEST


def _plan_messages(
    numbers: Iterable[int],
    seed: int,
    start: datetime,
    sign_receipt: SignReceipt | None,
    spacing: timedelta = SPACING,
) -> Iterator[tuple[datetime, list[tuple[datetime, SimulatedWebhook]]]]:
    """Yield each message as its start time and its webhooks with their timestamps.

    No later message has a webhook before that start time.
    """
    rng = random.Random(seed)  # noqa: S311 - made-up data, the same for a seed
    for number in numbers:
        message_start = start + number * spacing
        yield message_start.replace(microsecond=0), list(plan_message(rng, message_start, sign_receipt))


def _sort_by_time(
    messages: Iterable[tuple[datetime, list[tuple[datetime, SimulatedWebhook]]]],
    rng: random.Random,
    duplicates: float,
    late: float | None = None,
) -> Iterator[SimulatedWebhook]:
    """Yield the webhooks by time. With ``late``, the share of late ones, each has its ``due`` time."""
    waiting: list[tuple[datetime, int, SimulatedWebhook]] = []  # holds the webhooks of about LONGEST / SPACING messages
    numbers = count()
    sent = 0
    for message_start, webhooks in messages:
        while waiting and waiting[0][0] < message_start:
            yield heappop(waiting)[2]
        for timestamp, planned in webhooks:
            at, webhook = timestamp, planned
            if late is not None:
                at += random_delay(rng, _LATE_SECONDS if rng.random() < late else _ON_TIME_SECONDS)
                webhook = replace(planned, due=at.timestamp())
            heappush(waiting, (at, next(numbers), webhook))
            sent += 1
            if int(sent * duplicates + 0.5) > int((sent - 1) * duplicates + 0.5):
                again = at + random_delay(rng, _DUPLICATE_SECONDS)
                due = None if late is None else again.timestamp()
                heappush(waiting, (again, next(numbers), replace(webhook, is_last=False, due=due)))
    while waiting:
        yield heappop(waiting)[2]


def _shuffle(webhooks: Iterable[SimulatedWebhook], rng: random.Random) -> Iterator[SimulatedWebhook]:
    waiting: list[SimulatedWebhook] = []
    for webhook in webhooks:
        waiting.append(webhook)
        if len(waiting) >= SHUFFLE_WEBHOOKS:
            place = rng.randrange(len(waiting))
            waiting[place], waiting[-1] = waiting[-1], waiting[place]
            yield waiting.pop()
    rng.shuffle(waiting)
    yield from waiting
