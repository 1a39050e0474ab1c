"""The report for people, and the threads of slow checks."""

import asyncio
import threading

import pytest

from console.doctor.daemon_thread import run_in_daemon
from console.doctor.finding import make_finding
from console.doctor.probe import ProbeTimes
from console.doctor.report import format_report
from console.doctor.runner import DoctorReport


def test_a_report_names_problems_fixes_and_the_way_of_the_self_test() -> None:
    """Each line has at most 80 columns; a group that did not settle the entry is named."""
    times = ProbeTimes("http://127.0.0.1:3000/", 200, 0.004, "0/1-0", 0.01, {"store": 1.25, "slow": None})
    finding = make_finding("console.plain", host="192.0.2.1")
    text = format_report(DoctorReport([finding], times, ["settings", "redis"], ["store"], 0.5))

    assert finding.fix in flat(text)
    assert "answered 200 after 4 ms; on the stream after 10 ms; not settled by slow; settled by store" in flat(text)
    assert "1 note in 2 checks, 0.5 s. Not checked: store." in flat(text)
    assert max(map(len, text.splitlines())) <= 80


async def test_the_error_of_a_check_is_raised_where_it_was_awaited() -> None:
    """The thread passes it on."""

    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await run_in_daemon(fail)


async def test_a_cancelled_check_ends_without_effect() -> None:
    """Its thread continues to its end, and nobody waits for it."""
    is_running, may_end, has_ended = (threading.Event() for _ in range(3))

    def work() -> None:
        is_running.set()
        may_end.wait(60)
        has_ended.set()

    check = asyncio.create_task(run_in_daemon(work))
    await asyncio.to_thread(is_running.wait, 60)
    check.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check
    may_end.set()
    assert await asyncio.to_thread(has_ended.wait, 60)


def flat(text: str) -> str:
    """Return the text without its line breaks."""
    return " ".join(text.split())
