"""``ackstream simulate``: act as the provider."""

from typing import Annotated

import typer

from console.options import AsJson, Data


def simulate(
    messages: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="How many messages; each has 1 to 3 statuses.")
    ] = 100,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="Webhooks a second (default: as fast as answered).")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed makes the same messages (default: a new one).")
    ] = None,
    duplicates: Annotated[float, typer.Option(min=0, max=1, help="Share of webhooks that are sent twice.")] = 0.0,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Send in random order.")] = False,
    connections: Annotated[int, typer.Option(min=1, max=512, help="Webhooks in flight at once.")] = 32,
    url: Annotated[
        str | None, typer.Option(help="Where to send (default: the running `up`, else this machine).")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Send the statuses of made-up messages over all channels, as the provider does, and report the answers.

    Example: ackstream simulate --messages 500 --rate 200 --duplicates 0.1
    """
    import asyncio
    import secrets
    from datetime import UTC, datetime

    from rich.console import Console

    from console.simulate import sender
    from console.simulate.messages import plan
    from console.simulate.report import print_report
    from ingest.settings import IngestSettings
    from runtime import run_file

    settings = IngestSettings.load(data=data)
    running = run_file.running(settings.data)
    target = url or (running.ingest_url if running else f"http://127.0.0.1:{settings.port}{settings.routes[0]}")
    chosen = secrets.randbelow(2**32) if seed is None else seed
    webhooks = plan(messages, chosen, start=datetime.now(UTC), duplicates=duplicates, shuffle=shuffle)
    report = asyncio.run(
        sender.simulate(webhooks, target, rate=rate, connections=connections, console=Console(stderr=True))
    )
    print_report({"seed": chosen, "url": target, **report.as_dict()}, as_json=as_json)
