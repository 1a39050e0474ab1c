import asyncio
import socket
from typing import Any

import pytest

from runtime.errors import CommandError
from runtime.server_socket import is_listening, join_port, open_listener, port_of, reserve_port, share_sockets


async def test_a_port_in_use_is_refused_with_the_setting_to_change() -> None:
    """The error names the address, the port and the setting."""
    async with open_listener(asyncio.Protocol, ["127.0.0.1"], 0, setting="ACKSTREAM_PORT") as server:
        port = port_of(server)

        with pytest.raises(CommandError, match=rf"127\.0\.0\.1 port {port} .* another with ACKSTREAM_PORT"):
            async with open_listener(asyncio.Protocol, ["127.0.0.1"], port, setting="ACKSTREAM_PORT"):
                pass


async def test_a_closed_listener_does_not_listen() -> None:
    """The sockets listen until the block ends."""
    async with open_listener(asyncio.Protocol, ["127.0.0.1"], 0, setting="ACKSTREAM_PORT") as server:
        listeners = list(server.sockets)
        assert is_listening(server)

    assert [listener.fileno() for listener in listeners] == [-1]


async def test_a_reserved_port_belongs_to_one_supervisor() -> None:
    """Sockets that join it listen side by side; a second reservation fails while one of them listens."""
    options: Any = {"setting": "ACKSTREAM_PORT", "receive_bytes": 4096}
    (reserved,) = await reserve_port(["127.0.0.1"], 0, **options)
    port = reserved.getsockname()[1]
    first, second = join_port([reserved]), join_port([reserved])
    buffers = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for sock in (reserved, *first)]

    async with share_sockets(asyncio.Protocol, first) as listening, share_sockets(asyncio.Protocol, second) as others:
        assert all(map(is_listening, (*listening, *others)))
        with pytest.raises(CommandError, match=f"port {port}"):
            await reserve_port(["127.0.0.1"], port, **options)

    assert buffers[0] == buffers[1]
    reserved.close()
