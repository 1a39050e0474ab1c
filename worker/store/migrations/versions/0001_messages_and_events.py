"""Messages and their events.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

from worker.store.tables import UtcTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the two tables."""
    op.create_table(
        "status_events",
        sa.Column("event_id", sa.String(64), primary_key=True),
        sa.Column("message_uuid", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("provider_status", sa.Text, nullable=False),
        sa.Column("occurred_at", UtcTime),
        sa.Column("received_at", UtcTime, nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.Column("account", sa.Text),
        sa.Column("account_verified", sa.Boolean, nullable=False),
        sa.Column("application", sa.Text),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_status_events_message_uuid", "status_events", ["message_uuid"])
    op.create_table(
        "messages",
        sa.Column("message_uuid", sa.Text, primary_key=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("status_at", UtcTime),
        sa.Column("statuses", sa.JSON, nullable=False),
        sa.Column("channel", sa.Text),
        sa.Column("to", sa.Text),
        sa.Column("from", sa.Text),
        sa.Column("client_ref", sa.Text),
        sa.Column("account", sa.Text),
        sa.Column("application", sa.Text),
        sa.Column("error_code", sa.Text),
        sa.Column("error_text", sa.Text),
        sa.Column("price", sa.Text),
        sa.Column("currency", sa.Text),
        sa.Column("parts", sa.Integer),
        sa.Column("network_code", sa.Text),
        sa.Column("workflow_id", sa.Text),
        sa.Column("workflow_item", sa.Text),
        sa.Column("workflow_items", sa.Text),
    )
