"""Payloads of many people, whose numbers are spelled in every way."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson


@dataclass(frozen=True, slots=True)
class PersonWebhook:
    """A webhook of a person: the payload and the query of its URL."""

    person: int
    payload: bytes
    query: bytes | None = None


def make_numbers(count: int, victims: int, seed: int) -> list[str]:
    """Return numbers of people. The first ones are the victims: each has people with nearly the same number."""
    chance = random.Random(seed)  # noqa: S311 - the same population each time
    numbers = [f"4477{chance.randrange(10**7, 10**8)}" for _ in range(victims)]
    for number in list(numbers):
        numbers += [f"{number}0", f"1{number}", number[:-1], number[:-1] + str((int(number[-1]) + 1) % 10)]
    return [*numbers, *(f"49{chance.randrange(10**9, 10**10)}" for _ in range(count - len(numbers)))]


def message_id(person: int) -> str:
    """Return the id of the message of a person."""
    return f"message-{person}x"


def spell(number: str) -> Sequence[Callable[[dict[str, Any]], bytes]]:
    """Return functions that make a payload with this number of the fields of a message, each in another spelling."""
    blanks = f"+{number[:2]} {number[2:6]} {number[6:]}"
    escaped = number.replace("4", "\\u0034", 2)

    def join(fields: dict[str, Any], text: str) -> bytes:
        return orjson.dumps(fields)[:-1] + text.encode() + b"}"

    return (
        lambda fields: orjson.dumps({**fields, "to": number}),
        lambda fields: orjson.dumps({**fields, "to": blanks}),
        lambda fields: orjson.dumps({**fields, "to": int(number)}),
        lambda fields: orjson.dumps({**fields, "from": f"00{number}"}),
        lambda fields: orjson.dumps({**fields, "to": {"type": "sms", "number": f"+{number}"}}),
        lambda fields: orjson.dumps({**fields, "whatsapp": {"profile": [{"wa_id": f"{number}@s.whatsapp.net"}]}}),
        lambda fields: orjson.dumps({**fields, "status": "read", "error": {"title": f"no route to +{number}."}}),
        lambda fields: orjson.dumps({**fields, "client_ref": f"https://x.example/?n=%2B{number}"}),
        lambda fields: join(fields, f',"to":"{escaped}"'),
        lambda fields: join(fields, f',"to":"{number}","to":"hidden"'),
        lambda fields: f"messageId={fields['message_uuid']}&status=failed&msisdn={quote(blanks)}".encode(),
        lambda fields: orjson.dumps({"message-id": fields["message_uuid"], "status": "failed", "msisdn": number}),
        lambda fields: join(fields, f',"to":"{blanks}"'.replace(" ", "\\u2011")),
        lambda fields: join(fields, f',"to":"{blanks}"'.replace(" ", "\\/")),
        lambda fields: join(fields, f',"to":{number}.0'),
        lambda fields: f"{{{fields['message_uuid']} to {blanks}".replace(" ", "\xa0").encode("latin-1"),
    )


def make_webhooks(numbers: Sequence[str], seed: int) -> list[PersonWebhook]:
    """Return two to five webhooks of each person: one with the number, one without, some with the number in the URL.

    The first people have a second spelling, so that a few victims are enough for all spellings.
    """
    chance = random.Random(seed)  # noqa: S311 - the same population each time
    webhooks = []
    for person, number in enumerate(numbers):
        fields = {"message_uuid": message_id(person), "status": "submitted", "channel": "sms"}
        spellings = spell(number)
        webhooks.append(PersonWebhook(person, spellings[person % len(spellings)](fields)))
        webhooks.append(PersonWebhook(person, orjson.dumps({**fields, "status": "delivered"})))
        if person < len(spellings):
            second = spellings[(person + len(spellings) // 2) % len(spellings)]
            webhooks.append(PersonWebhook(person, second({**fields, "status": "rejected"})))
        if chance.random() < 0.3:
            query = f"customer={quote(f'+{number}')}".encode()
            webhooks.append(PersonWebhook(person, orjson.dumps({**fields, "status": "read"}), query))
        if chance.random() < 0.1:
            webhooks.append(PersonWebhook(person, b"\xff{not json: %b}" % number.encode()))
    chance.shuffle(webhooks)
    return webhooks
