import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.auth.jwt import Verifier, WrongSignature
from tests.tokens import ACCOUNT, BODY, HEADER, NOW, bearer, claims, flipped, segment, token, verifier

ROOT = Path(__file__).parent.parent

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
every_bit = settings(max_examples=30)  # an example is some thousand checks


def compact(payload: bytes) -> bytes | None:
    try:
        return orjson.dumps(orjson.loads(payload))
    except orjson.JSONDecodeError:
        return None


def is_refused(known: Verifier, authorization: str, payload: bytes) -> bool:
    try:
        known.verify([authorization], payload, NOW)
    except WrongSignature:
        return True
    return False


def taken_changes(authorization: str, payload: bytes) -> list[bytes]:
    """Every payload that differs in one bit and is taken all the same."""
    known = verifier()
    changes = (flipped(payload, bit) for bit in range(8 * len(payload)))
    return [changed for changed in changes if not is_refused(known, authorization, changed)]


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


@pytest.mark.parametrize("how", WRITTEN)
@given(value=objects)
@every_bit
def test_a_hash_of_the_compact_json_signs_what_the_payload_says(how: str, value: dict[str, Any]) -> None:
    """Signed in this form, a payload may change a bit only where that changes nothing of its compact JSON."""
    payload, form = WRITTEN[how](value), orjson.dumps(value)
    [authorization] = bearer(form)
    if len(form) <= len(payload):
        assert not is_refused(verifier(), authorization, payload)
    assert {compact(changed) for changed in taken_changes(authorization, payload)} <= {form}


def test_where_a_hash_of_the_compact_json_lets_a_bit_change() -> None:
    """CR and TAB between names and values; the case of an escape's digits; two ways of writing one number."""
    plain = b'{\r"a": "\xc3\xa9", "b": 10}'
    [authorization] = bearer('{"a":"\u00e9","b":10}'.encode())
    assert taken_changes(authorization, plain) == [plain.replace(b"\r", b"\t")]
    payload = b'{\n"a": "\\u00e9", "b": 1e9, "c": 0.10000000000000000001}'
    [authorization] = bearer('{"a":"\u00e9","b":1000000000.0,"c":0.1}'.encode())
    taken = taken_changes(authorization, payload)
    assert payload.replace(b"e9", b"E9", 1) in taken
    assert payload.replace(b"1e9", b"1E9") in taken
    assert payload.replace(b"001}", b"000}") in taken
    assert {compact(changed) for changed in taken} == {compact(payload)}


@given(texts, texts)
@every_bit
def test_every_bit_of_an_authorization_counts(jti: str, application: str) -> None:
    """In the scheme, the header, the claims, the signature and the dots between: one bit changed and it is refused."""
    [authorization] = bearer(BODY, jti=jti, application_id=application)
    known, sent = verifier(), authorization.encode()
    assert not is_refused(known, authorization, BODY)
    for bit in range(8 * len(sent)):
        assert is_refused(known, flipped(sent, bit).decode(errors="surrogateescape"), BODY), bit


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

# Python tells such a hook of every file opened, socket made, name looked up, process started and module loaded.
WATCHED = """
import sys
import hashlib, hmac, json
from ingest.auth.jwt import Unsigned, Verifier, WrongSignature

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
        timeout=60,
    )
    assert asked.stderr == ""
    assert asked.returncode == 0
    assert json.loads(asked.stdout) == []


def test_the_hostile_tokens_are_refused_for_what_they_are() -> None:
    """With the right secret too: they are not refused for their signature merely."""
    for hostile in HOSTILE:
        with pytest.raises(WrongSignature) as caught:
            verifier().verify([f"Bearer {hostile}"], BODY, NOW)
        assert caught.value.reason != "signature"
    assert verifier().verify(bearer(BODY), BODY, NOW).account == ACCOUNT
