"""Tables of revision 0002, and the `store` that worked with them: it knows nothing of contributions and roll-ups."""

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Column, Connection, MetaData, Table, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.events.event import StatusEvent
from worker.store import migrations
from worker.store.handler import read_event
from worker.store.projection import MessageState, dedupe, project
from worker.store.statements import InsertRows
from worker.store.tables import messages, status_events

_MESSAGES = Table(
    "messages",
    MetaData(),
    *(
        Column(messages.c[key].name, messages.c[key].type, key=key, primary_key=messages.c[key].primary_key)
        for key in MessageState._fields
    ),
)
_read_values = attrgetter(
    *("raw" if column.key == "payload" else column.key for column in list(status_events.columns)[:-2])
)


async def make_tables(engine: AsyncEngine) -> None:
    """Make the tables of revision 0002."""

    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")

    async with engine.begin() as connection:
        await connection.run_sync(upgrade)


async def write_as_0002(engine: AsyncEngine, events: Sequence[StatusEvent]) -> None:
    """Write the events and the states of their messages in one transaction."""
    ids = sorted({event.message_uuid for event in events})
    put_events, put_messages = InsertRows(status_events, engine.dialect), InsertRows(_MESSAGES, engine.dialect)
    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            parameters = {"ids": ids}
            await connection.execute(
                text(
                    "INSERT INTO messages (message_uuid, status, statuses) "
                    "SELECT id, '', '{}' FROM unnest(CAST(:ids AS text[])) AS id ON CONFLICT (message_uuid) DO NOTHING"
                ),
                parameters,
            )
            await connection.execute(
                text(
                    "SELECT message_uuid FROM messages WHERE message_uuid = ANY(CAST(:ids AS text[])) "
                    'ORDER BY message_uuid COLLATE "C" FOR UPDATE'
                ),
                parameters,
            )
        rows = await connection.execute(select(status_events).where(status_events.c.message_uuid.in_(ids)))
        merged = dedupe([*map(read_event, rows), *events])
        values = [(*_read_values(event), None, True) for event in merged.values()]
        await connection.exec_driver_sql(put_events.sql, put_events.parameters(values))
        states = [project([event for event in merged.values() if event.message_uuid == key]) for key in ids]
        await connection.exec_driver_sql(put_messages.sql, put_messages.parameters([tuple(s) for s in states]))
