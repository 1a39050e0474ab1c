"""Redis goes away under load, for a minute by default, and comes back: ``python -m bench.scenarios.outage``.

The scenario prints the answers that the senders saw, the drain rate of the spool, and whether each payload is stored
once. It fails if a payload that was answered 200 is missing, or, unless ingest is killed, if a request got another
answer.
"""

import argparse
import logging
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from bench.load import open_loop
from bench.load.open_loop import Sent
from bench.rig.outage_processes import Ingest, Stored, Valkey, until
from bench.rig.processes import Cores, environment, run_process

How = Literal["killed", "frozen"]

BEFORE_SECONDS = 5.0
AFTER_SECONDS = 3.0
BACK_SECONDS = 30.0
DRAINED_SECONDS = 300.0
LAST_SECONDS = 60.0

P99_FIRST_SECONDS, P99_SECONDS, DRAIN_RATIO, DIRECT_SECONDS = 1.5, 0.1, 2.0, 5.0
"""Limits: p99 in the first second and after it, drain rate over arrival rate, seconds until appends are direct."""


@dataclass(frozen=True, slots=True)
class Times:
    """When things happened, by ``time.monotonic``."""

    away: float
    back: float
    direct: float
    drained: float
    spooled: float
    """How many entries the spool held when Redis came back."""


def main() -> None:
    """Run the outage and print the result."""
    arguments = _arguments()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.rest})
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"Redis {arguments.how} for {arguments.seconds:g} s at {arguments.rate} requests/s, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ackstream-outage-") as name, ExitStack() as stack:
        folder = Path(name)
        valkey = stack.enter_context(Valkey(folder / "valkey").run())
        ingest = stack.enter_context(Ingest(folder, valkey.url, cores.measured).run())
        log = folder / "sent.log"
        command = (
            sys.executable,
            "-m",
            open_loop.__name__,
            str(ingest.port),
            ingest.path,
            str(arguments.rate),
            str(log),
        )
        with run_process(*command, core=cores.rest, folder=folder, environment=environment(), talks=True) as load:
            times = _outage(valkey, ingest, arguments.how, arguments.seconds, arguments.kills, random.Random(seed))  # noqa: S311
            assert load.stdin is not None
            load.stdin.close()
            assert load.wait(LAST_SECONDS) == 0, "the load failed"
        sent = list(open_loop.read(log))
        _tell(sent, times, arguments.rate)
        stored = Stored.of(folder, valkey, cores.measured)
    _judge(sent, stored, killed=bool(arguments.kills))


def _outage(valkey: Valkey, ingest: Ingest, how: How, seconds: float, kills: int, chance: random.Random) -> Times:
    time.sleep(min(BEFORE_SECONDS, seconds))
    away = time.monotonic()
    if how == "killed":
        valkey.kill()
    else:
        valkey.freeze()
    for moment in sorted(chance.uniform(0, seconds) for _ in range(kills)):
        time.sleep(max(0.0, away + moment - time.monotonic()))
        ingest.kill()
        ingest.start()
    time.sleep(max(0.0, away + seconds - time.monotonic()))
    spooled = ingest.metrics()["ackstream_spool_entries"]
    if how == "killed":
        valkey.start()
    else:
        valkey.thaw()
    back = time.monotonic()
    until(lambda: ingest.metrics()["ackstream_breaker_state"] == 0, BACK_SECONDS)
    direct = time.monotonic()
    until(lambda: ingest.metrics()["ackstream_spool_entries"] == 0, DRAINED_SECONDS)
    drained = time.monotonic()
    time.sleep(AFTER_SECONDS)
    return Times(away, back, direct, drained, spooled)


def _tell(sent: Sequence[Sent], times: Times, rate: float) -> None:
    spans: tuple[tuple[str, float, float, float | None], ...] = (
        ("before", 0.0, times.away, None),
        ("first second of the outage", times.away, times.away + 1, P99_FIRST_SECONDS),
        ("rest of the outage", times.away + 1, times.back, P99_SECONDS),
        ("while draining", times.back, times.drained, None),
        ("after", times.drained, float("inf"), None),
    )
    for name, begin, end, limit in spans:
        took = sorted(request.took for request in sent if begin <= request.due < end and request.status)
        if took:
            p50, p99, worst = (1000 * took[min(len(took) - 1, int(share * len(took)))] for share in (0.5, 0.99, 1))
            shown = f"{name:27} {len(took):8,} answers, p50 {p50:7.1f} ms, p99 {p99:7.1f} ms, greatest {worst:7.1f} ms"
            print(shown + ("" if limit is None else _verdict(p99 / 1000 < limit, f"p99 under {limit * 1000:g} ms")))
    direct = times.direct - times.back
    drained = times.spooled / (times.drained - times.back)
    print(
        f"direct appends again after {direct:.1f} s{_verdict(direct < DIRECT_SECONDS, f'within {DIRECT_SECONDS:g} s')}"
    )
    print(
        f"drained {times.spooled:,.0f} entries at {drained:,.0f}/s, {drained / rate:.1f} times the arrival rate"
        + _verdict(drained >= DRAIN_RATIO * rate, f"at least {DRAIN_RATIO:g}")
    )


def _verdict(is_met: bool, what: str) -> str:
    return f"  ({what}: {'met' if is_met else 'missed'})"


def _judge(sent: Sequence[Sent], stored: Stored, *, killed: bool) -> None:
    statuses = Counter(request.status for request in sent)
    acked = {open_loop.message_id(request.number) for request in sent if request.status == 200}  # noqa: PLR2004 - the code
    lost = acked - stored.messages
    print(
        f"answers: {dict(sorted(statuses.items()))}; entries on the stream: {stored.entries:,}, events stored: "
        f"{stored.events:,}, of messages: {len(stored.messages):,}; lost: {len(lost)}"
    )
    assert not lost, f"answered 200 and not stored: {sorted(lost)[:5]}"
    assert stored.events == len(stored.messages), "an event is stored twice"
    assert stored.messages <= {open_loop.message_id(request.number) for request in sent}
    assert killed or set(statuses) == {200}, "not everything was answered 200"
    assert set(statuses) <= {200, 0}, "there were answers other than 200"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.scenarios.outage", description="Let Redis go away under load.")
    parser.add_argument("--seconds", type=_positive, default=60.0, help="how long Redis is away (default 60)")
    parser.add_argument("--rate", type=_positive, default=2000.0, help="requests a second (default 2000)")
    parser.add_argument("--how", choices=("killed", "frozen"), default="killed", help="the fault of Redis")
    parser.add_argument("--kills", type=int, default=0, help="how often ingest is killed during the outage (default 0)")
    parser.add_argument("--seed", type=int, help="seed of the kill times")
    return parser.parse_args()


def _positive(value: str) -> float:
    number = float(value)
    if number <= 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return number


if __name__ == "__main__":
    main()
