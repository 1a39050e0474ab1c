"""How a handler is named in ``ACKSTREAM_HANDLERS``: ``[NAME=]TARGET[#OPTION=VALUE&OPTION=VALUE…]``. No I/O.

TARGET is ``store``, ``log``, ``package.module:function`` or ``forward:URL``. The group bears NAME, or else the target's
text, but of a URL, which may hold secrets, only the host and 8 hex digits; the options are no part of it, so that to
change one keeps the group.
"""

import hashlib
import re
from typing import Annotated, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field

BUILT_IN = frozenset(("store", "log"))
FORWARD = "forward:"

Concurrency = Annotated[int, Field(ge=1, le=1000)]
TimeoutSeconds = Annotated[float, Field(ge=0.1, le=3600)]
BatchEntries = Annotated[int, Field(ge=1, le=5000)]
BaseSeconds = Annotated[float, Field(ge=0, le=3600)]
CapSeconds = Annotated[float, Field(ge=0, le=86_400)]
Attempts = Annotated[int, Field(ge=1, le=1000)]

_NAMED = re.compile(r"([A-Za-z0-9][\w.-]{0,63})=(.+)", re.ASCII)
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


class Options(BaseModel):
    """What differs for one handler from the settings for all; None where nothing does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: Concurrency | None = None
    timeout: TimeoutSeconds | None = None
    batch: BatchEntries | None = None
    base: BaseSeconds | None = None
    cap: CapSeconds | None = None
    attempts: Attempts | None = None
    raw: bool | None = None
    """Whether ``forward`` sends the payload as it came."""


class Spec(BaseModel):
    """One handler: its group's name, what it is, and its options."""

    model_config = ConfigDict(frozen=True)

    group: str
    target: str
    options: Options

    @property
    def url(self) -> str | None:
        """Where it forwards to, if it does."""
        return self.target.removeprefix(FORWARD) if self.target.startswith(FORWARD) else None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one handler's text. Raises ValueError for what cannot be one."""
        named, _, query = text.strip().partition("#")
        found = _NAMED.fullmatch(named)
        group, target = found.groups() if found else (named, named)
        if target.startswith(FORWARD):
            url = target.removeprefix(FORWARD)
            if not is_url(url):
                raise ValueError("forward needs an http or https URL")
            group = group if found else _group_of(url)
        elif target not in BUILT_IN and not _FUNCTION.fullmatch(target):
            raise ValueError(f"{target!r} is no handler")
        if group in BUILT_IN and group != target:
            raise ValueError(f"{group!r} is the group of another handler")
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
        options = Options.model_validate(dict(pairs))
        if len(dict(pairs)) < len(pairs) or not _fits(options, target):
            raise ValueError(f"{query!r} are no options of {target!r}")
        return cls(group=group, target=target, options=options)


def _group_of(url: str) -> str:
    return f"{FORWARD}{urlsplit(url).hostname}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def _fits(options: Options, target: str) -> bool:
    if options.raw is not None and not target.startswith(FORWARD):
        return False
    return options.concurrency is None or target not in BUILT_IN


def is_url(text: str) -> bool:
    """Whether it is an http or https URL with a host."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and text.isprintable()
    except ValueError:
        return False


def parse_specs(text: str) -> list[Spec]:
    """Read a comma separated list. Raises ValueError for one that cannot be, and for two with the same group."""
    specs = [Spec.parse(one) for one in text.split(",")]
    if len({spec.group for spec in specs}) < len(specs):
        raise ValueError("two handlers have the same group")
    return specs
