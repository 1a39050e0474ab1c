"""The short form of `make fuzz`: some seconds of each run, from a new seed each time."""

import secrets
from pathlib import Path

import pytest

from tests.fuzz.__main__ import fuzz_entries, fuzz_requests

SECONDS = 2
SEED = secrets.randbits(32)


@pytest.mark.parametrize("sign", [False, True])
async def test_no_request_gets_a_500_or_harms_the_process(valkey_url: str, tmp_path: Path, *, sign: bool) -> None:
    """Good requests with flipped bits, cuts, splices and strange lines: whole answers, no growth, no traceback.

    The run itself ends with a good request that must pass: within seconds, no mutated one may keep its signature.
    """
    tally = await fuzz_requests(valkey_url, tmp_path, SEED, SECONDS, sign=sign)
    assert tally.answers[400]


async def test_no_entry_gets_stuck(valkey_url: str, database_url: str, tmp_path: Path) -> None:
    """Every entry of the stream becomes a row or a dead letter of each group, and later entries pass."""
    tally = await fuzz_entries(valkey_url, database_url, tmp_path, SEED, SECONDS)
    assert {"invalid-entry", "invalid-status"} <= tally.dead.keys()
