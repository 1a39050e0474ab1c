"""Parses the text of a handler: ``[NAME=]TARGET[#OPTION=VALUE&OPTION=VALUE…]``. No I/O.

TARGET is ``store``, ``log``, ``package.module:function`` or ``forward:URL``. NAME is the name of the group. Without it
the group has the text of the target as its name; a URL may contain secrets, so its group is named after the host and 8
hex digits. The options are not part of the name, so changing an option keeps the group. In the value of an option
``%XX`` is a byte: ``%26`` is ``&``, ``%25`` is ``%``. Commas separate handlers, so a comma in a handler is written
``%2C``. In a file each handler has a line of its own.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Self
from urllib.parse import unquote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from runtime.errors import WrongValue
from worker.handlers.request import Header, parse_url

BUILT_IN = frozenset(("store", "log"))
FORWARD = "forward:"
KINDS = "store, log, package.module:function or forward:URL"

Concurrency = Annotated[int, Field(ge=1, le=1000)]
TimeoutSeconds = Annotated[float, Field(ge=0.1, le=3600)]
BatchEntries = Annotated[int, Field(ge=1, le=5000)]
BaseSeconds = Annotated[float, Field(ge=0, le=3600)]
CapSeconds = Annotated[float, Field(ge=0, le=86_400)]
Attempts = Annotated[int, Field(ge=1, le=1000)]

_GROUP = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_WORD = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_HEADER = "header."


def _words(value: object) -> frozenset[str]:
    words = str(value).lower().split("|")
    if not all(map(_WORD.fullmatch, words)):
        raise ValueError("write words separated by |, such as delivered|read")
    return frozenset(words)


Words = Annotated[frozenset[str], BeforeValidator(_words)]


class Options(BaseModel):
    """The options of one handler. None means that the setting for all handlers applies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: Concurrency | None = None
    timeout: TimeoutSeconds | None = None
    batch: BatchEntries | None = None
    base: BaseSeconds | None = None
    cap: CapSeconds | None = None
    attempts: Attempts | None = None
    raw: bool | None = None
    """Whether ``forward`` sends the payload unchanged."""
    query: bool | None = None
    """Whether ``forward`` also sends the parameters of the URL of the webhook."""
    only: Words | None = None
    """The statuses that ``forward`` sends, in lower case; None for all."""
    channel: Words | None = None
    """The channels that ``forward`` sends, in lower case; None for all."""
    headers: tuple[Header, ...] = Field((), repr=False)
    """The headers that ``forward`` adds to its requests, written ``header.NAME=value``."""


ALL_OPTIONS = frozenset(Options.model_fields) - {"headers"}
FORWARD_OPTIONS = frozenset(("raw", "query", "only", "channel"))


class Spec(BaseModel):
    """One handler: the name of its group, its target, and its options."""

    model_config = ConfigDict(frozen=True)

    group: str
    target: str
    options: Options

    @property
    def url(self) -> str | None:
        """The URL of a forward handler; None for another handler."""
        return self.target.removeprefix(FORWARD) if self.target.startswith(FORWARD) else None

    @property
    def safe_target(self) -> str:
        """The target without what may be a secret: only the host of a URL."""
        return self.target if self.url is None else f"{FORWARD}{parse_url(self.url).host}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text of one handler. Raises WrongValue, which quotes neither a URL nor a header."""
        handler, _, options_text = text.strip().partition("#")
        name, target = _split_name(handler)
        if not target.startswith(FORWARD) and target not in BUILT_IN and not _FUNCTION.fullmatch(target):
            quoted = "it" if FORWARD in text else repr(target)
            raise WrongValue(f"{quoted} is not a handler: write {KINDS}")
        try:
            default = _group_of(target)
            options = _parse_options(options_text, target)
        except ValidationError as exc:
            error = exc.errors()[0]
            raise WrongValue(f"option {error['loc'][0]}: {error['msg']}") from None
        except ValueError as exc:
            raise WrongValue(str(exc)) from None
        if name in BUILT_IN and name != target:
            raise WrongValue(f"the group {name!r} belongs to the handler {name}: choose another name")
        return cls(group=name or default, target=target, options=options)


def _split_name(handler: str) -> tuple[str | None, str]:
    name, equals, target = handler.partition("=")
    if not equals or ":" in name:  # an = behind a colon is part of a URL
        return None, handler
    if not _GROUP.fullmatch(name):
        raise WrongValue(
            "the name before = must have 1 to 64 letters, digits, _ - and . and start with a letter or digit"
        )
    return name, target


def _group_of(target: str) -> str:
    """Return the default name of the group of a target. Raises ValueError if its URL is invalid."""
    if not target.startswith(FORWARD):
        return target
    url = target.removeprefix(FORWARD)
    return f"{FORWARD}{parse_url(url).host}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def _parse_options(text: str, target: str) -> Options:
    """Parse ``OPTION=VALUE&…``. Raises ValueError, or ValidationError for a value that is out of range."""
    is_forward = target.startswith(FORWARD)
    allowed = ALL_OPTIONS if is_forward else ALL_OPTIONS - FORWARD_OPTIONS
    if target in BUILT_IN:
        allowed -= {"concurrency"}
    values: dict[str, Any] = {}
    headers: list[Header] = []
    for pair in text.split("&") if text else []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError("write options as NAME=VALUE, separated by &; write & in a value as %26")
        if is_forward and name.startswith(_HEADER):
            headers.append(Header.parse(unquote(name.removeprefix(_HEADER)), value))
        elif name not in allowed:
            names = ", ".join((*sorted(allowed), *([f"{_HEADER}NAME"] if is_forward else [])))
            raise ValueError(f"{_quote(name)} is not an option of this handler: it takes {names}")
        elif name in values:
            raise ValueError(f"the option {name} is there twice: remove one")
        else:
            values[name] = unquote(value)
    _check_headers(headers, has_login=is_forward and parse_url(target.removeprefix(FORWARD)).user is not None)
    options = Options.model_validate({**values, "headers": tuple(headers)})
    if options.raw and options.query:
        raise ValueError("query=true adds to the JSON of forward, but raw=true sends the payload instead: remove one")
    return options


def _check_headers(headers: Sequence[Header], *, has_login: bool) -> None:
    names = [header.name.lower() for header in headers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"the header {twice} is there twice: remove one")
    if has_login and "authorization" in names:
        raise ValueError("the URL contains a user, and header.Authorization is set: remove one")


def _quote(name: str) -> str:
    """Quote the name of an unknown option, unless it could be part of a secret."""
    return repr(name) if re.fullmatch(r"[a-z_]{1,20}", name) else "the text before ="


def parse_specs(text: str) -> list[Spec]:
    """Parse a comma separated list. Raises WrongValue, which names the handler by its place."""
    return _parse_each((f"handler {place}", part) for place, part in enumerate(text.split(","), 1))


def parse_lines(text: str) -> list[Spec]:
    """Parse one handler per line. Empty lines and lines that start with ``#`` are ignored. Raises WrongValue."""
    lines = [(f"line {number}", line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    specs = _parse_each((place, line) for place, line in lines if line and not line.startswith("#"))
    if not specs:
        raise WrongValue(f"it names no handler: write one per line, {KINDS}")
    return specs


def _parse_each(texts: Iterable[tuple[str, str]]) -> list[Spec]:
    specs: dict[str, Spec] = {}
    for place, text in texts:
        try:
            spec = Spec.parse(text)
        except WrongValue as exc:
            raise WrongValue(f"{place}: {exc}") from None
        if spec.group in specs:
            raise WrongValue(f"{place}: the group {spec.group!r} has a handler already: give it a name, NAME=…")
        specs[spec.group] = spec
    return list(specs.values())
