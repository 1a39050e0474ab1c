"""``ackstream doctor``: check an installation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.options import AsJson, Data, RedisUrl, check_url

if TYPE_CHECKING:
    from console.doctor.runner import Doctor, DoctorReport

PROGRESS_SECONDS = 2.0


def doctor(
    data: Data = None,
    redis_url: RedisUrl = None,
    role: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE", help="ingest, worker or console: the processes of this machine (default all)."),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="URL of the self-test webhook (default: the running `up`, else this machine).")
    ] = None,
    probe: Annotated[bool, typer.Option("--probe/--no-probe", help="Send a self-test webhook the whole way.")] = True,
    as_json: AsJson = False,
) -> None:
    """Check settings, servers, files and handlers, and send a self-test webhook to every group. Changes no data.

    Each finding has its consequence and its fix. Exits with 1 if there is a problem. docs/doctor.md lists all findings.

    Example: ackstream doctor --role worker --no-probe
    """
    import sys

    from console.doctor.report import format_report
    from console.doctor.setup import ROLES
    from console.output import print_json
    from runtime.errors import CommandError

    if unknown := set(role or ()) - set(ROLES):
        raise CommandError(f"no role {', '.join(sorted(unknown))}: --role is one of {', '.join(ROLES)}")
    check_url(url)
    roles = tuple(name for name in ROLES if not role or name in role)
    report = _check(roles, data, redis_url, url, with_probe=probe)
    if as_json:
        print_json(report.summary())
    else:
        sys.stdout.write(format_report(report))
    if report.problems:
        raise typer.Exit(1)


def _check(
    roles: Sequence[str], data: Path | None, redis_url: str | None, url: str | None, *, with_probe: bool
) -> "DoctorReport":
    import asyncio

    from console.doctor.runner import Doctor, report_invalid
    from console.doctor.setup import load_setup
    from console.up.supervisor import OVERRIDDEN
    from console.web.settings import ConsoleSettings
    from ingest.settings import IngestSettings
    from stream.settings import InvalidSettings, StreamSettings
    from worker.settings import WorkerSettings

    kinds: Mapping[str, type[StreamSettings]] = {
        "ingest": IngestSettings,
        "worker": WorkerSettings,
        "console": ConsoleSettings,
    }
    try:
        setup = load_setup(kinds, roles, data=data, redis_url=redis_url, url=url, overridden=OVERRIDDEN)
    except InvalidSettings as exc:
        return report_invalid(str(exc))
    return asyncio.run(_run(Doctor(setup, with_probe=with_probe)))


async def _run(run: "Doctor") -> "DoctorReport":
    """Run the checks, with a line about those that take long on standard error."""
    import asyncio

    running = asyncio.create_task(run.run())
    while not (await asyncio.wait([running], timeout=PROGRESS_SECONDS))[0]:
        typer.echo(f"still checking {', '.join(run.pending)} …", err=True)
    return await running
