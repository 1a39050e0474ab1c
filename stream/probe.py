"""The payload of the self-test webhook that ``ackstream doctor`` sends. No I/O.

It has the id of the probe and nothing else, so no status of a provider can be equal to it, and no secret is needed to
distinguish them. Ingest marks an entry with the field ``probe`` only if its payload is such a payload. Workers ack a
marked entry without a call only if its payload names the same probe. So neither a client nor a program that writes to
the stream can hide a real webhook behind a probe.
"""

import re

PREFIX = b'{"ackstream_probe":"'

_PAYLOAD = re.compile(rb'\{"ackstream_probe":"([0-9a-f]{32})"\}')


def make_probe(probe: str) -> bytes:
    """Return the payload of a probe. Its id is 32 hex digits."""
    return PREFIX + probe.encode() + b'"}'


def find_probe(payload: bytes) -> str | None:
    """Return the id of the probe; None for any other payload."""
    match = _PAYLOAD.fullmatch(payload)
    return match[1].decode() if match else None
