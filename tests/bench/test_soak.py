"""The soak judges the memory after its first quarter, in which the parts with a limit reach it."""

import pytest

from bench.scenarios.growth.soak import describe_growth, find_growing, main

WARM_UP = [100.0, 180.0]


def test_growth_in_the_first_quarter_is_not_judged() -> None:
    """A process that reaches its limit in the first quarter does not grow; one that grows later does."""
    memory = {"ingest": [*WARM_UP, 200, 201, 202, 203, 204, 205], "worker": [*WARM_UP, 200, 205, 210, 215, 220, 225]}

    assert find_growing(memory) == ["worker"]
    assert describe_growth(memory) == (
        "growth from the second to the last quarter: ingest +4.0 MB (+2.0%, 200.5 to 204.5 MB), "
        "worker +20.0 MB (+9.9%, 202.5 to 222.5 MB)"
    )


def test_a_soak_that_is_too_short_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A load that does not reach the limits in the first quarter is refused, with the minutes that it takes."""
    monkeypatch.setattr("sys.argv", ["soak", "--minutes", "1", "--rate", "100"])

    with pytest.raises(SystemExit):
        main()

    assert "give it at least 40 minutes at 100 webhooks a second" in capsys.readouterr().err
