"""The tables, equal on SQLite and PostgreSQL: prices exact as sent, times in UTC to the microsecond."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    TIMESTAMP,
    Boolean,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    true,
)
from sqlalchemy.types import JSON, TypeEngine

REVISION = "0002"
"""The migration that this code needs; ``ackstream migrate`` brings a database there."""


class UtcTime(TypeDecorator[datetime]):
    """An aware moment: TIMESTAMPTZ in PostgreSQL, in SQLite a text that sorts (its DateTime would drop the zone)."""

    impl = String(32)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        return dialect.type_descriptor(String(32))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return value.isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment = value if dialect.name == "postgresql" else datetime.fromisoformat(value)
        return moment.astimezone(UTC)


# `doc` and `info` are for people: `make reference` writes them into docs/reference/database-schema.md.
metadata = MetaData()

status_events = Table(
    "status_events",
    metadata,
    Column(
        "event_id",
        String(64),
        primary_key=True,
        doc="sha256 of the payload; of a delivery receipt, of its parts that stay the same when it is sent again",
    ),
    Column("message_uuid", Text, nullable=False, doc="the message's id, as in messages"),
    Column(
        "status",
        Text,
        nullable=False,
        doc="the status; the word of a delivery receipt is translated to that of the Messages API",
    ),
    Column("provider_status", Text, nullable=False, doc="the status as sent"),
    Column("occurred_at", UtcTime, doc="when it happened, by the provider's clock"),
    Column("received_at", UtcTime, nullable=False, doc="when the first receipt of this payload was here"),
    Column("entry", Text, nullable=False, doc="the entry of the first receipt, as shard/ms-seq"),
    Column("account", Text, doc="the provider's account"),
    Column("account_verified", Boolean, nullable=False, doc="whether a signature proves the account"),
    Column("application", Text, doc="the provider's application"),
    Column("payload", LargeBinary, nullable=False, doc="the raw bytes"),
    Column(
        "query",
        JSON(none_as_null=True),
        doc="the parameters of the URL that the first receipt came to; nothing proves them",
    ),
    Column(
        "decides",
        Boolean,
        nullable=False,
        server_default=true(),
        doc="false if the message's state does not depend on it; set for messages with more than 8 events",
    ),
    Index("ix_status_events_message_uuid", "message_uuid", "decides"),
    info={"meaning": "One row for each distinct payload."},
)
"""``decides``: whether the message's state may depend on this event (worker.store.projection)."""

messages = Table(
    "messages",
    metadata,
    Column(
        "message_uuid",
        Text,
        primary_key=True,
        doc="the message's id; of a receipt its messageId, of Dispatch's final report its dispatch_uuid",
    ),
    Column(
        "status",
        Text,
        nullable=False,
        doc="the current status: read, then delivered, undeliverable, rejected, then all others; the later wins a tie",
    ),
    Column("status_at", UtcTime, doc="when the current status was reached"),
    Column("statuses", JSON, nullable=False, doc="when each status was first reached; the first 100 if there are more"),
    Column("channel", Text, doc="as sent: sms, whatsapp, …"),
    Column("to", Text, doc="the recipient, as sent"),
    Column("from", Text, key="sender", doc="the sender, as sent"),
    Column("client_ref", Text, doc="your own reference, as sent"),
    Column("account", Text, doc="the provider's account"),
    Column("application", Text, doc="the provider's application"),
    Column("error_code", Text, doc="the error code of the current status"),
    Column("error_text", Text, doc="the error text of the current status"),
    Column("price", Text, doc="text, digit by digit as sent; a price of 0 never replaces another"),
    Column("currency", Text, doc="the currency of the price"),
    Column("parts", Integer, doc="how many parts the SMS has"),
    Column("network_code", Text, doc="MCC and MNC of the network"),
    Column("workflow_id", Text, doc="joins the attempts of a failover"),
    Column("workflow_item", Text, doc="the place of the attempt in the failover"),
    Column("workflow_items", Text, doc="how many attempts the failover has"),
    info={"meaning": "One row for each message: its state, as all its events together make it."},
)

schema = Table(
    "ackstream_schema",
    metadata,
    Column(
        "earliest_revision", Text, primary_key=True, doc="the earliest revision whose code can work with these tables"
    ),
    info={"meaning": "One row, written by migrations."},
)
"""One row: the earliest revision whose code can work with the tables as they are (worker.store.revision)."""
