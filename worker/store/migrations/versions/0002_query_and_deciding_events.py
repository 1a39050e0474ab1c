"""The query of an event's URL, which events a message's state depends on, and who can work with the tables.

Revision ID: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns, look for both of message and deciding, and say that 0001 cannot work with that."""
    op.add_column("status_events", sa.Column("query", sa.JSON))
    op.add_column("status_events", sa.Column("decides", sa.Boolean, nullable=False, server_default=sa.true()))
    op.drop_index("ix_status_events_message_uuid", "status_events")
    op.create_index("ix_status_events_message_uuid", "status_events", ["message_uuid", "decides"])
    schema = op.create_table("ackstream_schema", sa.Column("earliest_revision", sa.Text, primary_key=True))
    op.bulk_insert(schema, [{"earliest_revision": revision}])
