"""What a Redis URL says: a server, or sentinels that know one.

``redis://[user:password@]host[:port][/db]``, ``rediss://`` for TLS, ``unix://[user:password@]/path[?db=n]``, and
``redis+sentinel://[user:password@]host[:port],host[:port]/[service]/[db]``, ``rediss+sentinel://`` for TLS to servers
and sentinels alike. User and password are the server's; those of the sentinels are the options ``sentinel_username``
and ``sentinel_password``. Only these options and redis-py's for TLS are taken: others would undo limits of ours.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio.connection import parse_url

from runtime.errors import WrongValue

SENTINEL_PORT = 26379
SERVICE = "mymaster"

_COMMON = frozenset(("host", "port", "path", "db", "username", "password"))
_TLS = frozenset(("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password")) | frozenset(
    ("ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers", "ssl_min_version")
)
_OF_SENTINELS = frozenset(("sentinel_username", "sentinel_password"))

_SENTINELS = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://((?P<user>[^@/?#]+)@)?(?P<hosts>[^@/?#]+)"
    r"(/(?P<service>[^/?#]*)(/(?P<db>\d*))?)?(?P<query>\?[^#]*)?",
)
_HOST = re.compile(r"(\[(?P<ipv6>[0-9A-Fa-f:.]+)]|(?P<name>[^\[\]:,\s]+))(:(?P<port>\d{1,5}))?")

Host = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a Redis URL leads. The options are redis-py's for a connection, to the server and to its sentinels."""

    scheme: str
    options: Mapping[str, Any] = field(repr=False)
    sentinels: tuple[Host, ...] = ()
    service: str = ""
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_url(cls, url: str) -> "Target":
        """Read a URL. Raises ValueError for one that is none of those in the module's docstring."""
        if found := _SENTINELS.fullmatch(url):
            return cls._of_sentinels(found)
        scheme = url.partition("://")[0]
        if scheme not in ("redis", "rediss", "unix"):
            raise WrongValue("the scheme is not known, or no host is named")
        options = _options(url, _TLS if scheme == "rediss" else frozenset())
        if scheme == "unix" and "path" not in options:
            raise WrongValue("no path is named")
        return cls(scheme, options)

    @classmethod
    def _of_sentinels(cls, found: re.Match[str]) -> "Target":
        scheme, user = found["scheme"], f"{found['user']}@" if found["user"] else ""
        taken = _OF_SENTINELS | (_TLS if scheme == "rediss" else frozenset())
        options = _options(f"{scheme}://{user}server/{found['db'] or 0}{found['query'] or ''}", taken)
        del options["host"]
        own = {name.removeprefix("sentinel_"): options.pop(name) for name in _OF_SENTINELS & options.keys()}
        tls = {name: value for name, value in options.items() if name in _TLS}
        hosts = tuple(map(_host, found["hosts"].split(",")))
        return cls(scheme, options, hosts, found["service"] or SERVICE, own | tls)


def _options(url: str, taken: frozenset[str]) -> dict[str, Any]:
    options: dict[str, Any] = dict(parse_url(url))
    options.pop("connection_class", None)
    if unknown := options.keys() - _COMMON - taken:
        raise WrongValue(f"options that are not taken: {', '.join(sorted(unknown))}")
    return options


def _host(text: str) -> Host:
    found = _HOST.fullmatch(text)
    if found is None or not 0 < int(found["port"] or SENTINEL_PORT) < 2**16:
        raise WrongValue("a sentinel is named by its host and port")
    return found["ipv6"] or found["name"], int(found["port"] or SENTINEL_PORT)
