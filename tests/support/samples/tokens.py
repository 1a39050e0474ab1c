"""Making signed webhooks for tests, with the standard library only, so that they do not follow our own checks."""

import base64
import hashlib
import hmac
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ingest.auth.verifier import Verifier

ACCOUNT, SECRET = "a1b2c3d", b"ZYtdTtGV3BCFN7tWmOWr1md66XsquMggr4W2cTtXtcPgfnI0Xw"
OTHER_SECRET = b"ZYtdTtGV3BCFN7tWmOWr1md66XsquMggr4W2cTtXtcPgf55555"
APPLICATION = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
NOW = 1_764_000_000  # in the past, so that no library's own clock finds it in the future
DAY_SECONDS = 86_400
HEADER = {"alg": "HS256", "typ": "JWT"}
BODY = b'{"message_uuid":"m-1","status":"delivered","channel":"sms"}'


def verifier(**changes: Any) -> Verifier:
    """One that knows the account with its one secret, and takes no receipt without a token."""
    options: dict[str, Any] = {"secrets": {ACCOUNT: (SECRET,)}, "max_age_seconds": DAY_SECONDS, "receipt_method": None}
    return Verifier(**(options | changes))


def claims(payload: bytes, **changes: Any) -> dict[str, Any]:
    """Return the provider's claims for a payload; a change to None removes a claim."""
    values = {
        "iat": NOW,
        "jti": "c5ba8f24-1a14-4c10-bfdf-3fbe8ce511b5",
        "iss": "Vonage",
        "payload_hash": hashlib.sha256(payload).hexdigest(),
        "api_key": ACCOUNT,
        "application_id": APPLICATION,
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


def segment(content: object) -> str:
    """One part of a token: bytes as they are, anything else as compact JSON."""
    raw = content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def token(body: object, *, header: object = HEADER, secret: bytes = SECRET, digest: str = "sha256") -> str:
    """A token of any header and any claims, signed with this secret."""
    signed = f"{segment(header)}.{segment(body)}"
    return f"{signed}.{segment(hmac.digest(secret, signed.encode(), digest))}"


def bearer(payload: bytes, **changes: Any) -> list[str]:
    """The Authorization headers that the provider sends with this payload."""
    return [f"Bearer {token(claims(payload, **changes))}"]


def flip_bit(data: bytes, bit: int) -> bytes:
    """The same bytes but for one bit."""
    place, mask = bit // 8, 1 << bit % 8
    return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


@dataclass(frozen=True, slots=True)
class TokenCase:
    """One token that every library must judge alike."""

    kind: str
    token: str
    payload: bytes
    good: bool


def cases(seed: int, of_each: int) -> Iterator[TokenCase]:
    """Return this number of tokens of each kind, good and bad. Both oracles can judge all differences."""
    chosen = random.Random(seed)  # noqa: S311 - to have the same ones again
    for kinds, good in ((_GOOD, True), (_BAD, False)):
        for kind, make in kinds.items():
            for _ in range(of_each):
                payload = json.dumps({"message_uuid": _text(chosen), "client_ref": _text(chosen)}).encode()
                yield TokenCase(kind, make(chosen, claims(payload, jti=_text(chosen))), payload, good)


def _text(chosen: random.Random) -> str:
    return "".join(chosen.choices('abcXYZ0189-_.:/+ "\\\u00e9\u20ac\U0001f600', k=chosen.randint(1, 40)))


def _shuffle(chosen: random.Random, body: dict[str, Any]) -> str:
    return token(dict(chosen.sample(list(body.items()), len(body))))


def _flip(chosen: random.Random, body: dict[str, Any]) -> str:
    text = token(body).encode()
    while True:
        changed = flip_bit(text, 8 * chosen.randrange(len(text)) + chosen.randrange(7))
        if changed.strip() == changed and b"\0" not in changed:  # a header's value has no such edge
            return changed.decode()


def _of_another(chosen: random.Random, body: dict[str, Any]) -> str:
    """The claims of one token, the signature of another."""
    head, _, _ = token(body).rpartition(".")
    _, _, signature = token(body | {"jti": _text(chosen) + "?"}).rpartition(".")
    return f"{head}.{signature}"


def _make_unsigned(chosen: random.Random, body: dict[str, Any]) -> str:
    algorithm = chosen.choice(["none", "None", "NONE", "nOnE", ""])
    text = token(body, header=HEADER | {"alg": algorithm})
    return text if chosen.random() < 0.5 else text.rpartition(".")[0] + "."


Make = Callable[[random.Random, dict[str, Any]], str]
_GOOD: dict[str, Make] = {
    "as sent": lambda _, body: token(body),
    "claims in another order": _shuffle,
    "typ first": lambda _, body: token(body, header={"typ": "JWT", "alg": "HS256"}),
    "no typ": lambda _, body: token(body, header={"alg": "HS256"}),
    "blanks in the JSON": lambda _, body: token(json.dumps(body, indent=2).encode(), header=b'{ "alg": "HS256" }'),
    "not ASCII": lambda _, body: token(json.dumps(body, ensure_ascii=False).encode()),
    "claims of others": lambda chosen, body: token(body | {"region": _text(chosen), "n": [1, {"x": None}]}),
}
_BAD: dict[str, Make] = {
    "another secret": lambda _, body: token(body, secret=OTHER_SECRET),
    "a secret with the same start": lambda chosen, body: token(body, secret=SECRET[: chosen.randrange(1, len(SECRET))]),
    "no algorithm": _make_unsigned,
    "HS384": lambda _, body: token(body, header=HEADER | {"alg": "HS384"}, digest="sha384"),
    "HS512": lambda _, body: token(body, header=HEADER | {"alg": "HS512"}, digest="sha512"),
    "HS512 by name only": lambda _, body: token(body, header=HEADER | {"alg": "HS512"}),
    "HS256 by name only": lambda _, body: token(body, digest="sha512"),
    "RS256 by name only": lambda _, body: token(body, header=HEADER | {"alg": "RS256"}),
    "lower-case algorithm": lambda _, body: token(body, header=HEADER | {"alg": "hs256"}),
    "no alg": lambda _, body: token(body, header={"typ": "JWT"}),
    "truncated": lambda chosen, body: (text := token(body))[: chosen.randrange(len(text))],
    "a bit changed": _flip,
    "of another": _of_another,
    "four parts": lambda _, body: token(body) + ".e30",
    "two parts": lambda _, body: token(body).partition(".")[2],
    "the header no object": lambda chosen, body: token(body, header=chosen.choice([[], "HS256", 1, None, b"{"])),
}
