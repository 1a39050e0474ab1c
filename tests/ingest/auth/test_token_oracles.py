import time
import warnings
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from vonage_jwt import JwtClient, VonageVerifyJwtError, verify_signature

from ingest.auth.proof import WrongSignature
from tests.support.node_oracle import Ask
from tests.support.samples.tokens import (
    ACCOUNT,
    APPLICATION,
    BODY,
    HEADER,
    NOW,
    SECRET,
    TokenCase,
    cases,
    claims,
    token,
    verifier,
)

# One group, so that a run over several processes installs the Node libraries once.
pytestmark = pytest.mark.one_process("node")

SEED, OF_EACH = 20260101, 30
CASES = list(cases(SEED, OF_EACH))
TEXT = SECRET.decode()


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_text(key: rsa.RSAPrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def public_text(key: rsa.RSAPrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def our_reason(written: str, payload: bytes = BODY, now: int = NOW) -> str | None:
    """Why we refuse this token, or None if we take it."""
    try:
        verifier().verify([f"Bearer {written}"], payload, now)
    except WrongSignature as refused:
        return refused.reason
    return None


def pyjwt_takes(written: str) -> bool:
    try:
        jwt.decode(written, SECRET, algorithms=["HS256"])
    except jwt.PyJWTError:
        return False
    return True


def vonage_jwt_takes(written: str) -> bool:
    try:
        return verify_signature(written, TEXT) is True
    except VonageVerifyJwtError:
        return False


def find_disagreements(verdicts: list[bool]) -> list[tuple[str, str, bool]]:
    return [
        (case.kind, case.token, accepted)
        for case, accepted in zip(CASES, verdicts, strict=True)
        if accepted != case.good
    ]


def test_there_are_enough_cases() -> None:
    """At least 500 tokens, hundreds of them good, and no two the same."""
    assert len(CASES) >= 500
    assert min(sum(case.good for case in CASES), sum(not case.good for case in CASES)) >= 200
    assert len({case.token for case in CASES}) > 0.9 * len(CASES)


def test_we_judge_every_token_right() -> None:
    """Good ones are taken; bad ones are refused, and for nothing that the libraries do not look at."""
    assert find_disagreements([our_reason(case.token, case.payload) is None for case in CASES]) == []
    reasons = {our_reason(case.token, case.payload) for case in CASES if not case.good}
    assert {"malformed", "algorithm", "signature"} <= reasons
    assert not reasons & {"claims", "age", "payload"}


def test_pyjwt_judges_every_token_alike() -> None:
    """Verify with PyJWT, restricted to HS256."""
    assert find_disagreements([pyjwt_takes(case.token) for case in CASES]) == []


def test_vonage_jwt_judges_every_token_alike() -> None:
    """The provider's library for Python."""
    assert find_disagreements([vonage_jwt_takes(case.token) for case in CASES]) == []


def test_vonage_jwt_for_node_judges_every_token_alike(ask: Ask) -> None:
    """The provider's library for Node."""
    assert find_disagreements(ask([["verifySignature", case.token, TEXT] for case in CASES])) == []


def signable() -> list[tuple[dict[str, Any], TokenCase]]:
    """The claims of every good token, for libraries to sign."""
    return [(jwt.decode(case.token, SECRET, algorithms=["HS256"]), case) for case in CASES if case.good]


def test_what_pyjwt_signs_is_taken() -> None:
    """Its tokens with the right secret prove the account; with another secret or digest they do not."""
    for body, case in signable():
        assert our_reason(jwt.encode(body, SECRET, "HS256"), case.payload) is None
        assert our_reason(jwt.encode(body, SECRET[::-1], "HS256"), case.payload) == "signature"
        assert our_reason(jwt.encode(body, SECRET * 2, "HS512"), case.payload) == "algorithm"


def test_what_node_signs_is_taken(ask: Ask) -> None:
    """The same with the library that the provider's own signs with."""
    cases = signable()
    ways = ((TEXT, "HS256", None), (TEXT[::-1], "HS256", "signature"), (TEXT * 2, "HS512", "algorithm"))
    for secret, algorithm, reason in ways:
        signed = ask([["sign", body, secret, algorithm] for body, _ in cases])
        assert {our_reason(written, case.payload) for written, (_, case) in zip(signed, cases, strict=True)} == {reason}


def make_confusing_tokens(key: rsa.RSAPrivateKey) -> list[str]:
    """Return tokens whose secret is the text of a public key, which attackers know."""
    public = public_text(key)
    texts = (public, public.strip(), public.replace("\n", ""))
    return [token(claims(BODY), secret=text.encode()) for text in texts]


def test_what_the_providers_libraries_sign_is_for_calling_it(key: rsa.RSAPrivateKey) -> None:
    """The provider's libraries sign RS256 with a private key, to call its API; webhooks do not have such tokens."""
    written = [jwt.encode(claims(BODY), key, "RS256")]
    written += [JwtClient(APPLICATION, private_text(key)).generate_application_jwt(claims(BODY)).decode()]
    assert {our_reason(written_token) for written_token in written} == {"algorithm"}
    assert not any(vonage_jwt_takes(written_token) for written_token in written)


def test_a_public_key_is_no_secret(key: rsa.RSAPrivateKey) -> None:
    """The known confusion, an RS256 key's public text used as HS256's secret, opens nothing."""
    assert {our_reason(candidate) for candidate in make_confusing_tokens(key)} == {"signature"}
    assert not any(pyjwt_takes(candidate) or vonage_jwt_takes(candidate) for candidate in make_confusing_tokens(key))


def test_keys_are_not_confused_by_the_node_library(ask: Ask, key: rsa.RSAPrivateKey) -> None:
    """The provider's Node library rejects its own RS256 tokens, and tokens with a public key as the secret."""
    [written] = ask([["tokenGenerate", APPLICATION, private_text(key), claims(BODY)]])
    assert our_reason(written) == "algorithm"
    verdicts = ask(
        [["verifySignature", written_token, TEXT] for written_token in [written, *make_confusing_tokens(key)]]
    )
    assert not any(verdicts)


@dataclass(frozen=True, slots=True)
class Difference:
    """A token on which we differ on purpose. ``libraries``: whether PyJWT and vonage-jwt take it; ``node``: its own."""

    case: str
    token: str
    reason: str | None
    libraries: bool
    node: bool
    why: str


DIFFERENCES = [
    Difference(name, written, reason, libraries, node, why)
    for name, written, reason, libraries, node, why in (
        ("kid", token(claims(BODY), header=HEADER | {"kid": "1"}), "header", True, True, "the secret is in no header"),
        ("jku", token(claims(BODY), header=HEADER | {"jku": "http://x/"}), "header", True, True, "nothing is fetched"),
        (
            "typ",
            token(claims(BODY), header=HEADER | {"typ": "jwt"}),
            "header",
            True,
            True,
            "the type of something else",
        ),
        ("crit", token(claims(BODY), header=HEADER | {"crit": ["x"]}), "header", False, True, "RFC 7515 says refuse"),
        (
            "alg twice",
            token(claims(BODY), header=b'{"alg":"none","alg":"HS256"}'),
            "malformed",
            True,
            True,
            "ambiguous",
        ),
        ("signature padded", token(claims(BODY)) + "=", "signature", True, False, "a second way of writing it"),
        ("too long", token(claims(BODY, x="y" * 8192)), "malformed", True, True, "no webhook's token is a tenth of it"),
        ("no iat", token(claims(BODY, iat=None)), "claims", True, True, "it would be good for ever"),
        ("iat a text", token(claims(BODY, iat=str(NOW))), "claims", True, True, "the provider sends a number"),
        ("iat a bool", token(claims(BODY, iat=True)), "claims", True, True, "iat is not an integer"),
        ("iat a float", token(claims(BODY, iat=NOW + 0.5)), "claims", True, True, "the provider sends whole seconds"),
        ("iat negative", token(claims(BODY, iat=-1)), "age", True, True, "older than the limit"),
        ("iat old", token(claims(BODY, iat=NOW - 86_401)), "age", True, True, "older than the limit"),
        ("no iss", token(claims(BODY, iss=None)), "claims", True, True, "each webhook has it"),
        ("another iss", token(claims(BODY, iss="x")), "claims", True, True, "not by the provider's webhooks"),
        ("no api_key", token(claims(BODY, api_key=None)), "account", True, True, "it chooses the secret"),
        ("another api_key", token(claims(BODY, api_key="x")), "account", True, True, "it chooses the secret"),
        ("no payload_hash", token(claims(BODY, payload_hash=None)), "claims", True, True, "no library looks at it"),
        ("another hash", token(claims(b"{}")), "payload", True, True, "no library looks at it"),
        ("application_id a number", token(claims(BODY, application_id=1)), "claims", True, True, "it goes into tables"),
        ("exp past", token(claims(BODY, exp=NOW)), None, False, False, "webhooks have none; only our own limit counts"),
        ("nbf ahead", token(claims(BODY, nbf=2**40)), None, False, False, "webhooks have none"),
        ("aud", token(claims(BODY, aud="x")), None, False, True, "webhooks have none, and we have no name to compare"),
        ("sub a number", token(claims(BODY, sub=1)), None, False, True, "webhooks have none"),
    )
]


@pytest.mark.parametrize("case", DIFFERENCES, ids=lambda case: case.case)
def test_where_we_differ_from_the_python_libraries(case: Difference) -> None:
    """Each case with its reason: we are stricter in form, claims and age, and ignore claims that no webhook has."""
    assert our_reason(case.token) == case.reason, case.why
    assert (pyjwt_takes(case.token), vonage_jwt_takes(case.token)) == (case.libraries, case.libraries)
    assert case.why


def test_where_we_differ_from_the_node_library(ask: Ask) -> None:
    """The same cases: it takes some that PyJWT refuses, and the other way round."""
    verdicts = ask([["verifySignature", case.token, TEXT] for case in DIFFERENCES])
    assert {case.case: accepted for case, accepted in zip(DIFFERENCES, verdicts, strict=True)} == {
        case.case: case.node for case in DIFFERENCES
    }


def test_a_clock_that_is_half_a_minute_ahead_is_no_fault() -> None:
    """PyJWT refuses an iat one second in the future; clocks differ, and a 401 would lose the status.

    The Node library does not look at it.
    """
    now = int(time.time())
    ahead = token(claims(BODY, iat=now + 30))
    assert our_reason(ahead, now=now) is None
    assert not pyjwt_takes(ahead)
    assert not vonage_jwt_takes(ahead)


def test_a_short_secret_is_good() -> None:
    """The provider's secrets have fewer than 32 bytes. PyJWT warns about them; we have to accept them."""
    short = token(claims(BODY), secret=b"short")
    proof = verifier(secrets={ACCOUNT: (b"short",)}).verify([f"Bearer {short}"], BODY, NOW)
    assert proof.account == ACCOUNT
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert jwt.decode(short, b"short", algorithms=["HS256"])["api_key"] == ACCOUNT
    assert [case.category.__name__ for case in caught] == ["InsecureKeyLengthWarning"]
