import hashlib
import json
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.auth.proof import NEXT_STEPS, Proof, SignatureRefused, Unsigned, WrongSignature
from tests.support.samples.examples import NAMES, example
from tests.support.samples.tokens import (
    ACCOUNT,
    APPLICATION,
    BODY,
    DAY_SECONDS,
    HEADER,
    NOW,
    OTHER_SECRET,
    SECRET,
    bearer,
    claims,
    segment,
    token,
    verifier,
)


def refusal_reason(authorizations: list[str], payload: bytes = BODY, now: int = NOW, **options: Any) -> str:
    """The reason for which it is refused."""
    with pytest.raises(WrongSignature) as caught:
        verifier(**options).verify(authorizations, payload, now)
    assert str(caught.value) == caught.value.reason
    return caught.value.reason


def test_a_signed_webhook_proves_account_and_application() -> None:
    """Both come from the token, and so only what was signed gets into the entry."""
    assert verifier().verify(bearer(BODY), BODY, NOW) == Proof("jwt", ACCOUNT, APPLICATION)


def test_a_webhook_without_application_proves_the_account() -> None:
    """A message sent by Basic authentication belongs to no application."""
    assert verifier().verify(bearer(BODY, application_id=None), BODY, NOW) == Proof("jwt", ACCOUNT, None)


def test_the_published_vector_has_the_right_secret() -> None:
    """The provider's token passes all checks but its payload's, which was not published; with the other secret none."""
    vector = json.loads(example("sig-01-jwt-webhook-token-vector.json").payload)
    authorizations, issued = [vector["authorization_header"]], vector["claims"]["iat"]
    right, wrong = (vector[f"signature_secret_{kind}"].encode() for kind in ("valid", "invalid"))
    account = vector["claims"]["api_key"]
    assert refusal_reason(authorizations, now=issued + 5, secrets={account: (right,)}) == "payload"
    assert refusal_reason(authorizations, now=issued + 5, secrets={account: (wrong,)}) == "signature"
    assert refusal_reason(authorizations, now=issued + 5, secrets={account: (wrong, right)}) == "payload"
    assert refusal_reason(authorizations, now=issued + DAY_SECONDS + 1, secrets={account: (right,)}) == "age"
    assert refusal_reason(authorizations, now=issued + 5, secrets={"another": (right,)}) == "account"


@pytest.mark.parametrize("secret", [SECRET, OTHER_SECRET, b"short", "pass\u00e9 \U0001f600".encode()])
def test_each_live_secret_of_an_account_is_good(secret: bytes) -> None:
    """While a secret is being changed the provider may sign with either; a short one counts as well."""
    secrets = {ACCOUNT: (OTHER_SECRET, SECRET, b"short", "pass\u00e9 \U0001f600".encode())}
    authorizations = [f"Bearer {token(claims(BODY), secret=secret)}"]
    assert verifier(secrets=secrets).verify(authorizations, BODY, NOW).account == ACCOUNT


def test_accounts_on_one_url_are_told_apart() -> None:
    """An account's secret proves that account, and never another one."""
    secrets = {ACCOUNT: (SECRET,), "other": (OTHER_SECRET,)}
    of_other = token(claims(BODY, api_key="other"), secret=OTHER_SECRET)
    assert verifier(secrets=secrets).verify([f"Bearer {of_other}"], BODY, NOW).account == "other"
    assert refusal_reason([f"Bearer {token(claims(BODY, api_key='other'))}"], secrets=secrets) == "signature"


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        [token(claims(BODY))],
        [f"Bearer\t{token(claims(BODY))}"],
        [f" Bearer {token(claims(BODY))}"],
        ["Basic YTFiMmMzZDpzZWNyZXQ="],
        ["Basic YTFiMmMzZDpzZWNyZXQ=", "Digest username=x"],
        ["Bearerx y"],
    ],
)
def test_an_authorization_that_is_not_bearer_counts_as_none(values: list[str]) -> None:
    """Another scheme counts as unsigned, which is answered 503: credentials in the callback URL come as Basic."""
    with pytest.raises(Unsigned, match="unsigned"):
        verifier().verify(values, BODY, NOW)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_word_is_taken_in_any_letter_case(scheme: str) -> None:
    """RFC 9110, section 11.1; more blanks before or after the token make no difference."""
    for before, after in ((" ", ""), (" ", " "), ("   ", "  ")):
        values = [f"{scheme}{before}{token(claims(BODY))}{after}"]
        assert verifier().verify(values, BODY, NOW).account == ACCOUNT


def test_a_token_beside_credentials_of_another_scheme_is_the_token() -> None:
    """Other values of a proxy are ignored. Two tokens are refused, because it is unclear which one counts."""
    assert verifier().verify(["Basic eA==", *bearer(BODY)], BODY, NOW).account == ACCOUNT
    assert refusal_reason(bearer(BODY) * 2) == "several"


@pytest.mark.parametrize("header", ["X-Vonage-Authorization", "x-token"])
def test_in_a_header_of_its_own_a_token_may_stand_alone(header: str) -> None:
    """A token may be bare, or follow Bearer in any letter case. Other schemes and empty values are not tokens."""
    full_token = token(claims(BODY))
    for value in (full_token, f"Bearer {full_token}", f"bearer {full_token}"):
        assert verifier(header=header).verify([value], BODY, NOW).account == ACCOUNT
    for value in ("", f"Basic {full_token}"):
        with pytest.raises(Unsigned):
            verifier(header=header).verify([value], BODY, NOW)


@pytest.mark.parametrize(
    "written",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        token(claims(BODY)) + "=",
        token(claims(BODY)) + ".",
        token(claims(BODY)) + ", Bearer " + token(claims(BODY)),
        token(claims(BODY))[:-1] + "\u00e9",
        token(claims(BODY))[:-1] + "\udce9",
        token(claims(BODY)).replace(".", "..", 1),
        token(claims(BODY, x="y" * 8192)),
        token(b"\xff"),
        token(b"["),
        token(b'{"api_key":"\\ud800"}'),
        token(claims(BODY), header=b"\xff"),
        token(claims(BODY), header=json.dumps(HEADER).encode("utf-16")),
        token(claims(BODY), header=b"[" * 5000),
        token(claims(BODY), header=[["alg", "HS256"]]),
        token(claims(BODY), header={}),
        token(claims(BODY), header=b'{"alg":"HS256","alg":"HS256"}'),
        token(claims(BODY), header=b'{"alg":"none","alg":"HS256"}'),
        token(claims(BODY), header=b'{"alg":"HS256","typ":"JWT","typ":"JWT"}'),
    ],
)
def test_a_token_is_written_in_one_way_only(written: str) -> None:
    """No padding, no blank, no character beyond the alphabet, no name twice in the header, at most 8 KiB."""
    assert refusal_reason([f"Bearer {written}"]) in {"malformed", "signature"}


def test_the_unused_bits_of_a_segment_must_be_zero() -> None:
    """The last of 43 characters holds two bits that no decoder needs: any but 0 would be a second way of writing it."""
    full_token = token(claims(BODY))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place = alphabet.index(full_token[-1])
    assert place % 4 == 0
    assert {refusal_reason([f"Bearer {full_token[:-1]}{alphabet[place + bits]}"]) for bits in (1, 2, 3)} == {
        "signature"
    }


@pytest.mark.parametrize(("character", "variant"), ["-+", "_/"])
def test_the_other_alphabet_of_base64_is_refused(character: str, variant: str) -> None:
    """A token's last two characters are - and _; + and / would be a second way of writing them."""
    tokens = (token(claims(BODY, jti=str(number))) for number in count())
    full_token = next(candidate for candidate in tokens if character in candidate.rpartition(".")[2])
    signed, _, signature = full_token.rpartition(".")
    assert refusal_reason([f"Bearer {signed}.{signature.replace(character, variant)}"]) == "signature"


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "", "hs256", "HS384", "HS512", "RS256", "ES256", None, 1, ["HS256"]]
)
@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_the_algorithm_is_hs256(algorithm: object, digest: str) -> None:
    """A token cannot choose another algorithm."""
    assert refusal_reason([f"Bearer {token(claims(BODY), header={'alg': algorithm}, digest=digest)}"]) == "algorithm"


@pytest.mark.parametrize(
    "more",
    [{name: "x"} for name in ("kid", "jku", "jwk", "x5u", "x5c", "x5t", "cty", "zip", "b64", "ALG")]
    + [{"crit": []}, {"crit": ["exp"]}, {"typ": "jwt"}, {"typ": None}, {"typ": "JOSE"}],
)
def test_a_header_says_alg_and_typ_and_nothing_else(more: dict[str, object]) -> None:
    """No name that could send us to a key of the sender's choice is ever looked at."""
    assert refusal_reason([f"Bearer {token(claims(BODY), header=HEADER | more)}"]) == "header"


@pytest.mark.parametrize("key", ["", "A1B2C3D", "other", 5, [ACCOUNT], {"a": 1}, None, True])
def test_an_unknown_account_is_refused(key: object) -> None:
    """The secret comes only from the fixed map."""
    assert refusal_reason(bearer(BODY, api_key=key)) == "account"


@pytest.mark.parametrize("body", [[], ACCOUNT, 1, None])
def test_claims_are_an_object(body: object) -> None:
    """Other JSON names no account."""
    assert refusal_reason([f"Bearer {token(body)}"]) == "account"


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("iat", [None, str(NOW), True, float(NOW), NOW + 0.5, [NOW], {}, 2**64]),
        ("iss", [None, "vonage", "Nexmo", "", 1, ["Vonage"]]),
        ("payload_hash", [None, 1, [], True]),
        ("jti", [1, [], {}, True]),
        ("application_id", [1, [], {}, False]),
    ],
)
def test_each_claim_is_of_its_kind(name: str, wrong: list[Any]) -> None:
    """Claims that the provider never sends are refused even if they are signed."""
    assert {refusal_reason(bearer(BODY, **{name: value})) for value in wrong} == {"claims"}


def test_no_claim_counts_before_the_signature() -> None:
    """A forger learns from the answer's reason nothing but that the signature is wrong."""
    forged = token(claims(BODY, iat="x", iss="y", payload_hash=5, jti=[]), secret=OTHER_SECRET)
    assert refusal_reason([f"Bearer {forged}"]) == "signature"


@pytest.mark.parametrize(("age", "good"), [(-61, False), (-60, True), (DAY_SECONDS, True), (DAY_SECONDS + 1, False)])
def test_the_age_of_a_token_has_limits(*, age: int, good: bool) -> None:
    """A minute in the future, for clocks differ, and the set limit in the past; both ends count as good."""
    if good:
        assert verifier().verify(bearer(BODY), BODY, NOW + age).account == ACCOUNT
    else:
        assert refusal_reason(bearer(BODY), now=NOW + age) == "age"
    assert refusal_reason(bearer(BODY, iat=-1)) == refusal_reason(bearer(BODY, iat=10**18)) == "age"


def test_a_token_sent_again_is_good() -> None:
    """A retry may carry the same jti: refusing it would lose the status."""
    checker = verifier()
    assert checker.verify(bearer(BODY), BODY, NOW) == checker.verify(bearer(BODY), BODY, NOW + 3600)


def test_the_hash_is_of_the_bytes_and_of_nothing_else() -> None:
    """In either case of its digits; no other way of writing the same JSON is right."""
    pretty = json.dumps({"a": "\u00e9", "b": [1, 2.5]}, indent=2).encode()
    for digits in (hashlib.sha256(pretty).hexdigest(), hashlib.sha256(pretty).hexdigest().upper()):
        assert verifier().verify(bearer(pretty, payload_hash=digits), pretty, NOW).account == ACCOUNT
    compact = '{"a":"\u00e9","b":[1,2.5]}'.encode()
    for form in (compact, b'{"a":"\\u00e9","b":[1,2.5]}', pretty.strip(b"{}"), b"", pretty + b"\n"):
        assert refusal_reason(bearer(form), pretty) == "payload"
        assert refusal_reason(bearer(pretty), form) == "payload"


@pytest.mark.parametrize(
    "payload", [b"", b"hello", b"\xff\xfe", b"a=1&b=2", b"{", b"[" * 2000, b"[" * 900 + b"]" * 900]
)
def test_a_payload_of_any_kind_can_be_signed(payload: bytes) -> None:
    """An authentic payload is accepted, JSON or not. A changed one is refused, and nothing else is raised."""
    assert verifier().verify(bearer(payload), payload, NOW).account == ACCOUNT
    assert refusal_reason(bearer(payload), payload + b"!") == "payload"
    assert refusal_reason(bearer(b"another"), payload) == "payload"


@pytest.mark.parametrize("method", [None, "off", "sha256"])
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("v")])
def test_a_message_without_authorization_is_unsigned(name: str, method: Any) -> None:
    """A message needs a token with every setting for receipts, and with any ``sig`` in its body."""
    payload = example(name).payload
    for body in (payload, payload.rstrip()[:-1] + b',"sig":"00"}'):
        with pytest.raises(Unsigned):
            verifier(receipt_method=method).verify([], body, NOW)


@given(st.lists(st.text() | st.text().map("Bearer ".__add__), max_size=2), st.binary())
def test_anything_gives_a_proof_or_one_of_two_errors(authorizations: list[str], payload: bytes) -> None:
    """Any input gives a proof or one of the two errors."""
    for method in (None, "off", "md5hash"):
        with pytest.raises(SignatureRefused) as caught:
            verifier(receipt_method=method).verify(authorizations, payload, NOW)
        assert NEXT_STEPS[caught.value.reason]


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=40))
def test_any_three_segments_are_refused(header: bytes, body: bytes, signature: bytes) -> None:
    """A token of three segments that can all be decoded is refused too."""
    assert refusal_reason([f"Bearer {segment(header)}.{segment(body)}.{segment(signature)}"])
