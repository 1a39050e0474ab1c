"""``ackstream console link``."""

from typing import Annotated

import typer

from console.commands.access.options import AccessOptions, parse_role
from console.options import check_url


def link(
    options: AccessOptions,
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="viewer, operator or admin.")] = "admin",
    url: Annotated[
        str | None, typer.Option("--url", help="How browsers reach the console (default: where it listens).")
    ] = None,
) -> None:
    """Print a link that signs in one browser, once, within 15 minutes.

    Example: ackstream console link --role viewer
    """
    from aiosqlite import Connection

    from console.web.access.links import LinkTable, format_link
    from runtime.errors import CommandError
    from runtime.run_file import find_running

    check_url(url)
    link_role, settings = parse_role(role), options.settings
    running = find_running(settings.data)
    base_url = url or (running.console_url if running else settings.browser_url)
    if not settings.console_database.exists():
        raise CommandError(f"no console has run on {settings.data}: start one, or name its folder with --data")

    async def create(database: Connection) -> str:
        secret = await LinkTable(database).create(link_role)
        await options.record(database, "link.add", "", f"added, role {link_role}")
        return format_link(base_url, secret)

    address = options.change(create)
    options.answer({"url": address, "role": str(link_role)}, address)
