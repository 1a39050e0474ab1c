"""Settings of the web console."""

from ipaddress import ip_network
from math import inf
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from pydantic_settings import NoDecode

from console.privacy.settings import PrivacySettings
from ingest.auth.settings import SignatureSettings
from ingest.settings import PATHS
from runtime import run_file
from runtime.server_socket import make_local_url
from stream.http_url import check_http_url
from stream.settings import ProcessSettings
from worker.retention.settings import Age, RetentionSettings, parse_age

INGEST_PORT = 3000


def _split(value: str) -> list[str]:
    return [part for item in value.split(",") if (part := item.strip())]


def _names(value: str) -> str:
    names = _split(value)
    if len(set(names)) < len(names) or any(set(name) & set("/ @") for name in names):
        raise ValueError
    return ",".join(names)


def _addresses(value: str) -> str:
    if not _split(value):
        raise ValueError
    return _names(value)


def _urls(value: str) -> str:
    urls = _split(value)
    for url in urls:
        check_http_url(url)
    return ",".join(urls)


def _networks(value: str) -> str:
    for network in _split(value):
        ip_network(network)
    return value


class ConsoleSettings(SignatureSettings, PrivacySettings, RetentionSettings, ProcessSettings):
    """Settings of ``ackstream console``."""

    secrets: ClassVar[frozenset[str]] = SignatureSettings.secrets | PrivacySettings.secrets

    console_host: Annotated[str, NoDecode, AfterValidator(_addresses)] = Field(
        "127.0.0.1", description="addresses that the console listens on, comma separated"
    )
    console_port: int = Field(8080, ge=0, le=65535, description="a TCP port, 0 to 65535; 0 takes a free one")
    admin_port: int = Field(0, ge=0, le=65535, description="a TCP port, 0 to 65535; 0 takes a free one")
    console_allowed_hosts: Annotated[str, NoDecode, AfterValidator(_names)] = Field(
        "",
        description="host names under which browsers reach the console, besides its addresses and localhost, comma "
        "separated",
    )
    console_scrape: Annotated[str, NoDecode, AfterValidator(_urls)] = Field(
        "",
        description="URLs of the admin ports of ingest and workers, comma separated: "
        "http://ingest:9464,http://worker:9464; all addresses of a name are asked",
    )
    console_ingest_url: Annotated[str, AfterValidator(_urls)] = Field(
        "",
        description="the URL that the console sends made-up webhooks to; by default the running `up`, else "
        f"http://127.0.0.1:{INGEST_PORT}",
    )
    console_user_header: str = Field(
        "", description="the header in which a reverse proxy of ACKSTREAM_CONSOLE_PROXIES names the person"
    )
    console_proxies: Annotated[str, NoDecode, AfterValidator(_networks)] = Field(
        "", description="addresses or networks of reverse proxies, comma separated: 10.0.0.5,192.168.7.0/24"
    )
    console_users_file: Path | None = Field(
        None, description="the file of users (default: console/users in the data folder)"
    )

    console_audit_retention: Age = Field(
        "400d", description="how long acts stay in the audit log: a number with m, h or d, such as 400d; or off"
    )

    @property
    def audit_seconds(self) -> float:
        """How long acts stay in the audit log."""
        age_ms = parse_age(self.console_audit_retention)
        return inf if age_ms is None else age_ms / 1000

    @property
    def hosts(self) -> list[str]:
        """The addresses to listen on."""
        return _split(self.console_host)

    @property
    def browser_url(self) -> str:
        """The URL of the console for a browser on this machine: that of the running `up`, else of these settings."""
        if running := run_file.find_running(self.data):
            return running.console_url
        return make_local_url(self.hosts[0], self.console_port)

    @property
    def allowed_hosts(self) -> list[str]:
        """The further host names that a request may have."""
        return _split(self.console_allowed_hosts)

    @property
    def scrape_urls(self) -> list[str]:
        """The admin URLs of ingest and workers: those of the settings, else those of the running `up`."""
        if urls := _split(self.console_scrape):
            return urls
        running = run_file.find_running(self.data)
        return [running.ingest_admin_url, running.worker_admin_url] if running else []

    @property
    def ingest_url(self) -> str:
        """The URL that made-up webhooks are sent to."""
        running = run_file.find_running(self.data)
        local = running.ingest_url if running else f"http://127.0.0.1:{INGEST_PORT}{PATHS.partition(',')[0]}"
        return self.console_ingest_url or local

    @property
    def proxies(self) -> list[str]:
        """The addresses and networks of trusted reverse proxies."""
        return _split(self.console_proxies)

    @property
    def users_file(self) -> Path:
        """The file of users."""
        return self.console_users_file or self.data / "console" / "users"

    @property
    def console_database(self) -> Path:
        """The SQLite file of the console's own data."""
        return self.data / "console" / "console.db"
