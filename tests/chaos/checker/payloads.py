"""The payloads of a load. A payload follows from its id, so the checker stores no payloads.

An id that ends in ``-x`` has an invalid payload: every group must dead-letter it.
"""

import random
import re
from typing import Any

import orjson

UNPARSABLE_REASON = "invalid-status"
UNPARSABLE_SHARE = 0.02
ID = re.compile(rb"chaos-\d+-\d+-[gx]")

_STATUSES = ("submitted", "delivered", "read", "rejected", "undeliverable")
_CHANNELS = ("sms", "mms", "rcs", "whatsapp", "messenger", "viber_service")


def make_ids(load: int, count: int, rng: random.Random) -> list[str]:
    """Return ids of this load; all ids of a run differ."""
    return [f"chaos-{load}-{number}-{'x' if rng.random() < UNPARSABLE_SHARE else 'g'}" for number in range(count)]


def is_parsable(message_id: str) -> bool:
    return not message_id.endswith("-x")


def body(message_id: str) -> bytes:
    """Return the payload of this id."""
    rng = random.Random(message_id)
    fields: dict[str, Any] = {
        "message_uuid": message_id,
        "to": f"447700900{rng.randrange(1000):03}",
        "from": "AcmeInc",
        "timestamp": "2026-02-03T12:14:25.000Z",
        "status": status(message_id),
        "channel": rng.choice(_CHANNELS),
        "client_ref": "x" * rng.randrange(1, 400),
    }
    payload = orjson.dumps(fields)
    if is_parsable(message_id):
        return payload
    return rng.choice(
        (payload[:-1], b"[%b]" % payload, b"\xff%b" % payload, payload.replace(b'"message_uuid"', b'"m"', 1))
    )


def status(message_id: str) -> str:
    return random.Random(f"status of {message_id}").choice(_STATUSES)
