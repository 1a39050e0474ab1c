"""``ackstream trace``: show one message."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

import typer

from console.options import DatabaseUrl, Reveal, ServerOptions


def trace(
    options: ServerOptions,
    message_uuid: Annotated[str, typer.Argument(help="The message_uuid, or the messageId of a delivery receipt.")],
    database_url: DatabaseUrl = None,
    reveal: Reveal = False,
) -> None:
    """Show a message: its state, its events, and the outcomes of entries not handled at their first attempt.

    Exits with 1 if the message is unknown. Outcomes are retries, repeats, filtered events and dead letters; each group
    keeps its latest outcomes in Redis.

    Example: ackstream trace aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab
    """
    from console.ask import ask_database
    from console.format import format_time
    from console.output import print_json, print_pairs, print_rows
    from console.queries.trace import find_trace
    from runtime.errors import CommandError
    from stream.redis.client import redact_url
    from worker.store.settings import DatabaseSettings

    settings = DatabaseSettings.load(data=options.data, redis_url=options.redis_url, database_url=database_url)
    message = ask_database(settings, lambda engine: find_trace(engine, message_uuid, reveal=reveal))
    if message is None:
        where = redact_url(settings.database_url)
        raise CommandError(f"no message {message_uuid!r} in {where}; `ackstream stats` shows what is not handled yet")
    history = _find_history(options, {event["entry"] for event in message["events"]}, reveal=reveal)
    if options.as_json:
        print_json({**message, "history": history})
        return
    state = {name: value for name, value in message.items() if name not in ("statuses", "events")}
    print_pairs({**state, **{f"{status} at": format_time(time) for status, time in message["statuses"].items()}})
    typer.echo()
    has_query = any(event["query"] for event in message["events"])
    print_rows([_columns(event, has_query=has_query) for event in message["events"]])
    if history:
        typer.echo()
        print_rows([{**outcome, "at": format_time(outcome["at"])} for outcome in history])


def _find_history(options: ServerOptions, entries: Collection[str], *, reveal: bool) -> list[dict[str, Any]] | None:
    """Return the outcomes of these entries; None, with a line on standard error, if Redis does not answer."""
    from redis.exceptions import RedisError

    from console.queries.trace import find_history

    try:
        return options.ask(lambda server, shard: find_history(server, shard, entries, reveal=reveal))
    except RedisError:
        typer.echo("Redis does not answer: the outcomes in the groups are not shown", err=True)
        return None


def _columns(event: Mapping[str, Any], *, has_query: bool) -> dict[str, Any]:
    from console.format import format_time

    columns = {
        "status": event["status"],
        "occurred": format_time(event["occurred_at"]),
        "received": format_time(event["received_at"]),
        "entry": event["entry"],
    }
    query = " ".join(f"{name}={value}" for name, value in event["query"].items())
    return {**columns, "query": query} if has_query else columns
