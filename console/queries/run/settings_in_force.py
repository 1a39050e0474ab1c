"""Describe the settings of this machine, and the variables without effect."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from stream.process_report import SettingLine, describe_settings
from stream.settings import PREFIX, InvalidSettings, StreamSettings, find_variables


@dataclass(frozen=True, slots=True)
class ProcessLines:
    """The settings of one kind of process.

    ``addresses`` are those of the running processes that have these settings; without any they are those that a process
    would read on this machine, or ``fault`` says why it would not start.
    """

    process: str
    lines: Sequence[SettingLine] = ()
    fault: str = ""
    addresses: Sequence[str] = ()


def load_lines(process: str, kind: type[StreamSettings]) -> ProcessLines:
    """Return the settings that a process of this kind would read here, or the reason why it would not start."""
    try:
        return ProcessLines(process, describe_settings(kind.load()))
    except InvalidSettings as exc:
        return ProcessLines(process, fault=str(exc))


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
