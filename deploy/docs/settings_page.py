"""The page of all settings: name, default and description of each field of the settings classes."""

from collections.abc import Iterable

from pydantic.fields import FieldInfo

from console.web.settings import ConsoleSettings
from deploy.docs.markdown import code, page, table
from ingest.settings import IngestSettings
from stream.settings import PREFIX, ProcessSettings, StreamSettings
from worker.settings import WorkerSettings

INTRODUCTION = """
Each setting has one name. It is read from these sources; the first one that has a value wins:

1. an option of the command (`ackstream COMMAND --help`);
2. the Redis and the database of an `ackstream up` that runs on the same data folder;
3. the environment variable;
4. the file named by the variable with `_FILE` at its end, for the secrets that have one;
5. the file `.env` in the working folder.

An empty value counts as not set. A wrong value stops the start with the setting's name, the value and the expected
form. At its start a process warns about an unknown name and about a setting without effect. A table that says
*file* has a setting with a `_FILE` variant.
"""
COMPUTED = {
    "database_url": "SQLite in the data folder",
    "retention_bytes": "half of Redis's `maxmemory`, else 1 GiB",
    "backlog_bytes": "a quarter of Redis's `maxmemory`",
}


def render() -> str:
    """Return the page."""
    everywhere = set(StreamSettings.model_fields)
    ingest, worker = set(IngestSettings.model_fields), set(WorkerSettings.model_fields)
    console = {name for name in ConsoleSettings.model_fields if name.startswith("console_")} | {"admin_port"}
    processes = set(ProcessSettings.model_fields) - everywhere - {"admin_port"}
    return page(
        "Settings",
        INTRODUCTION,
        "## All processes and commands\n\n" + _table(StreamSettings, StreamSettings.model_fields),
        "## Ingest, worker and console\n\n"
        + _table(IngestSettings, (name for name in IngestSettings.model_fields if name in processes)),
        "## Ingest\n\n" + _table(IngestSettings, _own(IngestSettings, ingest - everywhere - processes)),
        "## Worker\n\n" + _table(WorkerSettings, _own(WorkerSettings, worker - everywhere - processes)),
        "## Console\n\nThe console also reads the settings of signatures and of the database.\n\n"
        + _table(ConsoleSettings, _own(ConsoleSettings, console)),
    )


def _own(settings: type[StreamSettings], names: set[str]) -> Iterable[str]:
    return (name for name in settings.model_fields if name in names)


def _table(settings: type[StreamSettings], names: Iterable[str]) -> str:
    rows = (_row(name, settings.model_fields[name], is_secret=name in settings.secrets) for name in sorted(names))
    return table(("setting", "default", "description"), rows)


def _row(name: str, field: FieldInfo, *, is_secret: bool) -> tuple[str, str, str]:
    default = COMPUTED.get(name) or _default(field.default)
    variable = code(f"{PREFIX}{name.upper()}") + (", file" if is_secret else "")
    return variable, default, field.description or ""


def _default(value: object) -> str:
    if value is None or value == "":
        return "not set"
    return code(str(value).lower() if isinstance(value, bool) else str(value))
