"""The `log` handler: its lines are written before it returns."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

KILLED = """
import asyncio
import os
import signal
from runtime import logs
from stream.entry import Entry
from worker.events.vonage import parse
from worker.handlers.log import Log

BODY = b'{"message_uuid":"m-%d","status":"delivered","channel":"sms","to":"447700900000"}'
logs.configure("json")
events = [parse(Entry(BODY % n, "application/json", n, str(n)), f"0/{n}-0") for n in range(1000)]



async def handle():
    await Log(reveal=False).handle(events)
    os.kill(os.getpid(), signal.SIGKILL)


asyncio.run(handle())
"""


def test_a_killed_worker_has_written_the_lines_of_its_call() -> None:
    """A process that is killed right after the call has written one line for each event of it."""
    process = subprocess.run((sys.executable, "-c", KILLED), cwd=ROOT, capture_output=True, check=False, timeout=240)

    assert process.returncode == -9
    assert process.stdout.count(b"message.status") == 1000


def test_a_call_ends_although_nobody_reads_its_lines() -> None:
    """With a standard output that is full and not read, the call returns after a second."""
    unread = KILLED.replace("range(1000)", "range(2000)")
    with subprocess.Popen((sys.executable, "-c", unread), cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.wait(30) == -9
