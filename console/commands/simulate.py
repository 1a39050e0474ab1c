"""``ackstream simulate``: act as the provider."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from console.options import AsJson, Data
from runtime.errors import INTERRUPTED

if TYPE_CHECKING:
    from console.simulate.messages import SignReceipt
    from console.simulate.report import Report
    from console.simulate.sender import Sign
    from ingest.settings import IngestSettings


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
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Send in random order, within 10,000 webhooks.")] = False,
    repeats: Annotated[
        int,
        typer.Option(min=0, max=8, help="Send again after 429 or 5xx up to so often: after 5 s, 10 s, 20 s, …"),
    ] = 2,
    connections: Annotated[int, typer.Option(min=1, max=512, help="Webhooks in flight at once.")] = 32,
    url: Annotated[
        str | None, typer.Option(help="Where to send (default: the running `up`, else this machine).")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Send the statuses of made-up messages over all channels, as the provider does, and report the answers.

    Signs them if ACKSTREAM_SIGNATURE_SECRETS is set, and delivery receipts by ACKSTREAM_DLR_SIGNATURE. Exits with
    1 if nothing was accepted. Ctrl-C ends it with a report.

    Example: ackstream simulate --messages 500 --rate 200 --duplicates 0.1
    """
    import secrets
    from datetime import UTC, datetime

    from console.simulate.messages import latest_start, plan
    from console.simulate.report import print_report
    from ingest.settings import IngestSettings
    from runtime import run_file
    from runtime.errors import Refusal

    settings = IngestSettings.load(data=data)
    running = run_file.running(settings.data)
    target = url or (running.ingest_url if running else f"http://127.0.0.1:{settings.port}{settings.routes[0]}")
    chosen = secrets.randbelow(2**32) if seed is None else seed
    webhooks = plan(
        messages,
        chosen,
        start=latest_start(messages, datetime.now(UTC)),
        duplicates=duplicates,
        shuffle=shuffle,
        sign_receipt=_receipt_signer(settings),
    )
    sign = _signer(settings)
    stop = asyncio.Event()

    async def run() -> "Report":
        import signal

        from rich.console import Console

        from console.simulate.progress import open_bar
        from console.simulate.sender import send

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        with open_bar(messages, Console(stderr=True)) as progress:
            return await send(
                webhooks,
                target,
                rate=rate,
                connections=connections,
                repeats=repeats,
                sign=sign,
                stop=stop,
                progress=progress,
            )

    report = asyncio.run(run())
    print_report({"seed": chosen, "url": target, "signed": sign is not None, **report.as_dict()}, as_json=as_json)
    if stop.is_set():
        raise typer.Exit(INTERRUPTED)
    if failure := report.explain_failure(target, signed=sign is not None):
        raise Refusal(failure)


def _signer(settings: "IngestSettings") -> "Sign | None":
    from console.simulate.signing import Signer
    from ingest.auth.secrets import parse_secrets

    if settings.signature_secrets is None:
        return None
    return Signer(parse_secrets(settings.signature_secrets), settings.signature_header).sign


def _receipt_signer(settings: "IngestSettings") -> "SignReceipt | None":
    from console.simulate.signing import ReceiptSigner
    from ingest.auth.secrets import parse_secrets

    method = settings.dlr_signature
    if settings.signature_secrets is None or method is None or method == "off":
        return None
    return ReceiptSigner(parse_secrets(settings.signature_secrets), method).sign
