"""Checks the signature mode and the shape of the secrets. No text of a finding holds a part of a secret."""

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from console.doctor.finding import Finding, make_finding
from console.doctor.setup import Setup
from ingest.auth.secrets import parse_secrets
from ingest.settings import IngestSettings

SHORTEST_SECRET = 16  # characters
PLACEHOLDERS = re.compile(
    r"(?i)<.*>|\$\{?\w+\}?|(my|your|the|api|a)?[-_ ]*(signature|signing)?[-_ ]*(secret|key|password)|"
    r"change[-_ ]?me|todo|example|test|dummy|placeholder|(.)\4*",
)
API_SECRET = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*\d)[A-Za-z\d]{16}", re.ASCII)
ACCOUNT = re.compile(r"[A-Za-z\d]{7,8}", re.ASCII)


async def check_signatures(setup: Setup) -> Sequence[Finding]:
    """Return the findings about who may send webhooks."""
    return [] if setup.ingest is None else [*judge_mode(setup.ingest), *judge_secrets(setup.ingest.signature_secrets)]


def judge_mode(settings: IngestSettings) -> Iterator[Finding]:
    """Yield a finding if anybody else can reach ingest and send what he likes."""
    reachable = next((host for host in settings.hosts if not is_loopback(host)), None)
    if reachable is None:
        return
    if settings.signatures == "off":
        yield make_finding("signatures.off", host=reachable)
    elif settings.dlr_signature == "off":
        yield make_finding("signatures.receipts", host=reachable)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def judge_secrets(text: str | None) -> Iterator[Finding]:
    """Yield a finding for each secret that is likely wrong. The text was valid when the settings were read."""
    for account, secrets in (parse_secrets(text) if text else {}).items():
        if not ACCOUNT.fullmatch(account):
            yield make_finding("secrets.account", account=account)
        for secret in secrets:
            yield from _judge_secret(account, secret.decode())


def _judge_secret(account: str, secret: str) -> Iterator[Finding]:
    if PLACEHOLDERS.fullmatch(secret):
        yield make_finding("secrets.placeholder", account=account)
    elif text := _find_stray_text(secret):
        yield make_finding("secrets.blank", account=account, text=text)
    elif API_SECRET.fullmatch(secret):
        yield make_finding("secrets.api-secret", account=account)
    elif len(secret) < SHORTEST_SECRET:
        yield make_finding("secrets.short", account=account, length=len(secret))


def _find_stray_text(secret: str) -> str:
    if secret[0] in "\"'" or secret[-1] in "\"'":
        return "a quotation mark at its start or end"
    if secret.endswith(("\\n", "\\r", "\\t")):
        return "an escaped line end"
    return "" if secret.isprintable() and " " not in secret else "a blank or control character in it"
