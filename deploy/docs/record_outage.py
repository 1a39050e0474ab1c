"""``python -m deploy.docs.record_outage``: a minute without Redis under load, second by second, for the picture.

Redis is killed for 60 s while webhooks come at a steady rate. Writes deploy/docs/data/outage.json.
"""

import json
import math
import os
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench.load import open_loop
from bench.rig.outage_processes import Ingest, Valkey
from bench.rig.processes import Cores, environment, run_process

FILE = Path(__file__).parent / "data" / "outage.json"
RATE = 300
BEFORE_SECONDS, AWAY_SECONDS, AFTER_SECONDS = 10, 60, 20
LAST_SECONDS = 60.0


def main() -> None:
    """Run it and write the file."""
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.rest})
    with tempfile.TemporaryDirectory(prefix="ackstream-outage-") as name, ExitStack() as stack:
        folder = Path(name)
        valkey = stack.enter_context(Valkey(folder / "valkey").run())
        ingest = stack.enter_context(Ingest(folder, valkey.url, cores.measured).run())
        log = folder / "sent.log"
        command = (sys.executable, "-m", open_loop.__name__, str(ingest.port), ingest.path, str(RATE), str(log))
        with run_process(*command, core=cores.rest, folder=folder, environment=environment(), talks=True) as load:
            time.sleep(1)  # until the load is at its rate
            start = time.monotonic()
            spool = _sample(valkey, ingest)
            assert load.stdin is not None  # noqa: S101 - it talks
            load.stdin.close()
            load.wait(LAST_SECONDS)
        answers: dict[int, list[open_loop.Sent]] = defaultdict(list)
        for sent in open_loop.read(log):
            answers[math.floor(sent.due - start)].append(sent)
    seconds = [_summarize(answers[second], spool[second]) for second in range(len(spool))]
    record = {
        "rate": RATE,
        "away_from": BEFORE_SECONDS,
        "away_until": BEFORE_SECONDS + AWAY_SECONDS,
        "seconds": seconds,
    }
    FILE.write_text(json.dumps(record, indent=1) + "\n")


def _sample(valkey: Valkey, ingest: Ingest) -> list[int]:
    """Break and mend Redis at its times; return how many entries the spool has in each second."""
    spool = []
    start = time.monotonic()
    for second in range(BEFORE_SECONDS + AWAY_SECONDS + AFTER_SECONDS):
        if second == BEFORE_SECONDS:
            valkey.kill()
        elif second == BEFORE_SECONDS + AWAY_SECONDS:
            valkey.start()
        spool.append(int(ingest.metrics()["ackstream_spool_entries"]))
        time.sleep(max(0.0, start + second + 1 - time.monotonic()))
    return spool


def _summarize(sent: list[open_loop.Sent], spooled: int) -> dict[str, float]:
    took_ms = sorted(1000 * request.took for request in sent) or [0.0]
    return {
        "answered_200": sum(request.status == 200 for request in sent),  # noqa: PLR2004 - the code
        "others": sum(request.status != 200 for request in sent),  # noqa: PLR2004 - the code
        "p50_ms": round(median(took_ms), 2),
        "slowest_ms": round(took_ms[-1], 2),
        "spooled": spooled,
    }


if __name__ == "__main__":
    main()
