"""The history of a group: a bounded stream of outcomes, for entries that were not handled at their first attempt.

The group's position proves that an entry is settled, not that it was handled. The history has the outcome of each other
entry: ``handled`` (at a later attempt, or after a replay of its dead letter, or after a replay of at most 1,000
entries), ``repeated`` (a copy of the event was handled before), ``filtered`` (by the handler's options) or
``dead-lettered``. The worker writes it after the settlement. An outcome is missing if the worker dies in between, or if
Redis is out of memory.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from redis.exceptions import OutOfMemoryError

from stream.redis.scripts import read_script
from worker.group.group_ref import GroupRef

MOST_OUTCOMES = 10_000
AT_ONCE = 1000

NOTE = read_script(__file__, "note_outcomes.lua")


@dataclass(frozen=True, slots=True)
class EntryOutcome:
    """The outcome of an entry. ``origin`` is ``shard/ms-seq``; ``error`` is that of a dead letter, or empty."""

    origin: str
    outcome: str
    attempt: int
    error: str = ""

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> Self:
        """Decode the fields of the history stream. Raises ValueError or KeyError if a worker has not written them."""
        values = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
        return cls(values["origin"], values["outcome"], int(values["attempt"]), values["error"])


class History:
    """The history of one group."""

    def __init__(self, group: GroupRef) -> None:
        self._keys = [group.history]
        self._note = group.server.register_script(NOTE)

    async def append(self, outcomes: Sequence[EntryOutcome]) -> None:
        """Append outcomes, unless the server is out of memory. Raises RedisError."""
        with suppress(OutOfMemoryError):
            for start in range(0, len(outcomes), AT_ONCE):
                args: list[str | int] = [MOST_OUTCOMES]
                for entry in outcomes[start : start + AT_ONCE]:
                    args += [entry.origin, entry.outcome, entry.attempt, entry.error]
                await self._note(keys=self._keys, args=args)
