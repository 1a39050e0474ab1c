"""The webhooks' port, for one process or for several."""

import socket

from ingest.settings import IngestSettings
from runtime.server_socket import reserve_port

SETTING = "ACKSTREAM_PORT (--port)"


async def reserve_webhook_port(settings: IngestSettings) -> list[socket.socket]:
    """Reserve the port for several processes: a socket for each address. Raises CommandError if it is taken."""
    return await reserve_port(settings.hosts, settings.port, setting=SETTING, receive_bytes=settings.max_body)
