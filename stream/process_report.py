"""The report of a running process on its admin port: the settings in force, and the handlers of a worker.

Each setting has its value and its source. Secrets are counted, never shown.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from stream.redis.client import redact_url
from stream.settings import PREFIX, StreamSettings, find_variables

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
    secret: bool
    meaning: str
    """The valid values."""

    def summary(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        return asdict(self)


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


def encode_report(settings: StreamSettings, handlers: Mapping[str, str] | None = None) -> bytes:
    """Return the report as JSON. ``handlers`` are the targets of a worker's groups, safe to show."""
    lines = [line.summary() for line in describe_settings(settings)]
    return orjson.dumps({"settings": lines, "handlers": handlers or {}})


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
