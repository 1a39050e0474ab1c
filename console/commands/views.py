"""The commands that look: trace, stats. Each shows a table, or with --json what programs rely on."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from console.options import AsJson, Data, DatabaseUrl, RedisUrl, Reveal
from console.output import ask_database, ask_redis, print_json, print_pairs, print_rows
from console.queries.stats import stats as gather_stats
from console.queries.trace import trace as find_trace
from runtime.errors import Refusal
from stream.redis.client import shown
from worker.settings import WorkerSettings


def trace(
    message_uuid: Annotated[str, typer.Argument(help="The message's id; of a delivery receipt its messageId.")],
    data: Data = None,
    database_url: DatabaseUrl = None,
    reveal: Reveal = False,
    as_json: AsJson = False,
) -> None:
    """Show one message: its state and every event of it. Exits with 1 if it is not known."""
    settings = WorkerSettings.load(data=data, database_url=database_url)
    found = ask_database(settings, lambda engine: find_trace(engine, message_uuid, reveal=reveal))
    if found is None:
        raise Refusal(
            f"no message {message_uuid!r} in {shown(settings.database_url)}; `ackstream stats` tells what is unread"
        )
    if as_json:
        print_json(found)
        return
    state = {name: value for name, value in found.items() if name not in ("statuses", "events")}
    print_pairs({**state, **{f"{status} at": time for status, time in found["statuses"].items()}})
    print_rows(found["events"])


def stats(data: Data = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """Show what each group has still to do."""
    settings = WorkerSettings.load(data=data, redis_url=redis_url)
    found = ask_redis(settings, lambda server: gather_stats(server, settings.shard))
    if as_json:
        print_json(found)
        return
    print_rows(found["shards"])
    print_rows([{"group": name, **group} for name, group in found["groups"].items()])


def print_report(report: Mapping[str, Any], *, as_json: bool) -> None:
    """Show how a simulation was answered."""
    if as_json:
        print_json(report)
        return
    nested = {"answered": "", "latency_ms": " ms"}
    flat = {name: value for name, value in report.items() if name not in nested}
    for name, unit in nested.items():
        flat |= {f"{name.removesuffix('_ms')} {key}": f"{value}{unit}" for key, value in (report[name] or {}).items()}
    print_pairs(flat)
