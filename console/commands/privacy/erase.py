"""``ackstream erase``: erase everything about a person."""

from typing import TYPE_CHECKING

import typer

from console.commands.privacy.subject import SubjectOptions, run
from console.options import DatabaseUrl, ServerOptions, Yes

if TYPE_CHECKING:
    from console.privacy.eraser import Eraser, Erasure
    from console.privacy.selection import Selection


def erase(
    subject: SubjectOptions,
    options: ServerOptions,
    database_url: DatabaseUrl = None,
    yes: Yes = False,
) -> None:
    """Erase everything about phone numbers, messages or references, in all places, after a look and a question.

    A message goes as a whole, also its statuses without a number; sums that count it stay. Ingest and workers may
    run: an entry that a worker has in flight is erased when it is settled. After an interruption, run it again.
    Exits with 1 if something stays, for example in the spool of a running ingest. docs/privacy.md lists all places,
    and the remains in backups and on disks.

    Example: ackstream erase --number +447700900001
    """
    from console.output import print_json
    from console.privacy.settings import PrivacySettings

    settings = PrivacySettings.load(data=options.data, redis_url=options.redis_url, database_url=database_url)
    chosen = subject.parse(settings)

    async def ask(eraser: "Eraser") -> "Erasure":
        selection = await eraser.look(chosen)
        if not yes:
            await _confirm(eraser, selection)
        return await eraser.erase(selection)

    erasure = run(settings, ask)
    if erasure.erased.total():
        options.log("privacy.erased", records=erasure.erased.total(), unreachable=len(erasure.unreachable))
    if options.as_json:
        print_json(erasure.as_dict())
    else:
        _print(erasure)
    if erasure.unreachable:
        raise typer.Exit(1)


async def _confirm(eraser: "Eraser", selection: "Selection") -> None:
    """Show what was found, and ask. Raises CommandError unless the user agrees."""
    from console.output import confirm
    from console.privacy.eraser import summarize

    found = await eraser.count(selection, [])
    if found:
        confirm(f"Erase for good: {summarize(found)}?")


def _print(erasure: "Erasure") -> None:
    from console.output import print_line, print_rows
    from console.privacy.places import NAMES

    rows = [
        {"place": name, "found": erasure.found[name], "erased": erasure.erased[name]}
        for name in NAMES
        if erasure.found[name]
    ]
    print_rows(rows)
    if not rows:
        print_line("nothing is stored about it")
    for reason in erasure.unreachable:
        print_line(f"not reached: {reason}")
