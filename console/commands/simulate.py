"""``ackstream simulate``: act as the provider."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from console.options import AsJson, Data
from runtime.errors import INTERRUPTED

if TYPE_CHECKING:
    from console.simulate.messages import SignReceipt, SimulatedWebhook
    from console.simulate.report import Report
    from console.simulate.sender import Sign
    from ingest.settings import IngestSettings


MESSAGES = 100
LIVE_RATE = 20.0


@dataclass(frozen=True, slots=True)
class MessageOptions:
    """Options for the simulated messages."""

    messages: Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, help="How many messages; each has 1 to 3 statuses (default 100)."),
    ] = None
    live: Annotated[
        bool, typer.Option("--live", help="Send each status when it is due, until Ctrl-C; --rate is the average.")
    ] = False
    past: Annotated[
        int, typer.Option(min=0, max=1440, metavar="MINUTES", help="With --live: first send the last minutes at once.")
    ] = 0
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed makes the same messages (default: a new one).")
    ] = None
    duplicates: Annotated[float, typer.Option(min=0, max=1, help="Share of webhooks that are sent twice.")] = 0.0
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Send in random order, within 10,000 webhooks.")] = False

    def check(self) -> None:
        """Raise CommandError for options that exclude each other."""
        from runtime.errors import CommandError

        if self.live and (self.messages is not None or self.shuffle):
            raise CommandError("--live sends without end, in the order of time: leave out --messages and --shuffle")
        if self.past and not self.live:
            raise CommandError("--past is only for --live: add --live, or leave out --past")

    @property
    def total(self) -> int | None:
        """The number of messages; None without an end."""
        return None if self.live else self.messages or MESSAGES

    def plan(self, seed: int, rate: float | None, sign_receipt: "SignReceipt | None") -> "Iterator[SimulatedWebhook]":
        """Yield the webhooks of these messages."""
        from datetime import UTC, datetime, timedelta

        from console.simulate.plan import latest_start, plan, plan_live

        now = datetime.now(UTC)
        if self.total is None:
            start, rate = now - timedelta(minutes=self.past), rate or LIVE_RATE
            return plan_live(rate, seed, start=start, duplicates=self.duplicates, sign_receipt=sign_receipt)
        return plan(
            self.total,
            seed,
            start=latest_start(self.total, now),
            duplicates=self.duplicates,
            shuffle=self.shuffle,
            sign_receipt=sign_receipt,
        )


@dataclass(frozen=True, slots=True)
class SendOptions:
    """Options for sending the webhooks."""

    rate: Annotated[
        float | None,
        typer.Option(min=0.1, help="Webhooks a second (default: as fast as ingest answers; with --live 20)."),
    ] = None
    repeats: Annotated[
        int,
        typer.Option(min=0, max=8, help="Send up to this many times again after 429 or 5xx: after 5 s, 10 s, 20 s, …"),
    ] = 2
    connections: Annotated[int, typer.Option(min=1, max=512, help="Webhooks in flight at once.")] = 32
    url: Annotated[str | None, typer.Option(help="URL to send to (default: the running `up`, else this machine).")] = (
        None
    )

    def find_url(self, settings: "IngestSettings") -> str:
        """Return the URL to send to: that of --url, of the running `up`, or of this machine."""
        from runtime import run_file

        running = run_file.find_running(settings.data)
        local = f"http://127.0.0.1:{settings.port}{settings.routes[0]}"
        return self.url or (running.ingest_url if running else local)

    async def send(
        self,
        webhooks: "Iterator[SimulatedWebhook]",
        url: str,
        message_options: MessageOptions,
        sign: "Sign | None",
        stop: asyncio.Event,
    ) -> "Report":
        """Send the webhooks with a progress bar, until SIGINT or SIGTERM sets ``stop``."""
        import signal

        from rich.console import Console

        from console.simulate.progress import open_bar
        from console.simulate.sender import send

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        with open_bar(message_options.total, Console(stderr=True)) as progress:
            return await send(
                webhooks,
                url,
                rate=None if message_options.live else self.rate,
                connections=self.connections,
                repeats=self.repeats,
                sign=sign,
                stop=stop,
                progress=progress,
            )


def simulate(
    message_options: MessageOptions, send_options: SendOptions, data: Data = None, as_json: AsJson = False
) -> None:
    """Send statuses of made-up messages over all channels, as the provider does, and report the responses.

    Signs the webhooks if ACKSTREAM_SIGNATURE_SECRETS is set, and delivery receipts by ACKSTREAM_DLR_SIGNATURE. Exits
    with 1 if nothing was accepted. Ctrl-C stops it and prints the report.

    Example: ackstream simulate --messages 500 --rate 200 --duplicates 0.1
    """
    import secrets

    from console.simulate.report import print_report
    from ingest.settings import IngestSettings
    from runtime.errors import CommandError

    message_options.check()
    settings = IngestSettings.load(data=data)
    url, sign, stop = send_options.find_url(settings), _signer(settings), asyncio.Event()
    seed = secrets.randbelow(2**32) if message_options.seed is None else message_options.seed
    webhooks = message_options.plan(seed, send_options.rate, _receipt_signer(settings))
    report = asyncio.run(send_options.send(webhooks, url, message_options, sign, stop))
    print_report({"seed": seed, "url": url, "signed": sign is not None, **report.as_dict()}, as_json=as_json)
    if stop.is_set():
        raise typer.Exit(INTERRUPTED)
    if failure := report.explain_failure(url, signed=sign is not None):
        raise CommandError(failure)


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
