"""The made-up provider of ``ackstream demo``."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta

from console.simulate.plan import plan_live
from console.simulate.sender import send
from console.simulate.signing import Signer
from ingest.auth.secrets import parse_secrets
from ingest.settings import IngestSettings

RATE = 25.0
DUPLICATES = 0.05
REPEATS = 5
PAST = timedelta(minutes=15)

HANDLERS = "store,orders=console.up.demo_handlers:update_order#attempts=4,crm=console.up.demo_handlers:update_crm"


def make_secrets() -> str:
    """Return signature secrets of two made-up accounts."""
    return ",".join(f"{account}:{secrets.token_urlsafe(32)}" for account in ("a1b2c3d4", "e5f6a7b8"))


def settings_of_processes(settings: IngestSettings) -> dict[str, str]:
    """Return the settings of the demo's processes, besides those of ``up``."""
    return {"signature_secrets": settings.signature_secrets or "", "handlers": HANDLERS}


async def send_traffic(settings: IngestSettings, url: str, stop: asyncio.Event) -> None:
    """Send signed statuses in real time until ``stop``, first those of the last minutes."""
    start = datetime.now(UTC) - PAST
    webhooks = plan_live(RATE, secrets.randbelow(2**32), start=start, duplicates=DUPLICATES)
    signer = Signer(parse_secrets(settings.signature_secrets or ""), settings.signature_header)
    await send(webhooks, url, rate=None, repeats=REPEATS, sign=signer.sign, stop=stop, progress=lambda _: None)
