"""Log the settings of a process at its start: where they come from, and which have no effect.

Only names are logged, never values.
"""

from collections.abc import Mapping
from difflib import get_close_matches

import structlog

from stream.settings import PREFIX, StreamSettings, find_variables

log = structlog.get_logger("settings")


def report_settings(settings: StreamSettings, overridden: Mapping[str, str] | None = None) -> None:
    """Log one line with the sources of all settings, and a warning for each variable without effect.

    ``overridden`` maps each setting that this process ignores to the advice for its user.
    """
    origins = settings.origins()
    log.info("settings.read", **{source.replace(" ", "_").lstrip("."): names for source, names in origins.items()})
    variables = find_variables()
    for name, instead in (overridden or {}).items():
        if source := variables.get(name) or variables.get(f"{name}_file"):
            log.warning("settings.overridden", setting=_variable(name), source=source, what=instead)
    for name in origins.get("ackstream up", []):
        if source := variables.get(name) or variables.get(f"{name}_file"):
            what = "the running `ackstream up` on the data folder is used; stop it, or give another --data"
            log.warning("settings.overridden", setting=_variable(name), source=source, what=what)
    names = _list_names(settings, variables)
    for name in sorted(variables.keys() - names):
        nearest = get_close_matches(name, names, n=1)
        what = (
            f"did you mean {_variable(nearest[0])}?" if nearest else "remove it, or see docs/reference/configuration.md"
        )
        log.warning("settings.unknown", setting=_variable(name), source=variables[name], what=what)


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _list_names(settings: StreamSettings, variables: Mapping[str, str]) -> frozenset[str]:
    """Return the setting names of all commands; loads the other processes' settings only if a name needs them."""
    names = type(settings).names()
    if variables.keys() <= names:
        return names
    from console.web.settings import ConsoleSettings  # noqa: PLC0415 - loaded only if needed
    from ingest.settings import IngestSettings  # noqa: PLC0415 - loaded only if needed
    from worker.settings import WorkerSettings  # noqa: PLC0415 - loaded only if needed

    return names | IngestSettings.names() | WorkerSettings.names() | ConsoleSettings.names()
