"""An outage of real length: `make outage MINUTES=10`.

A handler's target is down from the first event on. Two attempts, events that keep coming, two restarts of the worker,
one in order and one by SIGKILL. Nothing may be dead-lettered, and all must be handled once the target is back.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path

from stream.keys import Shard
from stream.redis.client import client
from tests.support.processes import Valkey
from tests.support.workers.recording import ids, run_recording_workers

OPTIONS = "attempts=2&base=1&cap=20&concurrency=8"
RECOVERY_SECONDS = 300


async def run(minutes: float, folder: Path) -> bool:
    """Print what happens; whether nothing was given up and everything was handled."""
    async with Valkey(folder / "valkey").run() as valkey:
        server, shard = client(valkey.url), Shard("outage")
        try:
            with run_recording_workers(valkey.url, server, shard, folder) as site:
                worker = await site.start(OPTIONS)
                end, sent, restarts = time.monotonic() + 60 * minutes, 0, 0
                while (remaining := end - time.monotonic()) > 0:
                    await site.append(*ids("down", range(sent, sent + 10)))
                    sent += 10
                    if restarts < 2 and remaining < 60 * minutes * (2 - restarts) / 3:
                        if restarts:
                            worker.kill()
                        else:
                            worker.send(signal.SIGTERM)
                            await worker.wait_for_end(30)
                        worker, restarts = await site.start(OPTIONS), restarts + 1
                    await asyncio.sleep(1)
                during, group = await site.letters(), await site.group()
                (folder / "back").touch()
                await site.is_done(seconds=RECOVERY_SECONDS)
                dead, handled = await site.letters(), len(site.times("done"))
        finally:
            await server.aclose()
    print(f"{minutes:g} minutes, {sent} events, {restarts} restarts; paused: {group['paused']}")  # noqa: T201 - its output
    print(f"dead letters: {len(during)} during it, {len(dead)} after it; handled: {handled}")  # noqa: T201 - its output
    return not during and not dead and handled == sent


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    with tempfile.TemporaryDirectory() as name:
        sys.exit(0 if asyncio.run(run(parser.parse_args().minutes, Path(name))) else 1)
