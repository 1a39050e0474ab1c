import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.auth.proof import SignatureRefused, WrongSignature
from ingest.auth.verifier import Verifier
from tests.support.samples.tokens import ACCOUNT, BODY, HEADER, NOW, bearer, claims, flip_bit, segment, token, verifier

ROOT = Path(__file__).parents[3]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = (
    texts | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.none() | st.booleans()
)
objects = st.dictionaries(texts, values | st.dictionaries(texts, values, max_size=2), max_size=3)

WRITTEN: dict[str, Any] = {
    "compact": orjson.dumps,
    "compact, in ASCII": lambda value: json.dumps(value, separators=(",", ":")).encode(),
    "with blanks": lambda value: json.dumps(value, ensure_ascii=False).encode(),
    "pretty": lambda value: orjson.dumps(value, option=orjson.OPT_INDENT_2),
    "pretty, in ASCII": lambda value: json.dumps(value, indent=2).encode(),
    "pretty, with tabs": lambda value: json.dumps(value, indent="\t", ensure_ascii=False).encode(),
    "with carriage returns": lambda value: json.dumps(value, indent=1).replace("\n", "\r\n").encode(),
}
every_bit = settings(max_examples=10)  # an example is some thousand checks


def is_refused(checker: Verifier, authorization: str, payload: bytes) -> bool:
    try:
        checker.verify([authorization], payload, NOW)
    except SignatureRefused:
        return True
    return False


def taken_changes(authorization: str, payload: bytes) -> list[bytes]:
    """Every payload that differs in one bit and is taken all the same."""
    checker = verifier()
    changes = (flip_bit(payload, bit) for bit in range(8 * len(payload)))
    return [changed for changed in changes if not is_refused(checker, authorization, changed)]


@pytest.mark.parametrize("how", WRITTEN)
@given(value=objects)
@every_bit
def test_every_bit_of_a_payload_counts(how: str, value: dict[str, Any]) -> None:
    """One bit changed anywhere in the bytes that were signed gives a wrong signature, however they are written."""
    payload = WRITTEN[how](value)
    [authorization] = bearer(payload)
    assert not is_refused(verifier(), authorization, payload)
    assert taken_changes(authorization, payload) == []


@given(st.binary(min_size=1, max_size=40) | st.text(min_size=1, max_size=40).map(lambda text: f"a={text}".encode()))
@every_bit
def test_every_bit_counts_in_what_is_not_json(payload: bytes) -> None:
    """The same for forms and for bytes of any kind."""
    [authorization] = bearer(payload)
    assert taken_changes(authorization, payload) == []


def variations(payload: bytes, number: int) -> Iterator[bytes]:
    """Return other spellings of the payload: blanks, escapes, order, duplicate keys, numbers."""
    chosen = random.Random(20260103)  # noqa: S311 - to have the same ones again
    fields: dict[str, Any] = json.loads(payload)
    spellings = {payload}
    while len(spellings) <= number:
        pairs = chosen.sample(list(fields.items()), len(fields))
        if chosen.random() < 0.3:
            pairs = list(fields.items())
        if chosen.random() < 0.3:
            pairs.insert(
                chosen.randrange(len(pairs)), (chosen.choice(list(fields)), chosen.choice(["rejected", 0, None]))
            )
        written = "{" + ",".join(_blank(chosen) + f"{_text(chosen, k)}:{_value(chosen, v)}" for k, v in pairs) + "}"
        varied = (_blank(chosen) + written + _blank(chosen)).encode()
        if varied not in spellings:
            spellings.add(varied)
            yield varied


def _blank(chosen: random.Random) -> str:
    return "".join(chosen.choices(" \t\r\n", k=chosen.choice([0, 0, 1, 2])))


def _text(chosen: random.Random, text: str) -> str:
    escaped = [f"\\u{ord(char):04x}" if chosen.random() < 0.1 else json.dumps(char)[1:-1] for char in text]
    return '"' + "".join(escaped) + '"'


def _value(chosen: random.Random, value: Any) -> str:
    if isinstance(value, str):
        return _text(chosen, value)
    if isinstance(value, float | int):
        return chosen.choice(
            [repr(value), f"{value:.6f}", f"{value:e}", f"{value:E}", f"{value}0" if value % 1 else repr(value)]
        )
    return json.dumps(value)


def test_of_ten_thousand_variations_of_a_webhook_only_the_original_is_taken() -> None:
    """Blanks, escapes, the order of fields, keys that come twice, numbers: one token proves one payload."""
    payload = (
        b'{"message_uuid":"aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab","status":"delivered","channel":"sms","n":1.5,"k":10}'
    )
    [authorization] = bearer(payload)
    checker = verifier()
    assert not is_refused(checker, authorization, payload)
    accepted = [varied for varied in variations(payload, 10_000) if not is_refused(checker, authorization, varied)]
    assert accepted == []


@given(texts, texts)
@every_bit
def test_every_bit_of_an_authorization_counts(jti: str, application: str) -> None:
    """In the scheme, the header, the claims, the signature and the dots between; only the scheme's case is free."""
    [authorization] = bearer(BODY, jti=jti, application_id=application)
    checker, sent = verifier(), authorization.encode()
    assert not is_refused(checker, authorization, BODY)
    for bit in range(8 * len(sent)):
        changed = flip_bit(sent, bit).decode(errors="surrogateescape")
        is_scheme_in_another_case = changed.lower()[:7] == "bearer " and changed[7:] == authorization[7:]
        assert is_refused(checker, changed, BODY) != is_scheme_in_another_case, bit


HOSTILE = [
    token(claims(BODY), header=HEADER | more)
    for more in (
        {"kid": "/etc/passwd"},
        {"kid": "../../../dev/null"},
        {"kid": "key' UNION SELECT 'x"},
        {"jku": "http://127.0.0.1:9/keys"},
        {"jku": "file:///etc/passwd"},
        {"x5u": "http://127.0.0.1:9/certificate"},
        {"jwk": {"kty": "oct", "k": segment(b"secret")}},
        {"crit": ["http://127.0.0.1:9/"], "http://127.0.0.1:9/": True},
        {"alg": "none"},
        {"alg": "RS256"},
        {"alg": "HS256/../../etc/passwd"},
        {"typ": "/etc/passwd"},
    )
] + [
    token(claims(BODY), header=b'{"alg":"none","alg":"HS256"}'),
    token(claims(BODY, api_key="/etc/passwd")),
    token(claims(BODY, iss="http://127.0.0.1:9/")),
    token(claims(BODY, payload_hash="file:///etc/passwd")),
    "/etc/passwd",
    "http://127.0.0.1:9/a.b.c",
]

# Python calls the audit hook for every opened file, new socket, name lookup, started process and imported module.
WATCHED = """
import sys
import hashlib, hmac, json
from ingest.auth.proof import Unsigned, WrongSignature
from ingest.auth.verifier import Verifier

tokens, seen = json.load(sys.stdin), []
known = Verifier({"a1b2c3d": (b"secret",)}, max_age_seconds=86400, receipt_method="sha256")
sys.addaudithook(lambda event, arguments: seen.append(event))
for token in tokens:
    try:
        known.verify(["Bearer " + token], b"{}", 1764000000)
    except WrongSignature as refused:
        del refused
    else:
        sys.exit("taken: " + token)
for payload in (b"messageId=/etc/passwd&sig=http://127.0.0.1:9/", b"{"):
    try:
        known.verify([], payload, 1764000000)
    except (Unsigned, WrongSignature):
        pass
    else:
        sys.exit("taken")
found = list(seen)
open(__import__("os").devnull).close()
assert "open" in seen[len(found):], "the hook sees nothing"
print(json.dumps(found))
"""


def test_no_token_makes_us_open_anything() -> None:
    """Names of keys, addresses and files in a token are never followed: no file, no socket, no process, no module."""
    asked = subprocess.run(
        [sys.executable, "-c", WATCHED],
        input=json.dumps(HOSTILE),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=240,
    )
    assert asked.stderr == ""
    assert asked.returncode == 0
    assert json.loads(asked.stdout) == []


def test_the_hostile_tokens_are_refused_for_what_they_are() -> None:
    """With the right secret too, each hostile token is refused for its own fault and not for its signature."""
    for hostile in HOSTILE:
        with pytest.raises(WrongSignature) as caught:
            verifier().verify([f"Bearer {hostile}"], BODY, NOW)
        assert caught.value.reason != "signature"
    assert verifier().verify(bearer(BODY), BODY, NOW).account == ACCOUNT
