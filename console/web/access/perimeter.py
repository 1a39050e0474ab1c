"""The addresses of a request: the host that it names, the client, its scheme, and the page that sent it.

Headers of a reverse proxy count only in requests of the named proxies; other clients could forge them.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import web

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Perimeter:
    """The hosts, proxies and headers that this console accepts."""

    def __init__(
        self,
        listening: Sequence[str],
        *,
        allowed_hosts: Sequence[str] = (),
        proxies: Sequence[str] = (),
        user_header: str = "",
    ) -> None:
        addresses = [address for host in listening if (address := _parse_address(host)) is not None]
        self._takes_any_address = any(address.is_unspecified for address in addresses)
        is_local = self._takes_any_address or any(address.is_loopback for address in addresses)
        names = frozenset(map(_normalize, [*listening, *allowed_hosts]))
        self._hosts = names | LOOPBACK_NAMES if is_local or "localhost" in names else names
        self._proxies = tuple(ip_network(proxy) for proxy in proxies)
        self._user_header = user_header

    def is_known_host(self, request: web.Request) -> bool:
        """Whether the request names this console as its host.

        A page of another site can point its own name at this machine (DNS rebinding); its requests have that name. An
        IP address cannot be pointed elsewhere, so all are accepted if the console listens on all addresses.
        """
        values = request.headers.getall("Host", [])
        authority = _split_authority(values[0]) if len(values) == 1 else None
        if authority is None or request.host != values[0]:  # an absolute URL in the request line overrides Host
            return False
        host = authority[0]
        return host in self._hosts or (self._takes_any_address and _parse_address(host) is not None)

    def port(self, request: web.Request) -> int | None:
        """Return the port that the request names after the host, or None. The host is known."""
        authority = _split_authority(request.headers["Host"])
        return authority[1] if authority else None

    def client_address(self, request: web.Request) -> str:
        """Return the IP address of the client: behind named proxies, the last address that is not a proxy."""
        address = peer = _normalize(request.remote or "")
        if not self._is_proxy(peer):
            return peer
        hops = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
        for hop in reversed(hops):
            if (parsed := _parse_address(hop.strip())) is None:
                break
            address = _normalize(str(parsed))
            if not self._is_proxy(address):
                break
        return address

    def is_https(self, request: web.Request) -> bool:
        """Whether the browser uses HTTPS, by the word of a named proxy."""
        schemes = ",".join(request.headers.getall("X-Forwarded-Proto", [])).split(",")
        return schemes[-1].strip().lower() == "https" and self._is_proxy(_normalize(request.remote or ""))

    def named_user(self, request: web.Request) -> str | None:
        """Return the person that a named proxy vouches for; None without one.

        If the header comes twice, a client may have sent one of them: the answer is a name that no user has.
        """
        if not self._user_header or not self._is_proxy(_normalize(request.remote or "")):
            return None
        return ",".join(filter(None, request.headers.getall(self._user_header, []))) or None

    def is_cross_site(self, request: web.Request, *, has_credentials: bool) -> bool:
        """Whether a page of another origin may have sent the request. Call it for each request that changes something.

        Browsers name the relation in Sec-Fetch-Site (on HTTPS and localhost), else the origin of the page in Origin.
        Without credentials that a browser adds by itself, a request with neither header comes from a program.
        """
        if sites := request.headers.getall("Sec-Fetch-Site", []):
            return sites != ["same-origin"] and (has_credentials or sites != ["none"])
        if origins := request.headers.getall("Origin", []):
            return len(origins) != 1 or not self._is_own_origin(request, origins[0])
        return has_credentials

    def _is_own_origin(self, request: web.Request, origin: str) -> bool:
        scheme = "https" if self.is_https(request) else "http"
        sent, separator, authority = origin.partition("://")
        page, host = _split_authority(authority), _split_authority(request.headers["Host"])
        if sent != scheme or not separator or page is None or host is None:
            return False
        port = _DEFAULT_PORTS[scheme]
        return (page[0], page[1] or port) == (host[0], host[1] or port)

    def _is_proxy(self, address: str) -> bool:
        parsed = _parse_address(address)
        return parsed is not None and any(parsed in network for network in self._proxies)


def _split_authority(text: str) -> tuple[str, int | None] | None:
    """Return host and port of ``host[:port]``; None if it is malformed."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    host, port = match.groups()
    if host.startswith("[") and _parse_address(host) is None:
        return None
    return _normalize(host), int(port) if port else None


def _normalize(host: str) -> str:
    """Return a host name in lower case, or an address in its short form."""
    address = _parse_address(host)
    return host.lower() if address is None else str(address)


def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address of ``1.2.3.4``, ``::1`` or ``[::1]``; one that is mapped from IPv4 as IPv4."""
    try:
        address = ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
