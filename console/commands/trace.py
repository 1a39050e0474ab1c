"""``ackstream trace``: show one message."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.options import DatabaseUrl, Reveal, ServerOptions

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from console.queries.timeline.timeline import Timeline
    from console.queries.trace import StoredMessage
    from stream.keys import Shard
    from stream.redis.cluster import AwayShard


def trace(
    options: ServerOptions,
    message_uuid: Annotated[str, typer.Argument(help="The message_uuid, or the messageId of a delivery receipt.")],
    database_url: DatabaseUrl = None,
    reveal: Reveal = False,
) -> None:
    """Show a message: its state, its events, and the way of each webhook through the groups.

    Exits with 1 if the message is unknown. A group has settled an entry that it has passed; the outcomes that it
    notes are retries, repeats, filtered events and dead letters. Each group keeps its latest outcomes in Redis. If
    Redis or a node of a cluster does not answer, webhooks of its shards are shown as the tables have them, and the exit
    code is 1.

    Example: ackstream trace aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab
    """
    from console.ask import ask_database
    from console.queries.trace import read_message
    from runtime.errors import CommandError
    from stream.redis.client import redact_url
    from worker.store.settings import DatabaseSettings

    settings = DatabaseSettings.load(data=options.data, redis_url=options.redis_url, database_url=database_url)
    stored = ask_database(settings, lambda engine: read_message(engine, message_uuid))
    if stored is None:
        where = redact_url(settings.database_url)
        raise CommandError(f"no message {message_uuid!r} in {where}; `ackstream stats` shows what is not handled yet")
    with _read_timeline(options, stored, reveal=reveal) as (timeline, away):
        _print(options, stored.describe(reveal=reveal), timeline, away)


def _print(
    options: ServerOptions, message: Mapping[str, Any], timeline: "Timeline | None", away: "Sequence[AwayShard]"
) -> None:
    from console.format import format_time
    from console.output import print_json, print_pairs, print_rows

    if options.as_json:
        print_json({**message, "timeline": timeline.as_dict() if timeline else None, "away": away})
        return
    lists = ("status_at", "statuses", "events", "events_cut")
    state = {name: value for name, value in message.items() if name not in lists}
    print_pairs({**state, **{f"{status} at": format_time(time) for status, time in message["statuses"].items()}})
    typer.echo()
    has_query = any(event["query"] for event in message["events"])
    print_rows([_columns(event, has_query=has_query) for event in message["events"]])
    if rows := [row for webhook in (timeline.webhooks if timeline else ()) for row in _list_states(webhook)]:
        typer.echo()
        print_rows(rows)


@contextmanager
def _read_timeline(
    options: ServerOptions, message: "StoredMessage", *, reveal: bool
) -> "Iterator[tuple[Timeline | None, Sequence[AwayShard]]]":
    """Yield the timeline and the shards that it lacks; None if Redis does not answer: the error follows the output."""
    from contextlib import ExitStack

    from redis.exceptions import RedisError

    from console.queries.timeline.timeline import Timeline, find_timelines
    from runtime.errors import CommandError

    message_uuid = message.state["message_uuid"]

    async def find(server: "Redis", shards: "Sequence[Shard]") -> Timeline:
        return await find_timelines(server, shards, message_uuid, message.events, reveal=reveal)

    with ExitStack() as stack:
        try:
            reading = stack.enter_context(options.read(find))
        except (RedisError, CommandError):
            yield None, ()
            raise
        yield reading


def _list_states(webhook: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a row for each state that the webhook has in groups."""
    names: dict[tuple[str, str], list[str]] = {}
    for group in webhook["groups"]:
        names.setdefault((group["state"], _describe_state(group)), []).append(group["group"])
    return [
        {"entry": webhook["entry"], "state": state, "groups": ", ".join(groups), "detail": detail}
        for (state, detail), groups in names.items()
    ]


def _describe_state(group: Mapping[str, Any]) -> str:
    from console.format import format_time

    outcome = group["outcomes"][-1] if group["outcomes"] else {"at": None, "error": None}
    parts = [
        f"due {format_time(group['due_at'])}" if group["due_at"] else format_time(group["dead_at"] or outcome["at"]),
        group["dead_letter"],
        f"{group['attempts']} attempts" if (group["attempts"] or 0) > 1 else None,
        group["error"] or outcome["error"],
        group["message"],
    ]
    return ", ".join(filter(None, parts))


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
