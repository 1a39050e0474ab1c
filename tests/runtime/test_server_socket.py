import asyncio

import pytest

from runtime.errors import CommandError
from runtime.server_socket import is_listening, open_listener, port_of


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
