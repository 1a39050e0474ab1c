"""The table of all places that store something, with their content about a person.

Each kind of key in Redis (`stream.keys`), each table and each kind of file has a row; a test fails for one without a
row. A row with a ``place`` is erased and exported under this name; a row without one has nothing about a person.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """The content, how long it stays, and the name of the place in reports; None for a kind without personal data."""

    place: str | None
    content: str
    kept: str = ""


def _nothing(content: str) -> Kind:
    return Kind(None, content)


_DELAYED = "until the group has handled it or dead-lettered it"

KEYS: Mapping[str, Kind] = {
    "stream": Kind("stream", "payload and query of each webhook", "`ACKSTREAM_RETENTION`, by default 7 days"),
    "retry": Kind("retry", "copies of entries that failed, with the text of the error", _DELAYED),
    "replay": Kind("replay", "copies of entries", "until the group has handled it"),
    "delayed": Kind("delayed", "copies of entries that failed, with the text of the error", _DELAYED),
    "dead": Kind(
        "dead_letters",
        "copies of entries, with the text of the error",
        "until it is replayed or discarded, or `ACKSTREAM_DEAD_LETTERS_RETENTION`",
    ),
    "history": Kind(
        "history", "ids of entries and outcomes", "the last 10,000 of a group, or `ACKSTREAM_HISTORY_RETENTION`"
    ),
    "invalid": Kind(
        "invalid",
        "payloads",
        "up to `ACKSTREAM_INVALID_ENTRIES` and `ACKSTREAM_INVALID_BYTES`, or `ACKSTREAM_INVALID_RETENTION`",
    ),
    "quarantine": Kind(
        "quarantine", "payloads", "until it is accepted or discarded, or `ACKSTREAM_QUARANTINE_RETENTION`"
    ),
    "replays": Kind(
        "replay_jobs", "ids of messages in filters, and reasons that people wrote", "the last 20 ended jobs of a group"
    ),
    "layout": _nothing("numbers of shards, and a time"),
    "paused": Kind("pauses", "the reason that a person wrote", "until the group is resumed"),
    "alive": _nothing("counters of processes"),
    "checkpoint": _nothing("the id of an entry"),
    "cleaning": _nothing("a random token of a process"),
    "copying": _nothing("a random token of a process"),
    "groups": _nothing("names of groups"),
    "handled": _nothing("16 bytes of a hash of each event, for `ACKSTREAM_DEDUP_SECONDS`"),
    "invalid_ids": _nothing("ids of entries: times and counters"),
    "invalid_totals": _nothing("counts"),
    "owner": _nothing("the name of a process"),
    "poison": _nothing("ids of entries, for a day: times and counters"),
    "quarantine_index": _nothing("hashes of payloads, and counts"),
    "removed": _nothing("counts"),
    "server_id": _nothing("a random id"),
    "succeeded": _nothing("a time"),
    "trimmer": _nothing("a random token of a process"),
}
"""By the name of the key in `stream.keys.Shard`."""

TABLES: Mapping[str, Kind] = {
    "messages": Kind("messages", "sender, recipient and reference of each message", "`ACKSTREAM_TABLES_RETENTION`"),
    "status_events": Kind("status_events", "payload and query of each event", "`ACKSTREAM_TABLES_RETENTION`"),
    "rollup_dimensions": Kind("rollup_dimensions", "an error code that a payload made up", "without limit"),
    "status_rollups": _nothing("sums of an hour"),
    "delivery_rollups": _nothing("sums of an hour"),
    "ackstream_schema": _nothing("a revision"),
    "alembic_version": _nothing("a revision"),
}
"""By the name of the table."""

CONSOLE_TABLES: Mapping[str, Kind] = {
    "audit": Kind("audit", "ids of messages, and reasons that people wrote", "`ACKSTREAM_CONSOLE_AUDIT_RETENTION`"),
    "links": _nothing("hashes of sign-in links"),
    "samples": _nothing("counts of all messages together"),
    "sessions": _nothing("hashes of sessions, and names of the people who use the console"),
    "tokens": _nothing("hashes of tokens, and their names"),
    "sqlite_sequence": _nothing("a counter"),
}
"""By the name of the table in ``console/console.db``."""

FILES: Mapping[str, Kind] = {
    "spool": Kind(
        "spool",
        "entries that Redis has not taken yet",
        "until Redis has taken all of the file, and ingest has restarted or the file has 8 MiB",
    ),
    "archive": Kind("archive", "entries that were trimmed", "`ACKSTREAM_ARCHIVE_RETENTION`"),
}
"""The files of entries: ``spool`` in the data folder, and the folder ``ACKSTREAM_ARCHIVE``."""

NAMES: tuple[str, ...] = tuple(
    kind.place for table in (KEYS, TABLES, CONSOLE_TABLES, FILES) for kind in table.values() if kind.place
)
"""The names of all places, in the order of reports."""
