import hashlib
import hmac
import importlib
import json
import random
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.auth.proof import Proof, Unsigned, WrongSignature
from ingest.auth.receipts import ReceiptMethod, build_signed_text, sign
from stream.payload import decode, is_receipt
from tests.support.node_oracle import Ask
from tests.support.samples.tokens import ACCOUNT, NOW, OTHER_SECRET, SECRET, bearer, flip_bit, verifier

# One group, so that a run over several processes installs the Node libraries once.
pytestmark = pytest.mark.one_process("node")

METHODS: tuple[ReceiptMethod, ...] = ("md5hash", "md5", "sha1", "sha256", "sha512")
NODE_NAMES = {
    "md5hash": "MD5HASH",
    "md5": "MD5HMAC",
    "sha1": "SHA1HMAC",
    "sha256": "SHA256HMAC",
    "sha512": "SHA512HMAC",
}
RECEIPT = {
    "msisdn": "447700900000",
    "to": "Acme & Sons = us",
    "messageId": "0A0000001234567B",
    "status": "delivered",
    "api-key": ACCOUNT,
    "timestamp": "1582650446",
    "nonce": "ec11dd3e-1e7f-4db5-9467-82b02cd223b9",
}
UNSIGNED_RECEIPT = Proof("none", None, None, "missing")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text("&=_ +%ab", max_size=8)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
any_name = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="&="), max_size=6)
names = st.sampled_from(["msisdn", "to", "err-code", "price", "scts", "client-ref"]) | any_name
every_method = pytest.mark.parametrize("method", METHODS)


def receipts(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Signed receipts have a timestamp always, so that the provider's library adds none of its own."""
    names_but_sig = names.filter(lambda name: name != "sig")
    return st.dictionaries(names_but_sig, values, max_size=6).map(lambda fields: fields | RECEIPT)


def make_library(method: str) -> Any:
    """The provider's library; each process of the tests reads this module, and it imports an HTTP client."""
    auth = importlib.import_module("vonage_http_client.auth").Auth
    return auth(api_key=ACCOUNT, signature_secret=SECRET.decode(), signature_method=method)


def sign_receipt(fields: dict[str, Any], method: ReceiptMethod, secret: bytes = SECRET) -> dict[str, Any]:
    """Sign by the formula as it is documented, written out once more."""
    base = ""
    for name in sorted(fields):
        value = fields[name]
        base += f"&{name}=" + str(value).replace("&", "_").replace("=", "_")
    if method == "md5hash":
        digest = hashlib.md5(base.encode() + secret).hexdigest()  # noqa: S324 - the provider's default
    else:
        digest = hmac.new(secret, base.encode(), method).hexdigest().upper()
    return fields | {"sig": digest}


def proof(payload: bytes, method: Any, **changes: Any) -> Proof:
    return verifier(receipt_method=method, **changes).verify([], payload, NOW)


def refusal_reason(fields: dict[str, Any], method: Any = "sha256", **changes: Any) -> str:
    with pytest.raises(WrongSignature) as caught:
        proof(json.dumps(fields).encode(), method, **changes)
    return caught.value.reason


def taken(fields: dict[str, Any], method: ReceiptMethod) -> bool:
    try:
        return proof(json.dumps(fields).encode(), method).verified == "sig"
    except WrongSignature:
        return False


@pytest.mark.parametrize(
    "payload",
    [
        b'{"\\u006dessageId":"1"}',
        b'{"message\\u002did":"1"}',
        b"%6DessageId=1",
        b"message%2did=1",
        b'\xef\xbb\xbf{"messageId":1}',
    ],
)
def test_a_receipt_whose_id_is_written_with_escapes_is_one(payload: bytes) -> None:
    """JSON and forms may write any letter of a name as an escape; the worker reads them all the same."""
    assert is_receipt(decode(payload))

    with pytest.raises(Unsigned, match="receipt"):
        verifier().verify([], payload, NOW)


@every_method
@given(fields=receipts(texts | numbers), upper=st.booleans())
def test_a_signed_json_receipt_proves_the_account(
    method: ReceiptMethod, fields: dict[str, Any], *, upper: bool
) -> None:
    """A signature in upper or lower case, by each method, over texts and numbers, proves the account."""
    receipt = sign_receipt(fields, method)
    receipt["sig"] = receipt["sig"].upper() if upper else receipt["sig"].lower()
    assert proof(json.dumps(receipt).encode(), method) == Proof("sig", ACCOUNT, None)


@every_method
@given(fields=receipts(texts))
def test_a_signed_form_or_query_proves_the_account(method: ReceiptMethod, fields: dict[str, str]) -> None:
    """The form is decoded before the check: the decoded values are signed."""
    assert proof(urlencode(sign_receipt(fields, method)).encode(), method) == Proof("sig", ACCOUNT, None)


@pytest.mark.parametrize("method", METHODS[1:])
@given(fields=receipts(texts | numbers), wrong=st.sampled_from(["", "secret", "field", "sig"]), data=st.data())
def test_the_providers_library_judges_alike(
    method: Any, fields: dict[str, Any], wrong: str, data: st.DataObject
) -> None:
    """The Python SDK's check, on good and bad receipts. Its newest version has lost md5hash; for that ask Node's."""
    receipt = sign_receipt(fields, method, OTHER_SECRET if wrong == "secret" else SECRET)
    if wrong == "field":
        receipt["status"] = data.draw(texts)
    elif wrong == "sig":
        receipt["sig"] = data.draw(st.text("0123456789abcdefABCDEF", max_size=130))
    library = make_library(method)
    assert taken(receipt, method) == library.check_signature(dict(receipt))


def test_the_providers_library_for_node_judges_alike(ask: Ask) -> None:
    """All five methods, 500 receipts, good and bad; it takes texts only."""
    chosen = random.Random(20260102)  # noqa: S311 - to have the same ones again
    cases: list[tuple[ReceiptMethod, dict[str, Any]]] = []
    for number in range(500):
        method = METHODS[number % 5]
        text = "".join(chosen.choices("abc019 &=_+%\u00e9\u20ac\U0001f600", k=chosen.randrange(20)))
        receipt = sign_receipt(RECEIPT | {"client-ref": text}, method, chosen.choice([SECRET, SECRET, OTHER_SECRET]))
        if chosen.random() < 0.3:
            receipt[chosen.choice(["status", "nonce", "sig", "client-ref"])] += chosen.choice("0f_")
        cases.append((method, receipt))
    calls = [
        ["verifyReceipt", receipt["sig"], receipt, SECRET.decode(), NODE_NAMES[method]] for method, receipt in cases
    ]
    ours = [taken(receipt, method) for method, receipt in cases]
    assert ours == ask(calls)
    assert 100 < sum(ours) < 400


@every_method
def test_one_method_only_is_taken(method: ReceiptMethod) -> None:
    """The account has one; a signature by another is wrong, be it right in itself."""
    assert [candidate for candidate in METHODS if taken(sign_receipt(RECEIPT, candidate), method)] == [method]


@every_method
@pytest.mark.parametrize("how", ["form", "json"])
def test_every_bit_of_a_signed_receipt_counts(how: str, method: ReceiptMethod) -> None:
    """One bit changed anywhere proves nothing, unless the fields are the same after: ``%2f``, the case of ``sig``."""
    receipt = sign_receipt(RECEIPT | {"client-ref": "a/b\u00e9"}, method)
    payload = urlencode(receipt).encode() if how == "form" else json.dumps(receipt).encode()
    changes = [flip_bit(payload, bit) for bit in range(8 * len(payload))]
    for changed in changes:
        try:
            proof(changed, method)
        except (WrongSignature, Unsigned):
            continue
        fields = dict(decode(changed))
        assert fields.pop("sig").lower() == receipt["sig"].lower()
        assert fields == {name: value for name, value in receipt.items() if name != "sig"}


@given(
    st.binary()
    | st.dictionaries(names | st.just("messageId"), texts | st.none() | numbers).map(json.dumps).map(str.encode)
)
def test_anything_gives_a_proof_or_one_of_two_errors(payload: bytes) -> None:
    """A payload that the worker does not treat as a receipt never gets a proof."""
    try:
        assert proof(payload, "off") == UNSIGNED_RECEIPT
    except Unsigned:
        return
    assert is_receipt(decode(payload))


def test_a_receipt_is_taken_as_the_owner_says() -> None:
    """Off: unsigned with any sig. Not set: unsigned like any payload, even with sig, because a 401 would lose it."""
    plain, with_sig = json.dumps(RECEIPT).encode(), json.dumps(sign_receipt(RECEIPT, "md5")).encode()
    for payload in (plain, with_sig, with_sig.replace(b"delivered", b"failed")):
        assert proof(payload, "off") == UNSIGNED_RECEIPT
        with pytest.raises(Unsigned):
            proof(payload, None)
    with pytest.raises(Unsigned):
        proof(plain, "md5")


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ["Basic dXNlcjpwYXNzd29yZA=="],
        ["Bearer x"],
        ["Bearer a.b.c", "Bearer d.e.f"],
        bearer(b"{}"),
        [f"{bearer(b'{}')[0]}x"],
    ],
)
def test_a_receipt_is_judged_by_its_own_rule_whatever_authorization_it_has(values: list[str]) -> None:
    """Credentials in the callback URL come as one: with `off` it is taken, with a method its sig decides."""
    payload = json.dumps(sign_receipt(RECEIPT, "md5")).encode()
    assert verifier(receipt_method="off").verify(values, payload, NOW) == UNSIGNED_RECEIPT
    assert verifier(receipt_method="md5").verify(values, payload, NOW) == Proof("sig", ACCOUNT, None)
    with pytest.raises(WrongSignature, match="signature"):
        verifier(receipt_method="sha1").verify(values, payload, NOW)
    with pytest.raises(Unsigned, match="receipt"):
        verifier(receipt_method=None).verify(values, payload, NOW)
    with pytest.raises(Unsigned, match="unsigned"):
        verifier(receipt_method="md5").verify(values, json.dumps(RECEIPT).encode(), NOW)


def test_a_token_that_verifies_proves_a_receipt_as_well() -> None:
    """A token is the stronger proof and counts with any setting for receipts."""
    payload = json.dumps(RECEIPT).encode()
    for method in (None, "off", "md5"):
        assert verifier(receipt_method=method).verify(bearer(payload), payload, NOW).verified == "jwt"


@pytest.mark.parametrize("text", ["Caf%E9", "Caf\xe9", "na%EFve+%2B", "%F0%9F%98"])
def test_a_receipt_in_latin_1_or_cut_inside_a_character_is_taken(text: str) -> None:
    """Such a display name is common; asked for again and again it would come the same way."""
    query = urlencode(RECEIPT).encode() + b"&text=" + text.encode("latin-1")
    assert proof(query, "off") == UNSIGNED_RECEIPT
    as_json = json.dumps(RECEIPT | {"text": "X"}).encode().replace(b'"X"', b'"Caf\xe9"')
    assert proof(as_json, "off") == UNSIGNED_RECEIPT


def test_the_receipts_api_key_chooses_the_secret() -> None:
    """A configured account must have signed; an unknown one is refused; without api-key the signer is the account."""
    secrets = {ACCOUNT: (b"old", SECRET), "other": (OTHER_SECRET,), "twin": (OTHER_SECRET,)}
    unnamed = {name: value for name, value in RECEIPT.items() if name != "api-key"}
    for secret, account in ((SECRET, ACCOUNT), (b"old", ACCOUNT), (OTHER_SECRET, None)):
        payload = json.dumps(sign_receipt(unnamed, "sha1", secret)).encode()
        assert proof(payload, "sha1", secrets=secrets) == Proof("sig", account, None)
    assert refusal_reason(sign_receipt(RECEIPT, "sha1", OTHER_SECRET), "sha1", secrets=secrets) == "signature"
    for key in ("nobody", "", 5):
        assert refusal_reason(sign_receipt(RECEIPT | {"api-key": key}, "sha1"), "sha1") == "account"


def test_the_age_of_a_receipt_is_no_fault() -> None:
    """No document gives its timestamp a limit, and the provider tries again for a day; without one it is good too.

    The provider's libraries add their own clock's time where it is missing, and so never find such a receipt right.
    """
    for timestamp in ("1", 1, "9999999999", "", 0):
        assert taken(sign_receipt(RECEIPT | {"timestamp": timestamp}, "sha256"), "sha256")
    without = {name: value for name, value in RECEIPT.items() if name != "timestamp"}
    assert taken(sign_receipt(without, "sha256"), "sha256")


def test_no_name_passes_for_several_fields() -> None:
    """The libraries replace & and = in values only, so a name that holds them could hide fields that were signed."""
    receipt = sign_receipt(RECEIPT | {"status": "failed", "statut": "1"}, "sha256")
    hidden = {name: value for name, value in receipt.items() if name not in {"status", "statut"}}
    hidden["status=failed&statut"] = receipt["statut"]
    library = make_library("sha256")
    assert library.check_signature(dict(hidden))
    assert refusal_reason(hidden) == "malformed"


@pytest.mark.parametrize("value", [None, True, [], {}, ["1"], {"a": "b"}])
def test_a_sig_over_values_that_are_neither_text_nor_number_cannot_be_checked(value: object) -> None:
    """The provider's libraries take their language's own text for these. It counts as unsigned: never a 4xx."""
    with pytest.raises(Unsigned, match="unsignable"):
        proof(json.dumps(sign_receipt(RECEIPT | {"client-ref": value}, "sha256")).encode(), "sha256")


@pytest.mark.parametrize("sig", [None, 5, [], {}, True])
def test_the_signature_is_a_text(sig: object) -> None:
    """A sig of another JSON type is refused."""
    assert refusal_reason(RECEIPT | {"sig": sig}) == "malformed"
    assert refusal_reason(RECEIPT | {"sig": ""}) == refusal_reason(RECEIPT | {"sig": "\u212a"}) == "signature"


def test_the_formula_on_one_receipt() -> None:
    """The signed text is exactly as documented."""
    base = build_signed_text({"b": "x&y=z", "a": 1, "sig": "no", "B": 0.5})
    assert base == b"&B=0.5&a=1&b=x_y_z"
    assert sign("md5hash", b"s", base) == hashlib.md5(b"&B=0.5&a=1&b=x_y_zs").hexdigest().encode()  # noqa: S324
    assert sign("sha512", b"s", base) == hmac.new(b"s", base, "sha512").hexdigest().encode()
