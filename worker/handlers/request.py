"""Parses and checks the URL and the headers of `forward`. They may contain secrets and are never shown.

The URL is sent byte by byte as it is written, except for non-ASCII characters: a host name is sent in its IDNA form,
and other characters as the percent escapes of their UTF-8.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote, urlsplit

from yarl import URL

from runtime.errors import CommandError
from stream.http_url import check_http_url

LONGEST_VALUE_BYTES = 8190  # the limit of common servers for one header

_ASCII = "".join(map(chr, range(33, 127)))
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_OWN_NAMES = frozenset(
    (
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    )
)


def parse_url(text: str) -> URL:
    """Return the URL to post to, with path and query as written. Raises ValueError, which does not quote the text."""
    check_http_url(text)
    parts = urlsplit(text)
    if text.endswith("?"):
        raise ValueError("the URL ends with ?, an empty query that would not be sent: remove the ?")
    try:
        return URL(quote(_with_ascii_host(text, parts.netloc), safe=_ASCII), encoded=True)
    except ValueError:
        raise ValueError("the host of the forward URL is not a valid host name") from None


def _with_ascii_host(text: str, netloc: str) -> str:
    if netloc.isascii():
        return text
    user, at, host_port = netloc.rpartition("@")
    host, colon, port = host_port.partition(":")
    encoded = URL.build(scheme="http", host=host).raw_host
    return text.replace(netloc, f"{user}{at}{encoded}{colon}{port}", 1)


@dataclass(frozen=True, slots=True)
class Header:
    """One header that `forward` adds. Its value is in the text of the handler or in a file."""

    name: str
    value: str = field(repr=False)
    file: Path | None = None

    @classmethod
    def parse(cls, name: str, text: str) -> Self:
        """Parse ``header.NAME=text``. A text that starts with ``@`` names a file. Raises ValueError."""
        if not _NAME.fullmatch(name):
            raise ValueError("a header is written header.NAME=value; its name consists of letters, digits and -")
        if name.lower() in _OWN_NAMES:
            raise ValueError(f"forward sets the header {name} itself: remove it")
        if text.startswith("@"):
            return cls(name, "", Path(unquote(text[1:])))
        return cls(name, _check_value(f"the header {name}", unquote(text)))

    def read(self) -> str:
        """Return the value. Blanks and line ends around the value in a file are removed. Raises CommandError."""
        if self.file is None:
            return self.value
        try:
            text = self.file.read_text()
        except (OSError, UnicodeDecodeError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
            raise CommandError(
                f"the file {str(self.file)!r} of the header {self.name} of a forward handler cannot be read ({why}): "
                "correct the path after @, or the rights of the file"
            ) from None
        try:
            return _check_value(f"the file {str(self.file)!r} of the header {self.name}", text)
        except ValueError as exc:
            raise CommandError(str(exc)) from None


def _check_value(what: str, text: str) -> str:
    value = text.strip()
    if not value:
        raise ValueError(f"{what} is empty: give it a value, or remove it")
    if not (value.isascii() and value.isprintable()) or len(value) > LONGEST_VALUE_BYTES:
        raise ValueError(f"{what} must be one line of printable ASCII, at most {LONGEST_VALUE_BYTES} bytes")
    return value


def read_headers(headers: Sequence[Header]) -> Mapping[str, str]:
    """Return the headers with their values. Raises CommandError if a file cannot be read or has no valid value."""
    return {header.name: header.read() for header in headers}
