"""Signed webhooks of a made-up provider, and the numbers that follow from them, counted without the product's code."""

import asyncio
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import orjson

from console.simulate.messages import SimulatedWebhook
from console.simulate.plan import plan
from tests.support.http.load import JSON
from tests.support.samples.predicted import predict_statuses
from tests.support.samples.tokens import SECRET, claims, token

COUNTRIES = {"234": "United Kingdom", "310": "United States"}
SECRETS = ",".join(f"{account}:{SECRET.decode()}" for account in ("acc-old", "acc-mid", "acc-new"))
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SignedWebhook:
    """A webhook of one account and application."""

    simulated: SimulatedWebhook
    account: str
    application: str

    @property
    def fields(self) -> Row:
        fields: Row = orjson.loads(self.simulated.body)
        return fields

    def sign(self) -> dict[str, str]:
        """Return the headers."""
        names = {"iat": int(time.time()), "api_key": self.account, "application_id": self.application}
        return JSON | {"Authorization": f"Bearer {token(claims(self.simulated.body, **names))}"}


def plan_webhooks(messages: int, seed: int, account: str, start: datetime) -> list[SignedWebhook]:
    """Return webhooks in random order, a fifth of them twice; the older account pays in USD and sends to the USA."""
    webhooks = list(plan(messages, seed, start=start, duplicates=0.2, shuffle=True))
    if account == "acc-mid":
        webhooks = [_move_abroad(webhook) for webhook in webhooks]
    return [SignedWebhook(webhook, account, f"app-{int(webhook.message_uuid[0], 16) % 2}") for webhook in webhooks]


def _move_abroad(webhook: SimulatedWebhook) -> SimulatedWebhook:
    body = webhook.body.replace(b'"EUR"', b'"USD"').replace(b'"23410"', b'"310260"')
    return SimulatedWebhook(webhook.message_uuid, webhook.status, body)


class CountingSender:
    """Sends webhooks at a steady rate, and remembers when each was answered 200."""

    def __init__(self, url: str, per_second: float) -> None:
        self._url = url
        self._per_second = per_second
        self.answered: list[tuple[float, SignedWebhook]] = []
        self.sent: list[SignedWebhook] = []

    async def send(self, webhooks: Sequence[SignedWebhook]) -> None:
        """Send all; return when all are answered."""
        start = time.monotonic()
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
            for number, webhook in enumerate(webhooks):
                await asyncio.sleep(start + number / self._per_second - time.monotonic())
                self.sent.append(webhook)
                tasks.create_task(self._post(http, webhook))

    async def _post(self, http: aiohttp.ClientSession, webhook: SignedWebhook) -> None:
        async with http.post(self._url, data=webhook.simulated.body, headers=webhook.sign()) as response:
            if response.status == 200:
                self.answered.append((time.time(), webhook))

    def list_answered(self, moment: float) -> list[SignedWebhook]:
        """Return the webhooks that were answered until this moment."""
        return [webhook for at, webhook in self.answered if at <= moment]


@dataclass(slots=True)
class ExpectedMessage:
    """A message as its webhooks describe it."""

    labels: Mapping[str, str]
    reached: Mapping[str, datetime]
    status: str
    error: str
    price: Decimal
    currency: str

    @property
    def is_open(self) -> bool:
        return self.status == "submitted"


def count_messages(webhooks: Iterable[SignedWebhook]) -> list[ExpectedMessage]:
    """Return the messages of all these webhooks."""
    parts: defaultdict[str, list[SignedWebhook]] = defaultdict(list)
    for webhook in webhooks:
        parts[webhook.simulated.message_uuid].append(webhook)
    return [_make_message(group) for group in parts.values()]


def _make_message(webhooks: Sequence[SignedWebhook]) -> ExpectedMessage:
    fields = {webhook.simulated.status: webhook.fields for webhook in webhooks}
    reached = {status: datetime.fromisoformat(each["timestamp"]) for status, each in fields.items()}
    first = next(iter(fields.values()))
    network = first.get("destination", {}).get("network_code", "")
    (status,) = predict_statuses(webhook.simulated for webhook in webhooks).values()
    usage: Row = next((each["usage"] for each in fields.values() if "usage" in each), {})
    labels = {
        "channel": first["channel"],
        "network": network,
        "country": COUNTRIES.get(network[:3], ""),
        "account": webhooks[0].account,
        "application": webhooks[0].application,
        "time": min(reached.values()).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0).isoformat(),
    }
    error = fields[status].get("error", {}).get("title", "")
    return ExpectedMessage(labels, reached, status, error, Decimal(usage.get("price", 0)), usage.get("currency", ""))


def count_statuses(messages: Iterable[ExpectedMessage]) -> Counter[str]:
    """Return the funnel: how many messages ever reached each status, and how many are open."""
    counts = Counter[str]()
    for message in messages:
        counts.update(["messages", *message.reached, *(["open"] if message.is_open else [])])
    return counts


def split_messages(messages: Iterable[ExpectedMessage], by: str) -> Mapping[str, list[ExpectedMessage]]:
    """Return the messages by a label."""
    groups: defaultdict[str, list[ExpectedMessage]] = defaultdict(list)
    for message in messages:
        groups[message.labels[by]].append(message)
    return groups


def measure_delivery(messages: Iterable[ExpectedMessage]) -> Mapping[str, float]:
    """Return the number of messages with a time from submitted to delivered, and its percentiles in seconds."""
    seconds = sorted(_delivery_seconds(messages))
    ranks = {f"p{percent}": math.ceil(len(seconds) * percent / 100) for percent in (50, 90, 99)}
    return {"messages": len(seconds), **{name: seconds[rank - 1] for name, rank in ranks.items() if seconds}}


def _delivery_seconds(messages: Iterable[ExpectedMessage]) -> Iterator[float]:
    for message in messages:
        if {"submitted", "delivered"} <= message.reached.keys():
            yield (message.reached["delivered"] - message.reached["submitted"]).total_seconds()


def count_open(messages: Iterable[ExpectedMessage], now: datetime) -> Counter[str]:
    """Return the open messages by the age of their first status."""
    counts = Counter[str]()
    for message in messages:
        if message.is_open:
            age = now - min(message.reached.values())
            name = "under_1h" if age < timedelta(hours=1) else "over_24h"
            counts["from_1h_to_24h" if timedelta(hours=1) <= age < timedelta(days=1) else name] += 1
    return counts
