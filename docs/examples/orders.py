"""Marks an order as delivered in a table of your own.

The table is SQLite here, with a row for each order that was sent. It is opened for each event, in a thread, so the
event loop continues. An event that comes twice sets the same value again.
"""

import asyncio
import os
import sqlite3

from ackstream import Discard, Retry, StatusEvent

DATABASE = os.environ.get("ORDERS_DATABASE", "orders.db")


async def on_status(event: StatusEvent) -> None:
    """Take one status."""
    if event.status != "delivered":
        return
    if event.client_ref is None:
        raise Discard("no client_ref: sent by someone else")
    if not await asyncio.to_thread(mark, event.client_ref, event.time.isoformat()):
        raise Retry(30, "no such order yet")  # the status can be faster than the one who writes the order


def mark(order: str, at: str) -> bool:
    """Mark the order; whether there is one. The first time that it was delivered stays."""
    connection = sqlite3.connect(DATABASE, timeout=10)
    try:
        with connection:
            update = "UPDATE orders SET delivered_at = coalesce(delivered_at, ?) WHERE id = ?"
            return connection.execute(update, (at, order)).rowcount > 0
    finally:
        connection.close()
