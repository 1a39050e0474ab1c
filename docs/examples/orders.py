"""Marks an order as delivered in a table of your own.

This example uses SQLite, with a row for each order. It opens the file for each event, in a thread, so that the event
loop does not block. A repeated event sets the same value again.
"""

import asyncio
import os
import sqlite3

from ackstream import Discard, Retry, StatusEvent

DATABASE = os.environ.get("ORDERS_DATABASE", "orders.db")


async def on_status(event: StatusEvent) -> None:
    """Handle one status."""
    if event.status != "delivered":
        return
    if event.client_ref is None:
        raise Discard("no client_ref: another program sent it")
    if not await asyncio.to_thread(mark, event.client_ref, event.time.isoformat()):
        raise Retry(30, "no such order yet")  # the status can arrive before the order is written


def mark(order: str, at: str) -> bool:
    """Mark the order and keep its first time of delivery; return whether the order exists."""
    connection = sqlite3.connect(DATABASE, timeout=10)
    try:
        with connection:
            update = "UPDATE orders SET delivered_at = coalesce(delivered_at, ?) WHERE id = ?"
            return connection.execute(update, (at, order)).rowcount > 0
    finally:
        connection.close()
