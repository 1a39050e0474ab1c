"""nginx and Caddy with the examples of `deploy/proxies`, over TLS, before a test's ingest and console."""

import getpass
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trustme
from aiohttp import ClientSession, CookieJar, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult

from console.up.valkey import find_free_port
from tests.support.processes import Process, Server, becomes

EXAMPLES = Path(__file__).parents[3] / "deploy" / "proxies"
WEBHOOKS, CONSOLE = "webhooks.example", "console.example"
CLIENT_ADDRESS = "127.0.0.2"
"""The address of the clients, which is not the proxy's."""

_NGINX = """daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
{user}
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/answers;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/ackstream.conf;
}}
"""


class ReverseProxy(Server):
    """A proxy with its example: host names and choices as written, with the test's addresses, ports and folders."""

    may_answer: ClassVar[set[int]] = set()
    """The answers besides 200 while one of two ingests restarts."""

    def __init__(self, folder: Path, ingest_ports: Sequence[int] = (), console_port: int = 0) -> None:
        folder.mkdir()
        self._ingest_ports = ingest_ports or [find_free_port()]
        self._console_port = console_port or find_free_port()
        self.port = find_free_port()
        self._folder = folder
        self._authority = trustme.CA()
        for name in (WEBHOOKS, CONSOLE):
            certificate = self._authority.issue_cert(name)
            (folder / f"{name}.key").write_bytes(certificate.private_key_pem.bytes())
            (folder / f"{name}.pem").write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
        super().__init__(self._prepare(), folder, {**os.environ, "HOME": str(folder)}, name="reverse-proxy")

    def _prepare(self) -> tuple[str, ...]:
        """Write the configuration; return the command."""
        raise NotImplementedError

    def _read_example(self, name: str, changes: dict[str, str]) -> str:
        text = (EXAMPLES / name).read_text()
        for written, used in {"127.0.0.1:8080": f"127.0.0.1:{self._console_port}", **changes}.items():
            assert written in text, f"the example lacks {written}"
            text = text.replace(written, used)
        return text

    async def _is_ready(self, process: Process) -> None:
        await becomes(lambda: process.lives() and self._accepts())

    def _accepts(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    @property
    def access_log(self) -> str:
        """The access log until now."""
        return (self._folder / "ackstream.log").read_text()

    def url(self, host: str) -> str:
        """Return the URL of a host behind the proxy."""
        return f"https://{host}:{self.port}"

    @asynccontextmanager
    async def open_client(self, **options: Any) -> AsyncIterator[ClientSession]:
        """Yield a client that finds both hosts here and trusts their certificates."""
        trust = ssl.create_default_context()
        self._authority.configure_trust(trust)
        connector = TCPConnector(resolver=_HereResolver(), ssl=trust, local_addr=(CLIENT_ADDRESS, 0))
        async with ClientSession(connector=connector, cookie_jar=CookieJar(), **options) as client:
            yield client


class Nginx(ReverseProxy):
    """Debian's package ``nginx`` has it."""

    def _prepare(self) -> tuple[str, ...]:
        program = _find_program("nginx")
        line = "server 127.0.0.1:3000 max_fails=0;"
        changes = {
            line: "\n".join(line.replace("3000", str(port)) for port in self._ingest_ports),
            "listen 443": f"listen 127.0.0.1:{self.port}",
            "/etc/nginx/tls": str(self._folder),
            "/var/log/nginx": str(self._folder),
        }
        (self._folder / "ackstream.conf").write_text(self._read_example("nginx.conf", changes))
        user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
        main = self._folder / "nginx.conf"
        main.write_text(_NGINX.format(folder=self._folder, user=user))
        return (program, "-p", str(self._folder), "-e", "stderr", "-c", str(main))


class Caddy(ReverseProxy):
    """Debian's package ``caddy`` has it. A POST on a connection that closes just then is not sent again."""

    may_answer: ClassVar[set[int]] = {502}

    def _prepare(self) -> tuple[str, ...]:
        program = _find_program("caddy")
        changes = {
            "{\n\tservers": "{\n\tadmin off\n\tauto_https off\n\tservers",
            "/var/log/caddy": str(self._folder),
            " 127.0.0.1:3000": "".join(f" 127.0.0.1:{port}" for port in self._ingest_ports),
        }
        for name in (WEBHOOKS, CONSOLE):
            files = f"{self._folder}/{name}"
            changes[f"\n{name} {{"] = f"\n{self.url(name)} {{\n\tbind 127.0.0.1\n\ttls {files}.pem {files}.key"
        config = self._folder / "Caddyfile"
        config.write_text(self._read_example("Caddyfile", changes))
        return (program, "run", "--config", str(config), "--adapter", "caddyfile")


class _HereResolver(AbstractResolver):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        flags = socket.AI_NUMERICHOST
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=flags)]

    async def close(self) -> None:
        """Do nothing."""


def _find_program(name: str) -> str:
    program = shutil.which(name, path=f"/usr/sbin:{os.environ.get('PATH', os.defpath)}")
    if program is None:
        pytest.skip(f"{name} is not installed: apt-get install {name}")
    return program
