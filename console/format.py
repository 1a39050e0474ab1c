"""Format fields, times, ages and sizes for people. Any bytes are safe to print."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runtime.errors import CommandError
from runtime.escape import escape_unprintable
from stream.entry import GREATEST_SEQ, EntryId, read_received_ms
from worker.events.event import mask_numbers
from worker.events.timestamps import iso_time
from worker.settle.copies import read_errors

if TYPE_CHECKING:
    from stream.redis.cluster import AwayShard

PARTLY_DONE = "a part of the work may be done"
NODE_STEP = "start the node, or look at the slots: `redis-cli --cluster check`"


def to_text(value: bytes) -> str:
    """Return the bytes as text; invalid UTF-8 is escaped."""
    return value.decode(errors="backslashreplace")


def format_receipt_time(fields: Mapping[bytes, bytes]) -> str | None:
    """Return when the entry was received, in ISO 8601; None if ingest did not write the entry."""
    return iso_time(read_received_ms(fields))


def list_errors(fields: Mapping[bytes, bytes]) -> list[dict[str, Any]]:
    """Return the time, error class and place of the last failed attempts of a copy, oldest first."""
    return [
        {
            "at": format_receipt_time({b"received_ms": str(error.get("ms", "")).encode()}),
            "class": mask_numbers(str(error.get("class", ""))),
            "place": mask_numbers(str(error.get("place", ""))),
        }
        for error in read_errors(fields)
    ]


def format_time(iso: str | None) -> str | None:
    """Return an ISO 8601 time in this machine's zone, to the second, with the offset; ``--since`` accepts it."""
    if iso is None:
        return None
    text = datetime.fromisoformat(iso).astimezone().isoformat(timespec="seconds")
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text.removesuffix(":00")


def format_age(seconds: float | None) -> str | None:
    """Return a duration in one unit: ``45 s``, ``12 min``, ``3 h``, ``5 d``."""
    if seconds is None:
        return None
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - tenths matter below ten


def format_ago(iso: str | None) -> str | None:
    """Return how long ago an ISO 8601 time was: ``12 min ago``."""
    if iso is None:
        return None
    return f"{format_age(max((datetime.now(UTC) - datetime.fromisoformat(iso)).total_seconds(), 0))} ago"


def format_size(number: int | None) -> str | None:
    """Return a number of bytes in the largest unit in which it is at least 1."""
    if number is None:
        return None
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":  # noqa: PLR2004 - the factor between the units
            break
        value /= 1024
    return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"


def parse_entry_id(text: str) -> EntryId:
    """Parse an entry id. Raises CommandError if it is malformed, or greater than Redis can have."""
    try:
        entry_id = EntryId.from_text(text)
    except ValueError as exc:
        raise CommandError(str(exc)) from None
    if max(entry_id.ms, entry_id.seq) > GREATEST_SEQ:
        raise CommandError(f"{text!r} is not an entry id: its numbers have 64 bits at most")
    return entry_id


def format_shards(numbers: Sequence[int]) -> str:
    """Return the numbers of shards as words: ``shard 3``, ``shards 0, 2 and 5``."""
    *others, last = map(str, numbers)
    return f"shards {', '.join(others)} and {last}" if others else f"shard {last}"


def format_away(away: "Sequence[AwayShard]") -> str:
    """Return the nodes of a cluster that do not answer with their shards, as a sentence without a full stop."""
    nodes: dict[str | None, list[AwayShard]] = {}
    for each in away:
        nodes.setdefault(each.node, []).append(each)
    return "; ".join(_describe_node(node, shards) for node, shards in nodes.items())


def _describe_node(node: str | None, away: "Sequence[AwayShard]") -> str:
    shards = format_shards([each.shard for each in away])
    if node is None:
        return f"No node has {shards}"
    reasons = ", ".join(dict.fromkeys(escape_unprintable(each.reason) for each in away))
    return f"Node {node} does not answer for {shards} ({reasons})"
