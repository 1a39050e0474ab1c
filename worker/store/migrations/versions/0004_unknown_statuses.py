"""The index of events with unknown statuses gets another condition in SQLite, which costs each new event less.

``worker.store.migrations.indexes`` makes the index again. PostgreSQL keeps its index: it knows that both conditions are
equal. Code of revision 0002 can work with these tables.

Revision ID: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Drop the index of SQLite."""
    if op.get_bind().dialect.name == "sqlite":
        op.drop_index("ix_status_events_unknown", "status_events", if_exists=True)
