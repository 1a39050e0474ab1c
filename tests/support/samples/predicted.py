"""The statuses that simulated messages have in the end."""

from collections.abc import Iterable

from console.simulate.messages import SimulatedWebhook
from worker.events.event import DELIVERED, READ, REJECTED, SUBMITTED, UNDELIVERABLE

RANKS = {SUBMITTED: 1, DELIVERED: 2, UNDELIVERABLE: 2, REJECTED: 2, READ: 3}
"""A copy of the ranks in worker.store.projection: a test of the product must not import its rule."""


def predict_statuses(webhooks: Iterable[SimulatedWebhook]) -> dict[str, str]:
    """Return the final status of each message after all these webhooks, which is the same in any order."""
    final: dict[str, str] = {}
    for webhook in webhooks:
        current = final.setdefault(webhook.message_uuid, webhook.status)
        if RANKS[webhook.status] > RANKS[current]:
            final[webhook.message_uuid] = webhook.status
    return final
