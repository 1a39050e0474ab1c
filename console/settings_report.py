"""Log the settings of a process at its start: where they come from, and which have no effect.

Only names are logged, never values.
"""

from collections.abc import Mapping, Sequence

import structlog

from console.queries.run.settings_in_force import find_ineffective, name_variable
from stream.settings import StreamSettings, find_variables

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
            log.warning("settings.overridden", setting=name_variable(name), source=source, what=instead)
    for event, setting in find_ineffective(settings, _load_kinds):
        log.warning(event, setting=setting.name, source=setting.source, what=setting.advice)


def _load_kinds() -> Sequence[type[StreamSettings]]:
    """Return the settings of all processes; called only if a name needs them."""
    from console.web.settings import ConsoleSettings  # noqa: PLC0415 - loaded only if needed
    from ingest.settings import IngestSettings  # noqa: PLC0415 - loaded only if needed
    from worker.settings import WorkerSettings  # noqa: PLC0415 - loaded only if needed

    return IngestSettings, WorkerSettings, ConsoleSettings
