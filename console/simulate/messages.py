"""Make up messages and their status webhooks, in the form that Vonage sends. No I/O.

The webhooks follow Messages API v1 (https://developer.vonage.com/en/api/messages#message-status), with all channels and
statuses, and realistic errors and prices. All numbers are in the range 447700900000 to 447700900999, which Ofcom
reserves for fiction.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson

from stream.payload import FORM
from worker.events.event import DELIVERED, READ, REJECTED, SUBMITTED, UNDELIVERABLE


@dataclass(frozen=True, slots=True)
class SimulatedWebhook:
    """One webhook of the provider: ``body`` reports ``status`` for the message."""

    message_uuid: str
    status: str
    body: bytes
    content_type: str = "application/json"
    is_last: bool = field(default=False, compare=False)
    """Whether it is the last webhook of its message and no duplicate."""
    due: float | None = field(default=None, compare=False)
    """The earliest time to send it, in seconds since 1970; None if it can be sent at any time."""


SignReceipt = Callable[[Mapping[str, str]], Mapping[str, str]]
"""Returns the fields of a delivery receipt with its signature."""


@dataclass(frozen=True, slots=True)
class Channel:
    """The behaviour of a channel. ``price`` is in EUR for one part; the status ``charged_on`` reports it."""

    name: str
    charged_on: str
    price: str
    reports_read: bool


CHANNELS = (
    Channel("sms", SUBMITTED, "0.0333", reports_read=False),
    Channel("mms", SUBMITTED, "0.2450", reports_read=False),
    Channel("rcs", DELIVERED, "0.04100000", reports_read=True),
    Channel("whatsapp", DELIVERED, "0.0591", reports_read=True),
    Channel("messenger", DELIVERED, "0.0008", reports_read=True),
    Channel("viber_service", DELIVERED, "0.02430000", reports_read=True),
)

_COURSES = {  # the statuses of a message in order → share in percent
    (SUBMITTED, DELIVERED, READ): 40,
    (SUBMITTED, DELIVERED): 35,
    (SUBMITTED,): 10,
    (SUBMITTED, UNDELIVERABLE): 7,
    (SUBMITTED, REJECTED): 4,
    (REJECTED,): 4,
}
_DELAY_SECONDS = {  # least and most after the previous status; 1 or more, so that whole seconds increase too
    DELIVERED: (1.0, 30.0),
    UNDELIVERABLE: (1.0, 30.0),
    REJECTED: (1.0, 10.0),
    READ: (2.0, 60.0),
}
LONGEST = timedelta(seconds=90)
"""The longest time between a message's first and last status."""
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
_RECEIPT_SHARE = 8  # one SMS in this many reports by signed delivery receipts
_RECEIPTS = {SUBMITTED: ("accepted", "0"), DELIVERED: ("delivered", "0"), REJECTED: ("failed", "6")}
WEBHOOKS_PER_MESSAGE = sum(len(course) * share for course, share in _COURSES.items()) / 100
"""The average number of webhooks of a message, before duplicates."""


def plan_message(
    rng: random.Random, start: datetime, sign_receipt: SignReceipt | None
) -> Iterator[tuple[datetime, SimulatedWebhook]]:
    """Yield the webhooks of one message with their increasing timestamps."""
    channel = rng.choice(CHANNELS)
    message_uuid = str(UUID(int=rng.getrandbits(128), version=4))
    to, sender = _choose_parties(rng, channel)
    common = _common_fields(rng, channel)
    precision = rng.choice(("milliseconds", "seconds"))
    course = _choose_course(rng, channel)
    with_receipts = channel.name == "sms" and not rng.randrange(_RECEIPT_SHARE) and UNDELIVERABLE not in course
    at = start
    for number, status in enumerate(course):
        if number:
            at += random_delay(rng, _DELAY_SECONDS[status])
        timestamp = at.isoformat(timespec=precision).replace("+00:00", "Z")
        fields = {
            "message_uuid": message_uuid,
            "to": to,
            "from": sender,
            "timestamp": timestamp,
            "status": status,
            "channel": channel.name,
            **common,
            **_status_fields(rng, channel, status, int(common.get("sms", {}).get("count_total", 1))),
        }
        is_last = number == len(course) - 1
        webhook = SimulatedWebhook(message_uuid, status, orjson.dumps(fields), is_last=is_last)
        if with_receipts and sign_receipt is not None:
            webhook = _to_receipt(webhook, fields, at, sign_receipt)
        yield datetime.fromisoformat(timestamp), webhook


def _to_receipt(
    webhook: SimulatedWebhook, fields: Mapping[str, Any], at: datetime, sign: SignReceipt
) -> SimulatedWebhook:
    """Convert the webhook to a delivery receipt of the SMS API, a form; a receipt always reports one part."""
    status, code = _RECEIPTS[webhook.status]
    receipt = {
        "msisdn": fields["to"],
        "to": fields["from"],
        "network-code": fields["destination"]["network_code"],
        "messageId": webhook.message_uuid,
        "price": fields.get("usage", {}).get("price", "0.0333"),
        "status": status,
        "scts": f"{at:%y%m%d%H%M}",
        "err-code": code,
        "message-timestamp": f"{at:%Y-%m-%d %H:%M:%S}",
        "timestamp": str(int(at.timestamp())),
        "nonce": webhook.message_uuid,
        **({"client-ref": fields["client_ref"]} if "client_ref" in fields else {}),
    }
    body = urlencode(sign(receipt)).encode()
    return replace(webhook, body=body, content_type=FORM)


def _choose_course(rng: random.Random, channel: Channel) -> tuple[str, ...]:
    courses = [course for course in _COURSES if channel.reports_read or READ not in course]
    return rng.choices(courses, [_COURSES[course] for course in courses])[0]


def random_delay(rng: random.Random, seconds: tuple[float, float]) -> timedelta:
    """Return a delay between the least and the most seconds."""
    return timedelta(seconds=rng.uniform(*seconds))


def _choose_parties(rng: random.Random, channel: Channel) -> tuple[str, str]:
    """Return the recipient and the sender in the form of the channel."""
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


def _common_fields(rng: random.Random, channel: Channel) -> dict[str, Any]:
    """Return the fields that every webhook of the message has."""
    common: dict[str, Any] = {}
    if rng.random() < 0.8:  # noqa: PLR2004 - most senders set a client_ref
        common["client_ref"] = f"order-{rng.randrange(10**8):08}"
    if channel.name in {"sms", "mms"}:
        common["destination"] = {"network_code": rng.choice(_NETWORK_CODES)}
    if channel.name == "sms":
        common["sms"] = {"count_total": str(rng.choices((1, 2, 3), (80, 15, 5))[0])}
    return common


def _status_fields(rng: random.Random, channel: Channel, status: str, parts: int) -> dict[str, Any]:
    """Return the fields that only the webhook of this status has."""
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
