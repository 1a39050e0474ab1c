"""Describe the settings in force: each value, and its source. Secrets are counted, never shown."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from stream.redis.client import redact_url
from stream.settings import PREFIX, InvalidSettings, StreamSettings, find_variables

URLS = frozenset({"redis_url", "database_url"})
SOURCES = {
    "flags": "a flag of the command",
    "ackstream up": "the running `ackstream up`",
    "environment": "environment",
    ".env": ".env",
}


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting. ``value`` is safe to show; None means that it is not set."""

    name: str
    value: str | None
    source: str
    """The text of SOURCES, a file, or ``default``."""
    is_secret: bool
    meaning: str
    """The valid values."""

    def summary(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        return {"name": self.name, "value": self.value, "source": self.source, "secret": self.is_secret}


@dataclass(frozen=True, slots=True)
class ProcessLines:
    """The settings of one kind of process; ``fault`` says why they cannot be used."""

    process: str
    lines: Sequence[SettingLine] = ()
    fault: str = ""


def describe_settings(settings: StreamSettings) -> list[SettingLine]:
    """Return all settings, in the order of their declaration from the general to the particular."""
    variables = find_variables()
    sources = {name: source for source, names in settings.origins().items() for name in names}
    lines = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        source = SOURCES.get(sources.get(name, ""), "default")
        if source in ("environment", ".env") and name not in variables:
            source = f"the file of {PREFIX}{name.upper()}_FILE ({source})"
        is_secret = settings.is_secret(name, value)
        lines.append(
            SettingLine(
                f"{PREFIX}{name.upper()}",
                _show(name, value, is_secret=is_secret),
                source,
                is_secret,
                field.description or "",
            )
        )
    return lines


def load_lines(process: str, kind: type[StreamSettings]) -> ProcessLines:
    """Return the settings that a process of this kind would read here, or the reason why it would not start."""
    try:
        return ProcessLines(process, describe_settings(kind.load()))
    except InvalidSettings as exc:
        return ProcessLines(process, fault=str(exc))


def _show(name: str, value: Any, *, is_secret: bool) -> str | None:
    if value is None or value == "":
        return None
    if name in URLS:
        return redact_url(value)
    if is_secret:
        return _count(str(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _count(text: str) -> str:
    values = [part for part in re.split(r"[,\n]", text) if part.strip() and not part.lstrip().startswith("#")]
    return "set" if len(values) == 1 else f"set, {len(values)} values"


@dataclass(frozen=True, slots=True)
class IneffectiveSetting:
    """A variable without effect: its name, the source that sets it, and advice. Its value is not known here."""

    name: str
    source: str
    advice: str


def find_ineffective(
    settings: StreamSettings, load_kinds: Callable[[], Sequence[type[StreamSettings]]]
) -> list[tuple[str, IneffectiveSetting]]:
    """Return the variables without effect, each with the event to log.

    ``load_kinds`` returns the settings of all processes; it is called only if a name is not one of ``settings``.
    """
    variables, lines = find_variables(), []
    for name in settings.origins().get("ackstream up", []):
        if settings.read_variable(name) == str(getattr(settings, name)):
            continue  # `up` starts its processes with this variable
        if source := variables.get(name) or variables.get(f"{name}_file"):
            advice = "the running `ackstream up` on the data folder is used; stop it, or give another --data"
            lines.append(("settings.overridden", IneffectiveSetting(name_variable(name), source, advice)))
    names = type(settings).names()
    if not variables.keys() <= names:
        names = names.union(*(kind.names() for kind in load_kinds()))
    for name in sorted(variables.keys() - names):
        nearest = get_close_matches(name, names, n=1)
        advice = (
            f"did you mean {name_variable(nearest[0])}?"
            if nearest
            else "remove it, or see docs/reference/configuration.md"
        )
        lines.append(("settings.unknown", IneffectiveSetting(name_variable(name), variables[name], advice)))
    return lines


def name_variable(name: str) -> str:
    """Return the name of the environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"
