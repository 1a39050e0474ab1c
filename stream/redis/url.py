"""Parses Redis URLs: the address of a server, of sentinels that name one, or of nodes of a cluster.

``redis://[user:password@]host[:port][/db]``, ``rediss://`` for TLS, ``unix://[user:password@]/path[?db=n]``,
``redis+sentinel://[user:password@]host[:port],host[:port]/[service]/[db]``, ``rediss+sentinel://`` for TLS to servers
and sentinels alike, ``redis+cluster://[user:password@]host[:port],host[:port]``, ``rediss+cluster://`` for TLS to all
nodes. User and password are the server's; those of the sentinels are the options ``sentinel_username`` and
``sentinel_password``. Only these options and redis-py's TLS options are allowed; others could change our limits.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio.connection import parse_url

from runtime.errors import WrongValue

SENTINEL_PORT = 26379
SERVER_PORT = 6379
SERVICE = "mymaster"

_COMMON = frozenset(("host", "port", "path", "db", "username", "password"))
_TLS = frozenset(("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password")) | frozenset(
    ("ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers", "ssl_min_version")
)
_SENTINEL_OPTIONS = frozenset(("sentinel_username", "sentinel_password"))

_SENTINELS = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://((?P<user>[^@/?#]+)@)?(?P<hosts>[^@/?#]+)"
    r"(/(?P<service>[^/?#]*)(/(?P<db>\d*))?)?(?P<query>\?[^#]*)?",
)
_CLUSTER = re.compile(r"(?P<scheme>rediss?)\+cluster://((?P<user>[^@/?#]+)@)?(?P<hosts>[^@/?#]+)/?(?P<query>\?[^#]*)?")
_DATABASE = re.compile("/?[0-9]*/?")
_HOST = re.compile(r"(\[(?P<ipv6>[0-9A-Fa-f:.]+(%[\w.-]+)?)]|(?P<name>[^\[\]:,\s/]+))(:(?P<port>\d+))?")

Host = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a Redis URL. The options are redis-py's for connections to the server and to its sentinels.

    ``nodes`` are the nodes of a cluster that the URL names; the cluster may have more.
    """

    scheme: str
    options: Mapping[str, Any] = field(repr=False)
    sentinels: tuple[Host, ...] = ()
    service: str = ""
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    nodes: tuple[Host, ...] = ()

    @classmethod
    def from_url(cls, url: str) -> "Target":
        """Parse a URL. Raises ValueError if it has none of the forms in the module's docstring."""
        if match := _SENTINELS.fullmatch(url):
            return cls._from_sentinels(match)
        if match := _CLUSTER.fullmatch(url):
            return cls._from_cluster(match)
        scheme = url.partition("://")[0]
        if scheme not in ("redis", "rediss", "unix"):
            raise WrongValue("the scheme is not known, or the host is missing")
        options = _parse_options(url, _TLS if scheme == "rediss" else frozenset())
        if scheme != "unix" and not _DATABASE.fullmatch(urlsplit(url).path):  # redis-py would take database 0
            raise WrongValue("the path is not the number of a database")
        if scheme == "unix" and "path" not in options:
            raise WrongValue("the path is missing")
        return cls(scheme, options)

    @classmethod
    def _from_sentinels(cls, match: re.Match[str]) -> "Target":
        scheme = match["scheme"]
        options = _parse_parts(match, match["db"] or "0", _SENTINEL_OPTIONS)
        login = {name.removeprefix("sentinel_"): options.pop(name) for name in _SENTINEL_OPTIONS & options.keys()}
        tls = {name: value for name, value in options.items() if name in _TLS}
        hosts = _parse_hosts(match["hosts"], SENTINEL_PORT)
        return cls(scheme, options, hosts, match["service"] or SERVICE, login | tls)

    @classmethod
    def _from_cluster(cls, match: re.Match[str]) -> "Target":
        return cls(match["scheme"], _parse_parts(match), nodes=_parse_hosts(match["hosts"], SERVER_PORT))


def _parse_parts(match: re.Match[str], db: str = "", more: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the options of a URL of several hosts: user and password, database, and the options in its query."""
    scheme, user = match["scheme"], f"{match['user']}@" if match["user"] else ""
    allowed = more | (_TLS if scheme == "rediss" else frozenset())
    options = _parse_options(f"{scheme}://{user}server/{db}{match['query'] or ''}", allowed)
    del options["host"]
    if not db and "db" in options:
        raise WrongValue("a cluster has no numbered databases")
    return options


def _parse_options(url: str, allowed: frozenset[str]) -> dict[str, Any]:
    try:
        options, port = dict[str, Any](parse_url(url)), urlsplit(url).port
    except ValueError:  # its text may quote a part of a password
        raise WrongValue("its host, its port (1 to 65535) or an option cannot be read") from None
    options.pop("connection_class", None)
    if unknown := options.keys() - _COMMON - allowed:
        raise WrongValue(f"options that are not supported: {', '.join(sorted(unknown))}")
    host = str(options.get("host", "localhost"))
    # redis-py takes its default for port 0
    _parse_host(f"[{host}]" if ":" in host else host, options.get("port", SERVER_PORT) if port is None else port)
    return options


def _parse_hosts(text: str, port: int) -> tuple[Host, ...]:
    return tuple(_parse_host(host, port) for host in text.split(","))


def _parse_host(text: str, port: int) -> Host:
    match = _HOST.fullmatch(text)
    if match is None:
        raise WrongValue("a host is not written host:port")
    if not 0 < int(match["port"] or port) < 2**16:
        raise WrongValue("a port is not from 1 to 65535")
    return match["ipv6"] or match["name"], int(match["port"] or port)
