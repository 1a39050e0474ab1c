"""The tables on SQLite and PostgreSQL. Prices are texts as sent; times are in UTC, to the microsecond."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
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
    text,
    true,
)
from sqlalchemy.types import JSON, TypeEngine

from worker.events.event import DELIVERED, READ, REJECTED, SUBMITTED, UNDELIVERABLE

REVISION = "0004"
"""The revision that this code needs; ``ackstream migrate`` updates a database to it."""


class UtcTime(TypeDecorator[datetime]):
    """An aware time: TIMESTAMPTZ in PostgreSQL, a sortable text in SQLite (DateTime would drop the zone there)."""

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
        time = value if dialect.name == "postgresql" else datetime.fromisoformat(value)
        return time.astimezone(UTC)


UNKNOWN_STATUS = " AND ".join(
    f"status <> '{status}'" for status in (SUBMITTED, DELIVERED, READ, REJECTED, UNDELIVERABLE)
)
"""The condition of the index of events with other statuses. There are hardly any, so the index costs nothing.

With NOT IN, SQLite writes the list into a temporary table for each event. That took 2.3 of 22 us of its statements.
"""

# `doc` and `info` are for people: `make reference` writes them into docs/reference/database-schema.md.
metadata = MetaData()

status_events = Table(
    "status_events",
    metadata,
    Column(
        "event_id",
        String(64),
        primary_key=True,
        doc="sha256 of the payload, or of the fields of a delivery receipt that do not change when it is sent again",
    ),
    Column("message_uuid", Text, nullable=False, doc="the id of the message, as in messages"),
    Column(
        "status",
        Text,
        nullable=False,
        doc="the status; the status of a delivery receipt is translated to that of the Messages API",
    ),
    Column("provider_status", Text, nullable=False, doc="the status as sent"),
    Column("occurred_at", UtcTime, doc="when the status was reached, by the clock of the provider"),
    Column("received_at", UtcTime, nullable=False, doc="when ingest first received this payload"),
    Column("entry", Text, nullable=False, doc="the first entry with this payload, as shard/ms-seq"),
    Column("account", Text, doc="the account at the provider"),
    Column("account_verified", Boolean, nullable=False, doc="whether a signature proves the account"),
    Column("application", Text, doc="the application at the provider"),
    Column("payload", LargeBinary, nullable=False, doc="the raw bytes"),
    Column(
        "query",
        JSON(none_as_null=True),
        doc="the parameters of the URL of the first webhook with this payload; no signature covers them",
    ),
    Column(
        "decides",
        Boolean,
        nullable=False,
        server_default=true(),
        doc="false if the state of the message does not depend on it; set for messages with more than 8 events",
    ),
    Index("ix_status_events_message_uuid", "message_uuid", "decides"),
    Index("ix_status_events_entry", "entry", postgresql_using="brin", postgresql_with={"autosummarize": True}),
    Index(
        "ix_status_events_unknown",
        "status",
        "message_uuid",
        postgresql_where=text(UNKNOWN_STATUS),
        sqlite_where=text(UNKNOWN_STATUS),
    ),
    info={"meaning": "One row for each distinct payload."},
)
"""``decides``: whether the state of the message may depend on this event (worker.store.projection)."""

INDEXED_LENGTH = 64
"""The indexes of texts have this many characters, because PostgreSQL limits the bytes of a row of an index."""


def _index_text(column: str) -> Index:
    """Return an index of a column of messages. A status hardly ever changes its values, so updates are cheap (HOT)."""
    exists = text(f'"{column}" IS NOT NULL')
    return Index(
        f"ix_messages_{column}",
        text(f'substr("{column}", 1, {INDEXED_LENGTH})'),
        "first_at",
        postgresql_where=exists,
        sqlite_where=exists,
    )


messages = Table(
    "messages",
    metadata,
    Column(
        "message_uuid",
        Text,
        primary_key=True,
        doc="the id of the message: message_uuid, messageId of a receipt, or dispatch_uuid of a Dispatch report",
    ),
    Column(
        "status",
        Text,
        nullable=False,
        doc="the current status: read comes before delivered, undeliverable and rejected, and these before all others; "
        "the later one wins a tie",
    ),
    Column("status_at", UtcTime, doc="when the current status was reached"),
    Column("statuses", JSON, nullable=False, doc="when each status was first reached; the first 100 if there are more"),
    Column("channel", Text, doc="as sent: sms, whatsapp, …"),
    Column("to", Text, doc="the recipient, as sent"),
    Column("from", Text, key="sender", doc="the sender, as sent"),
    Column("client_ref", Text, doc="your own reference, as sent"),
    Column("account", Text, doc="the account at the provider"),
    Column("application", Text, doc="the application at the provider"),
    Column("error_code", Text, doc="the error code of the current status"),
    Column("error_text", Text, doc="the error text of the current status"),
    Column("price", Text, doc="the price, exactly as sent; a price of 0 never replaces another"),
    Column("currency", Text, doc="the currency of the price"),
    Column("parts", Integer, doc="how many parts the SMS has"),
    Column("network_code", Text, doc="MCC and MNC of the network"),
    Column("workflow_id", Text, doc="equal for all attempts of one failover"),
    Column("workflow_item", Text, doc="the number of the attempt in the failover"),
    Column("workflow_items", Text, doc="how many attempts the failover has"),
    Column("first_at", UtcTime, doc="when the first status was reached"),
    Column("counted", Text, doc="the contribution of the message to the roll-ups, as they contain it"),
    Column(
        "stale",
        Boolean,
        nullable=False,
        server_default=true(),
        doc="whether `counted` is older than the rest of the row, because an earlier version has written it; "
        "`ackstream migrate` corrects that",
    ),
    Index("ix_messages_first_at", "first_at"),
    _index_text("to"),
    _index_text("client_ref"),
    _index_text("error_code"),
    Index("ix_messages_stale", "message_uuid", postgresql_where=text("stale"), sqlite_where=text("stale")),
    info={"meaning": "One row for each message: its state, computed from all its events."},
    postgresql_with={"fillfactor": 70},  # place for the next version of a row in its page: indexes do not change then
)
"""A trigger sets ``stale`` if a row changes and ``counted`` does not (worker.store.migrations)."""

rollup_dimensions = Table(
    "rollup_dimensions",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False, doc="a hash of the other columns"),
    Column("channel", Text, nullable=False, doc="as in messages"),
    Column("account", Text, nullable=False, doc="as in messages"),
    Column("application", Text, nullable=False, doc="as in messages"),
    Column("network", Text, nullable=False, doc="network_code in messages"),
    Column("currency", Text, nullable=False, doc="as in messages"),
    Column("error_code", Text, nullable=False, doc="as in messages: the code of the current status"),
    info={
        "meaning": "The values of messages that are counted together: the first 64 characters, empty for a missing one."
    },
)


def _rollup(name: str, meaning: str, *columns: Column[Any]) -> Table:
    """Make a table of sums. Rows change often, so PostgreSQL leaves place for their next version in the page."""
    return Table(
        name,
        metadata,
        Column("hour", UtcTime, primary_key=True, doc="the hour of the first status of the messages"),
        Column(
            "slot", Integer, primary_key=True, autoincrement=False, doc="writers at the same time have their own rows"
        ),
        Column("dimension", BigInteger, primary_key=True, autoincrement=False, doc="id in rollup_dimensions"),
        *columns,
        info={"meaning": meaning},
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 70},
    )


def _count(name: str, doc: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, doc=doc)


status_rollups = _rollup(
    "status_rollups",
    "How many messages reached each status, and their prices. Sum over all slots.",
    _count("messages", "all messages"),
    _count("submitted", "messages that were ever submitted"),
    _count("delivered", "messages that were ever delivered"),
    _count("read", "messages that were ever read"),
    _count("rejected", "messages that were ever rejected"),
    _count("undeliverable", "messages that were ever undeliverable"),
    _count("open", "messages that are neither delivered, read, rejected nor undeliverable now"),
    _count("priced", "messages with a price of at most 10,000"),
    _count("units", "the sum of these prices, in 1/1,000,000,000 of the currency"),
)
delivery_rollups = _rollup(
    "delivery_rollups",
    "The time from submitted to delivered. Sum over all slots.",
    Column(
        "bucket",
        Integer,
        primary_key=True,
        autoincrement=False,
        doc="0: up to 0.1 s; each of the next ends 10 % later; 170 has no end",
    ),
    _count("messages", "messages with a time in this bucket"),
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
