"""The made-up provider of ``ackstream demo``."""

import asyncio
import secrets
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Traffic:
    """Signed statuses in real time. The same seed makes the same messages."""

    settings: IngestSettings
    seed: int | None = None

    @property
    def process_settings(self) -> dict[str, str]:
        """The settings of the demo's processes, besides those of ``up``."""
        return {"signature_secrets": self.settings.signature_secrets or "", "handlers": HANDLERS}

    async def send(self, url: str, stop: asyncio.Event) -> None:
        """Send until ``stop``, first the statuses of the last minutes."""
        seed = secrets.randbelow(2**32) if self.seed is None else self.seed
        webhooks = plan_live(RATE, seed, start=datetime.now(UTC) - PAST, duplicates=DUPLICATES)
        signer = Signer(parse_secrets(self.settings.signature_secrets or ""), self.settings.signature_header)
        await send(webhooks, url, rate=None, repeats=REPEATS, sign=signer.sign, stop=stop, progress=lambda _: None)
