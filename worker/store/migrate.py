"""``ackstream migrate``: brings the tables up to date, one process at a time."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.store import migrations
from worker.store.database import open_connection, open_engine
from worker.store.revision import check_tables, read_revision
from worker.store.tables import REVISION

LOCK = 0x61636B73  # "acks"


async def migrate(engine: AsyncEngine) -> None:
    """Run the missing migrations in one transaction. A second process waits and then has nothing to do.

    Tables of a later version stay as they are. Raises DatabaseAway, SchemaMismatch if this version cannot work with
    them, or an error of the database.
    """
    async with open_connection(engine) as connection:
        if (await read_revision(connection) or "") > REVISION:
            await check_tables(connection)
            return
        async with connection.begin():  # on SQLite this takes the write lock
            if connection.dialect.name == "postgresql":
                await connection.execute(text("SET LOCAL lock_timeout = 0"))
                await connection.execute(text("SET LOCAL statement_timeout = 0"))
                await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            await connection.run_sync(upgrade)


async def migrate_at(database_url: str) -> None:
    """Migrate the database at this URL; a missing SQLite file is created. Raises the errors of ``migrate``."""
    engine = open_engine(database_url, create=True)
    try:
        await migrate(engine)
    finally:
        await engine.dispose()


def upgrade(connection: Connection) -> None:
    """Run the missing migrations on this connection, inside its transaction."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
