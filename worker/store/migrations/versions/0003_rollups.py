"""The contributions of messages, and the roll-ups that contain them.

Each statement takes a moment, however many rows there are. worker.store.migrations.indexes makes the indexes, and
worker.store.migrations.recount counts the rows. Code of revision 0002 can work with these tables: a trigger marks the
rows that it changes.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

from worker.store.tables import UtcTime

revision = "0003"
down_revision = "0002"

_TRIGGERS = {
    "postgresql": """
        CREATE FUNCTION ackstream_mark_stale() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.stale := true; RETURN NEW; END';
        CREATE TRIGGER ackstream_mark_stale BEFORE UPDATE ON messages FOR EACH ROW
        WHEN (NEW.counted IS NOT DISTINCT FROM OLD.counted) EXECUTE FUNCTION ackstream_mark_stale()""",
    "sqlite": """
        CREATE TRIGGER ackstream_mark_stale AFTER UPDATE ON messages WHEN NEW.counted IS OLD.counted AND NOT NEW.stale
        BEGIN UPDATE messages SET stale = 1 WHERE message_uuid = NEW.message_uuid; END""",
}


def upgrade() -> None:
    """Add the columns, the tables and the trigger."""
    op.add_column("messages", sa.Column("first_at", UtcTime))
    op.add_column("messages", sa.Column("counted", sa.Text))
    op.add_column("messages", sa.Column("stale", sa.Boolean, nullable=False, server_default=sa.true()))
    labels = ("channel", "account", "application", "network", "currency", "error_code")
    op.create_table(
        "rollup_dimensions",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in labels),
    )
    counts = ("messages", "submitted", "delivered", "read", "rejected", "undeliverable", "open", "priced", "units")
    _create_rollup("status_rollups", *map(_count, counts))
    bucket = sa.Column("bucket", sa.Integer, primary_key=True, autoincrement=False)
    _create_rollup("delivery_rollups", bucket, _count("messages"))
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE messages SET (fillfactor = 70)")  # for new pages
    trigger = _TRIGGERS[op.get_bind().dialect.name]
    for statement in trigger.split(";\n"):  # asyncpg prepares one statement at a time
        op.execute(statement)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _create_rollup(name: str, *columns: sa.Column[int]) -> None:
    op.create_table(
        name,
        sa.Column("hour", UtcTime, primary_key=True),
        sa.Column("slot", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("dimension", sa.BigInteger, primary_key=True, autoincrement=False),
        *columns,
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 70},
    )
