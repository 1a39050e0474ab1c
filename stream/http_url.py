"""Checks the URLs of HTTP that settings and options name. No I/O."""

import re
from urllib.parse import urlsplit

from runtime.errors import WrongValue

_HOST = re.compile(r'[^%\\<>"{}|^`,*]+|[^%]+:[^%]+(%[\w.-]+)?')  # the second one is IPv6


def check_http_url(url: str) -> None:
    """Raise WrongValue, which does not quote the URL, unless it is an HTTP URL with a possible host and port."""
    if not url.isprintable() or " " in url:
        raise WrongValue(
            "the URL contains a blank or a control character: write it as a percent escape, a blank as %20"
        )
    if not url.lower().startswith(("http://", "https://")):
        raise WrongValue("the URL is not written http://host/path or https://host/path")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise WrongValue("the host of the URL cannot be read, or its port is not from 1 to 65535") from None
    if port == 0:
        raise WrongValue("the port of the URL is not from 1 to 65535")
    try:
        is_host = bool(_HOST.fullmatch(host) and host.encode("idna"))
    except UnicodeError:  # a part of it is empty or too long
        is_host = False
    if not is_host:
        raise WrongValue("the URL has no host" if not host else "the host of the URL is not a host name")
