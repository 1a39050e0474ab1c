"""``ackstream export``: print everything about a person."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from console.commands.privacy.subject import SubjectOptions, run
from console.options import DatabaseUrl, ServerOptions

if TYPE_CHECKING:
    from console.privacy.eraser import Eraser
    from stream.redis.cluster import AwayShard


def export(subject: SubjectOptions, options: ServerOptions, database_url: DatabaseUrl = None) -> None:
    """Print everything that is stored about phone numbers, messages or references: one JSON object a line.

    Each line has its place and its fields in full, nothing is masked. Exits with 1 if a place cannot be read, such as
    the shards of a node that does not answer.

    Example: ackstream export --number +447700900001 > person.jsonl
    """
    from console.privacy import export as lines
    from console.privacy.settings import PrivacySettings
    from console.queries.shards import report_gaps

    settings = PrivacySettings.load(data=options.data, redis_url=options.redis_url, database_url=database_url)
    chosen = subject.parse(settings)

    async def ask(eraser: "Eraser") -> "tuple[list[str], Sequence[AwayShard]]":
        _, unreachable = await lines.export(eraser, await eraser.look(chosen))
        return unreachable, eraser.away

    unreachable, away = run(settings, ask, is_partial=True)
    for reason in unreachable:
        typer.echo(f"not reached: {reason}", err=True)
    report_gaps(away)
    if unreachable:
        raise typer.Exit(1)
