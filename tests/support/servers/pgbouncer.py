"""A real PgBouncer in transaction mode, before a PostgreSQL that listens on a socket in its folder."""

import getpass
import shutil
import socket
from contextlib import suppress
from pathlib import Path

from console.up.valkey import find_free_port
from tests.support.processes import Process, Server, becomes

COMMAND = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
"""Debian's package ``pgbouncer`` has it; None where it is not installed."""

_CONFIG = """[databases]
* = host={folder} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
"""


class PgBouncer(Server):
    """Made for the folder of a PostgreSQL. All clients log in as ``user`` and share four connections."""

    def __init__(self, folder: Path, postgresql: Path, user: str = "postgres") -> None:
        assert COMMAND is not None, "install the package pgbouncer"
        self.port = find_free_port()
        config = folder / f"pgbouncer-{self.port}.ini"
        config.write_text(_CONFIG.format(folder=postgresql, user=user, port=self.port))
        owner = postgresql.owner()
        runs_as = () if owner == getpass.getuser() else ("-u", owner)  # it refuses to run as root
        super().__init__((COMMAND, *runs_as, str(config)), folder)

    def url(self, database: str = "postgres") -> str:
        """The URL of a database behind it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    async def _is_ready(self, process: Process) -> None:
        await becomes(lambda: process.lives() and self._answers())

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False
