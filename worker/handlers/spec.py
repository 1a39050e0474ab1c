"""How a handler is written: ``[NAME=]TARGET[#OPTION=VALUE&OPTION=VALUE…]``. No I/O.

TARGET is ``store``, ``log``, ``package.module:function`` or ``forward:URL``. The group is called NAME, or else by the
target's text; a URL may hold secrets, so its group is called by the host and 8 hex digits. Options are no part of the
name: changing one keeps the group. In an option's value ``%XX`` is a byte: ``%26`` for ``&``, ``%25`` for ``%``. Commas
separate the handlers of one text, so there a comma is written ``%2C``; in a file each handler has a line of its own.
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
        raise ValueError("words with | between them are expected, such as delivered|read")
    return frozenset(words)


Words = Annotated[frozenset[str], BeforeValidator(_words)]


class Options(BaseModel):
    """What one handler has of its own; None where the settings for all count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: Concurrency | None = None
    timeout: TimeoutSeconds | None = None
    batch: BatchEntries | None = None
    base: BaseSeconds | None = None
    cap: CapSeconds | None = None
    attempts: Attempts | None = None
    raw: bool | None = None
    """Whether ``forward`` sends the payload as it came."""
    query: bool | None = None
    """Whether ``forward`` sends the parameters of the webhook's URL too."""
    only: Words | None = None
    """The statuses that ``forward`` sends, in lower case; None for all."""
    channel: Words | None = None
    """The channels that ``forward`` sends, in lower case; None for all."""
    headers: tuple[Header, ...] = Field((), repr=False)
    """What ``header.NAME=value`` adds to the requests of ``forward``."""


ALL_OPTIONS = frozenset(Options.model_fields) - {"headers"}
FORWARD_OPTIONS = frozenset(("raw", "query", "only", "channel"))


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
        """Read one handler's text. Raises WrongValue, which quotes neither a URL nor a header."""
        named, _, options_text = text.strip().partition("#")
        name, target = _split_name(named)
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


def _split_name(named: str) -> tuple[str | None, str]:
    name, equals, target = named.partition("=")
    if not equals or ":" in name:  # an = behind a colon is part of a URL
        return None, named
    if not _GROUP.fullmatch(name):
        raise WrongValue("the name before = must have 1 to 64 letters, digits, _ - and . and begin with no sign")
    return name, target


def _group_of(target: str) -> str:
    """Return the name of a group that was given none. Raises ValueError for a URL that cannot be posted to."""
    if not target.startswith(FORWARD):
        return target
    url = target.removeprefix(FORWARD)
    return f"{FORWARD}{parse_url(url).host}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def _parse_options(text: str, target: str) -> Options:
    """Read ``OPTION=VALUE&…``. Raises ValueError; pydantic's for a value that is not in range."""
    is_forward = target.startswith(FORWARD)
    known = ALL_OPTIONS if is_forward else ALL_OPTIONS - FORWARD_OPTIONS
    if target in BUILT_IN:
        known -= {"concurrency"}
    values: dict[str, Any] = {}
    headers: list[Header] = []
    for pair in text.split("&") if text else []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError("an option is written NAME=VALUE, options are separated by &, and & in a value is %26")
        if is_forward and name.startswith(_HEADER):
            headers.append(Header.parse(unquote(name.removeprefix(_HEADER)), value))
        elif name not in known:
            taken = ", ".join((*sorted(known), *([f"{_HEADER}NAME"] if is_forward else [])))
            raise ValueError(f"{_quoted(name)} is not an option of this handler: it takes {taken}")
        elif name in values:
            raise ValueError(f"the option {name} comes twice: leave one out")
        else:
            values[name] = unquote(value)
    _check_headers(headers, has_login=is_forward and parse_url(target.removeprefix(FORWARD)).user is not None)
    options = Options.model_validate({**values, "headers": tuple(headers)})
    if options.raw and options.query:
        raise ValueError("query=true adds to the JSON of forward, and raw=true sends none of it: leave one out")
    return options


def _check_headers(headers: Sequence[Header], *, has_login: bool) -> None:
    names = [header.name.lower() for header in headers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"the header {twice} comes twice: leave one out")
    if has_login and "authorization" in names:
        raise ValueError("the URL holds a user, and header.Authorization is given: leave one out")


def _quoted(name: str) -> str:
    """Quote what stands where an option's name should be, unless it could be a part of a secret."""
    return repr(name) if re.fullmatch(r"[a-z_]{1,20}", name) else "what comes before ="


def parse_specs(text: str) -> list[Spec]:
    """Read a comma separated list. Raises WrongValue that names the handler by its place."""
    return _parse_each((f"handler {place}", one) for place, one in enumerate(text.split(","), 1))


def parse_lines(text: str) -> list[Spec]:
    """Read one handler a line; empty lines and those that begin with ``#`` count for nothing. Raises WrongValue."""
    lines = [(f"line {number}", line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    specs = _parse_each((place, line) for place, line in lines if line and not line.startswith("#"))
    if not specs:
        raise WrongValue(f"it names no handler: write one a line, {KINDS}")
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
