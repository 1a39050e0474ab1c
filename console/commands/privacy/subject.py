"""The options of ``erase`` and ``export``, and the run of a task on all places."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from console.privacy.eraser import Eraser
    from console.privacy.selection import Subject
    from console.privacy.settings import PrivacySettings

T = TypeVar("T")

_MANY = "May be given several times."


@dataclass(frozen=True, slots=True)
class SubjectOptions:
    """The numbers, messages and references of a person."""

    numbers: Annotated[
        list[str] | None,
        typer.Option("--number", metavar="N", help=f"A phone number with its country code. {_MANY}"),
    ] = None
    messages: Annotated[
        list[str] | None, typer.Option("--message", metavar="UUID", help=f"The message_uuid or messageId. {_MANY}")
    ] = None
    client_refs: Annotated[
        list[str] | None, typer.Option("--client-ref", metavar="R", help=f"Your own reference. {_MANY}")
    ] = None

    def parse(self, settings: "PrivacySettings") -> "Subject":
        """Return the subject. Raises CommandError without one, or for a text that is not a number."""
        from console.privacy.selection import Subject
        from runtime.errors import CommandError
        from worker.events.numbers import parse_number

        numbers = {text: parse_number(text) for text in self.numbers or ()}
        if wrong := [text for text, digits in numbers.items() if digits is None]:
            raise CommandError(f"{wrong[0]!r} is not a phone number: write 3 to 15 digits with the country code")
        digits = frozenset(filter(None, numbers.values()))
        number_hash, references = settings.number_hash, frozenset(filter(None, self.client_refs or ()))
        if number_hash:
            references |= {hidden for text in references for hidden in number_hash.hide_reference(text)}
        subject = Subject(
            digits,
            frozenset(filter(None, self.messages or ())),
            references,
            frozenset(map(number_hash.hash, digits)) if number_hash else frozenset(),
        )
        if subject == Subject():
            raise CommandError("name a --number, a --message or a --client-ref")
        return subject


def run(settings: "PrivacySettings", task: "Callable[[Eraser], Awaitable[T]]", *, is_partial: bool = False) -> T:
    """Run the task on all places, or if it ``is_partial`` without the shards of a cluster that do not answer.

    Its progress is on standard error. Raises CommandError, and the errors of Redis and the database.
    """
    import asyncio

    from console.privacy.eraser import open_eraser
    from stream.redis.client import redact_url

    async def run_task() -> Any:
        async with open_eraser(settings, _report, is_partial=is_partial) as eraser:
            return await task(eraser)

    try:
        result: T = asyncio.run(run_task())
    except Exception as exc:
        is_redis = type(exc).__module__.startswith("redis")
        where = "Redis" if is_redis else "the database"
        exc.add_note(f"{where} at {redact_url(settings.redis_url if is_redis else settings.database_url)}")
        raise
    return result


def _report(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
