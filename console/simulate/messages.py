"""What ``ackstream simulate`` sends: the status webhooks of made-up messages, as Vonage would send them. No I/O.

Messages API v1 (https://developer.vonage.com/en/api/messages#message-status): every channel, every status, real looking
errors and prices. All numbers are of the range 447700900000 to 447700900999, which Ofcom keeps free for fiction.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from worker.events.event import DELIVERED, READ, REJECTED, SUBMITTED, UNDELIVERABLE

SPACING = timedelta(milliseconds=20)
"""How far apart the messages begin."""

RANKS = {SUBMITTED: 1, DELIVERED: 2, UNDELIVERABLE: 2, REJECTED: 2, READ: 3}
"""Stated here a second time: what judges the service must not take its rule from it (worker.projection)."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook of the provider: ``body`` says that the message has reached ``status``."""

    message_uuid: str
    status: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Channel:
    """How messages of a channel behave. ``price`` is in EUR, of one part; it comes with the status ``charged_on``."""

    name: str
    charged_on: str
    price: str
    tells_read: bool


CHANNELS = (
    Channel("sms", SUBMITTED, "0.0333", tells_read=False),
    Channel("mms", SUBMITTED, "0.2450", tells_read=False),
    Channel("rcs", DELIVERED, "0.04100000", tells_read=True),
    Channel("whatsapp", DELIVERED, "0.0591", tells_read=True),
    Channel("messenger", DELIVERED, "0.0008", tells_read=True),
    Channel("viber_service", DELIVERED, "0.02430000", tells_read=True),
)

_COURSES = {  # the statuses that a message goes through, and how many in a hundred do
    (SUBMITTED, DELIVERED, READ): 40,
    (SUBMITTED, DELIVERED): 35,
    (SUBMITTED,): 10,
    (SUBMITTED, UNDELIVERABLE): 7,
    (SUBMITTED, REJECTED): 4,
    (REJECTED,): 4,
}
_DELAY_SECONDS = {  # at least and at most, after the status before; 1 or more, so that whole seconds increase too
    DELIVERED: (1.0, 30.0),
    UNDELIVERABLE: (1.0, 30.0),
    REJECTED: (1.0, 10.0),
    READ: (2.0, 300.0),
}
_DUPLICATE_SECONDS = (1.0, 60.0)
_ERRORS = {  # https://developer.vonage.com/en/api-errors/messages
    REJECTED: (
        (
            "1000",
            "Throttled - You have exceeded the submission capacity allowed on this account. Please wait and retry",
        ),
        ("1050", "Number barred - The number you are trying to submit to is blacklisted and may not receive messages."),
        ("1120", "Illegal Sender Address - rejected - The sender set in from was not accepted by local regulations."),
    ),
    UNDELIVERABLE: (
        ("1100", "Communication Failed - Message was not submitted because there was a communication failure."),
        ("1260", "Destination unreachable - The message could not be delivered to the phone number."),
    ),
}
_NETWORK_CODES = ("23410", "23415", "23420", "23430")
_CATEGORIES = ("authentication", "marketing", "service", "utility")


def plan(
    messages: int,
    seed: int,
    *,
    start: datetime,
    duplicates: float = 0.0,
    shuffle: bool = False,
) -> list[Webhook]:
    """Return every webhook of so many messages, in the order of their timestamps; equal arguments give equal bytes.

    ``start``, an aware time, is when the first message begins. ``duplicates``, 0 to 1, is the share of webhooks that
    come a second time, byte for byte, later than the first. ``shuffle`` puts them all in random order. Neither changes
    the webhooks themselves. A message reaches at most one of delivered, undeliverable and rejected.
    """
    rng = random.Random(seed)  # noqa: S311 - made-up data, the same for a seed
    begin = start.astimezone(UTC)
    timed = [sent for number in range(messages) for sent in _message(rng, begin + number * SPACING)]
    again = rng.sample(timed, round(duplicates * len(timed)))
    timed += [(at + _delay(rng, _DUPLICATE_SECONDS), webhook) for at, webhook in again]
    timed.sort(key=lambda sent: sent[0])
    webhooks = [webhook for _, webhook in timed]
    if shuffle:
        rng.shuffle(webhooks)
    return webhooks


def expected(webhooks: Iterable[Webhook]) -> dict[str, str]:
    """Return the status that each message must have once all of these were handled, in whatever order."""
    final: dict[str, str] = {}
    for webhook in webhooks:
        known = final.setdefault(webhook.message_uuid, webhook.status)
        if RANKS[webhook.status] > RANKS[known]:
            final[webhook.message_uuid] = webhook.status
    return final


def _message(rng: random.Random, begin: datetime) -> Iterator[tuple[datetime, Webhook]]:
    """Yield the webhooks of one message with their timestamps, which increase."""
    channel = rng.choice(CHANNELS)
    message_uuid = str(UUID(int=rng.getrandbits(128), version=4))
    to, sender = _parties(rng, channel)
    about = _about(rng, channel)
    precision = rng.choice(("milliseconds", "seconds"))
    at = begin
    for number, status in enumerate(_course(rng, channel)):
        if number:
            at += _delay(rng, _DELAY_SECONDS[status])
        timestamp = at.isoformat(timespec=precision).replace("+00:00", "Z")
        fields = {
            "message_uuid": message_uuid,
            "to": to,
            "from": sender,
            "timestamp": timestamp,
            "status": status,
            "channel": channel.name,
            **about,
            **_outcome(rng, channel, status, int(about.get("sms", {}).get("count_total", 1))),
        }
        yield datetime.fromisoformat(timestamp), Webhook(message_uuid, status, orjson.dumps(fields))


def _course(rng: random.Random, channel: Channel) -> tuple[str, ...]:
    courses = [course for course in _COURSES if channel.tells_read or READ not in course]
    return rng.choices(courses, [_COURSES[course] for course in courses])[0]


def _delay(rng: random.Random, seconds: tuple[float, float]) -> timedelta:
    return timedelta(seconds=rng.uniform(*seconds))


def _parties(rng: random.Random, channel: Channel) -> tuple[str, str]:
    """Return whom the message goes to and whom it comes from, as the channel writes them."""
    number = f"447700900{rng.randrange(100, 1000)}"
    match channel.name:
        case "messenger":
            return str(rng.randrange(10**15, 10**16)), "2303754346124447"
        case "viber_service":
            return number, "16273"
        case "rcs":
            return number, "AcmeInc"
        case _:
            return number, f"447700900{rng.randrange(100):03}"


def _about(rng: random.Random, channel: Channel) -> dict[str, Any]:
    """Return what every webhook of the message repeats."""
    about: dict[str, Any] = {}
    if rng.random() < 0.8:  # noqa: PLR2004 - most senders set one
        about["client_ref"] = f"order-{rng.randrange(10**8):08}"
    if channel.name in {"sms", "mms"}:
        about["destination"] = {"network_code": rng.choice(_NETWORK_CODES)}
    if channel.name == "sms":
        about["sms"] = {"count_total": str(rng.choices((1, 2, 3), (80, 15, 5))[0])}
    return about


def _outcome(rng: random.Random, channel: Channel, status: str, parts: int) -> dict[str, Any]:
    """Return what the webhook of this status alone says."""
    outcome: dict[str, Any] = {}
    if status in _ERRORS:
        code, detail = rng.choice(_ERRORS[status])
        outcome["error"] = {
            "type": f"https://developer.vonage.com/api-errors/messages#{code}",
            "title": code,
            "detail": detail,
            "instance": f"{rng.getrandbits(128):032x}",
        }
    if status == channel.charged_on:
        outcome["usage"] = {"currency": "EUR", "price": str(Decimal(channel.price) * parts)}
    if channel.name == "whatsapp" and status == DELIVERED:
        category = rng.choice(_CATEGORIES)
        outcome["whatsapp"] = {
            "conversation": {"id": f"{rng.getrandbits(128):032x}", "origin": {"type": category}},
            "pricing": {"type": "regular", "pricing_model": "CBP", "category": category},
        }
    return outcome
