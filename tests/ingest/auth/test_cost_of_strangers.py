"""The cost of requests with invalid signatures: a client cannot make other requests slow."""

import time
import timeit
from collections.abc import Callable
from typing import Any

import pytest

from ingest.auth.proof import SignatureRefused, Unsigned
from ingest.auth.verifier import Verifier
from tests.support.samples.tokens import NOW, OTHER_SECRET, claims, token, verifier

PLAUSIBLE = b"messageId=1&status=delivered&sig=00"


@pytest.mark.parametrize(
    "payload",
    [
        PLAUSIBLE + b"&a" * 100,
        PLAUSIBLE + b"&text=" + b"a" * 8192,
        b'{"messageId":"1","sig":"00","text":"' + b"a" * 8192 + b'"}',
    ],
    ids=["fields", "form", "JSON"],
)
def test_what_is_too_large_for_a_receipt_is_none(payload: bytes) -> None:
    """A payload that is too large for a receipt counts as unsigned, and nothing of it is parsed."""
    methods: tuple[Any, ...] = ("sha256", "off")
    for method in methods:
        with pytest.raises(Unsigned, match="unsigned"):
            verifier(receipt_method=method).verify([], payload, NOW)


KIB = 1024
EXPENSIVE: dict[str, Callable[[int], bytes]] = {
    "names": lambda size: b"a&" * (size // 2),
    "pairs": lambda size: b"a=b&" * (size // 4),
    "escapes": lambda size: b"messageId=" + b"%41" * (size // 3),
    "many escapes": lambda size: b"&".join([b"messageId=" + b"%e9" * (size // 300)] * 99),
    "plus signs": lambda size: b"messageId=" + b"+" * size,
    "lists": lambda size: b'{"messageId":' + b"[" * size,
    "pairs of brackets": lambda size: b'{"messageId":[' + b"[]," * (size // 3),
    "digits": lambda size: b'{"messageId":' + b"1" * size + b"}",
    "surrogates": lambda size: b'{"messageId":"' + b"\\ud800" * (size // 6) + b'"}',
    "Latin-1": lambda size: b'{"messageId":"' + b"\xe9" * size + b'"}',
    "blanks": lambda size: b" " * size,
    "zeros": lambda size: b"\0" * size,
}


@pytest.mark.parametrize("kind", EXPENSIVE)
@pytest.mark.parametrize("size", [8 * KIB - 20, 128 * KIB, 8 * KIB * KIB], ids=["8 KiB", "128 KiB", "8 MiB"])
def test_no_unsigned_body_is_expensive(kind: str, size: int) -> None:
    """At most about a millisecond of the loop for any body, without a token and with one that does not verify."""
    payload = EXPENSIVE[kind](size)
    checker = verifier(receipt_method="sha256")
    for values in ([], [f"Bearer {token(claims(b'{}'), secret=OTHER_SECRET)}"]):
        took = min(
            timeit.repeat(
                lambda values=values: check_refusal(checker, values, payload),  # type: ignore[misc]
                timer=time.thread_time,  # the machine may be busy
                number=1,
                repeat=9,
            )
        )
        print(f"{kind}, {size} bytes: {took * 1000:.2f} ms")  # noqa: T201 - for whoever looks
        assert took < 0.003, f"{took * 1000:.2f} ms"  # a millisecond on a machine that is not busy


def check_refusal(checker: Verifier, values: list[str], payload: bytes) -> None:
    with pytest.raises(SignatureRefused):
        checker.verify(values, payload, NOW)
