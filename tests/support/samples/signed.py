"""Webhooks that are signed as the provider would sign them now."""

import hmac
import time
from typing import Any

from tests.support.samples import tokens

ACCOUNT, SECRET = "abcd1234", "a-secret-of-the-tests"
SECRETS = f"{ACCOUNT}:{SECRET}"


def bearer(payload: bytes, *, secret: str = SECRET, header: object = tokens.HEADER, **claims: Any) -> str:
    """The value of an Authorization header for this payload; a claim of None is left out."""
    claimed = {"iat": int(time.time()), "api_key": ACCOUNT, "application_id": None} | claims
    return f"Bearer {tokens.token(tokens.claims(payload, **claimed), header=header, secret=secret.encode())}"


def sign_query(**fields: str) -> str:
    """The query of a delivery receipt with its ``sig`` by sha256. The values need no escapes."""
    text = "".join(f"&{name}={fields[name]}" for name in sorted(fields))
    return f"{text[1:]}&sig={hmac.digest(SECRET.encode(), text.encode(), 'sha256').hex().upper()}"
