import pytest

from stream.probe import find_probe, make_probe
from tests.support.samples.events import body

PROBE = "0123456789abcdef" * 2


def test_the_payload_of_a_probe_names_it() -> None:
    """`find_probe` returns the id that `make_probe` got."""
    assert find_probe(make_probe(PROBE)) == PROBE


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        body(ackstream_probe=PROBE),
        b'{"ackstream_probe":"' + PROBE.encode() + b'","message_uuid":"m-1","status":"read"}',
        make_probe(PROBE) + b"\n",
        make_probe(PROBE.upper()),
        make_probe(PROBE[1:]),
    ],
)
def test_no_other_payload_is_a_probe(payload: bytes) -> None:
    """A status with the same name in it is a status, and so is anything that differs by one byte."""
    assert find_probe(payload) is None
