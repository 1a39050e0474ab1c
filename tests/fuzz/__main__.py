"""``python -m tests.fuzz --seconds 60 --seed 1``: all runs, each for this time. Exits with 1 at the first fault."""

import argparse
import asyncio
import secrets
import tempfile
from pathlib import Path

from stream.keys import Shard
from stream.redis.client import client
from tests.fuzz import entries, requests
from tests.support.http.raw_http import Edge
from tests.support.processes import Valkey, ackstream
from tests.support.samples import signed
from worker.store.database import open_engine
from worker.store.migrate import migrate

SHORT_SECONDS = "1"  # deadlines of ingest, because most mutated requests never end


async def fuzz_requests(url: str, folder: Path, seed: int, seconds: float, *, sign: bool) -> requests.RequestTally:
    """Run ingest, and send it mutated requests."""
    deadlines = dict.fromkeys(("client_seconds", "body_seconds", "keepalive_seconds"), SHORT_SECONDS)
    signatures = {"signatures": "required", "signature_secrets": signed.SECRETS} if sign else {}
    edge = Edge(folder, url, Shard(f"fuzz-{secrets.token_hex(4)}"), **deadlines, **signatures)
    authorize = requests.sign if sign else requests.leave_unsigned
    async with edge.run():
        tally = await requests.fuzz(edge, seed, seconds, authorize)
        assert await edge.takes_a_good_one(b"{}", authorize(b"{}")), "a good request does not pass"
    return tally


async def fuzz_entries(url: str, database_url: str, folder: Path, seed: int, seconds: float) -> entries.EntryTally:
    """Run a worker, and put random entries before it."""
    server, engine, shard = client(url), open_engine(database_url, create=True), Shard(f"fuzz-{secrets.token_hex(4)}")
    settings = {"redis_url": url, "stream": shard.name, "database_url": database_url}
    try:
        await migrate(engine)
        with ackstream("worker", folder=folder, **settings) as worker:
            await worker.has_logged("consumer.ready", times=len(entries.GROUPS))
            return await entries.fuzz(server, shard, engine, worker, seed, seconds)
    finally:
        await engine.dispose()
        await server.aclose()


async def main(seed: int, seconds: float) -> None:
    """Do all runs and print their results."""
    print(f"seed {seed}", flush=True)  # noqa: T201 - its output
    with tempfile.TemporaryDirectory(prefix="ackstream-fuzz-") as name:
        folder = Path(name)
        async with Valkey(folder / "valkey").run() as valkey:
            for sign in (False, True):
                tally = await fuzz_requests(valkey.url, folder, seed, seconds, sign=sign)
                print(f"{tally}, {'signed' if sign else 'unsigned'}", flush=True)  # noqa: T201 - its output
            database_url = f"sqlite:///{folder / 'fuzz.db'}"
            print(await fuzz_entries(valkey.url, database_url, folder, seed, seconds))  # noqa: T201 - its output


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Random input for the real processes.")
    parser.add_argument("--seconds", type=float, default=60, help="of each of the three runs (default 60)")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="repeats a run (default: a new one)")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.seed, arguments.seconds))
