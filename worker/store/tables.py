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


metadata = MetaData()

status_events = Table(
    "status_events",
    metadata,
    Column("event_id", String(64), primary_key=True),
    Column("message_uuid", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("provider_status", Text, nullable=False),
    Column("occurred_at", UtcTime),
    Column("received_at", UtcTime, nullable=False),
    Column("entry", Text, nullable=False),
    Column("account", Text),
    Column("account_verified", Boolean, nullable=False),
    Column("application", Text),
    Column("payload", LargeBinary, nullable=False),
    Column("query", JSON(none_as_null=True)),
    Column("decides", Boolean, nullable=False, server_default=true()),
    Index("ix_status_events_message_uuid", "message_uuid", "decides"),
)
"""``decides``: whether the message's state may depend on this event (worker.store.projection)."""

messages = Table(
    "messages",
    metadata,
    Column("message_uuid", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("status_at", UtcTime),
    Column("statuses", JSON, nullable=False),
    Column("channel", Text),
    Column("to", Text),
    Column("from", Text, key="sender"),
    Column("client_ref", Text),
    Column("account", Text),
    Column("application", Text),
    Column("error_code", Text),
    Column("error_text", Text),
    Column("price", Text),
    Column("currency", Text),
    Column("parts", Integer),
    Column("network_code", Text),
    Column("workflow_id", Text),
    Column("workflow_item", Text),
    Column("workflow_items", Text),
)

schema = Table("ackstream_schema", metadata, Column("earliest_revision", Text, primary_key=True))
"""One row: the earliest revision whose code can work with the tables as they are (worker.store.revision)."""
