"""``ackstream trace``: one message."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from console.options import AsJson, Data, DatabaseUrl, Reveal


def trace(
    message_uuid: Annotated[str, typer.Argument(help="The message's id; of a delivery receipt its messageId.")],
    data: Data = None,
    database_url: DatabaseUrl = None,
    reveal: Reveal = False,
    as_json: AsJson = False,
) -> None:
    """Show a message: its state and all its events. Exits with 1 if it is not known.

    Example: ackstream trace aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab
    """
    from console.ask import ask_database
    from console.format import local_time
    from console.output import print_json, print_pairs, print_rows
    from console.queries.trace import find_trace
    from runtime.errors import Refusal
    from stream.redis.client import shown
    from worker.store.settings import DatabaseSettings

    settings = DatabaseSettings.load(data=data, database_url=database_url)
    found = ask_database(settings, lambda engine: find_trace(engine, message_uuid, reveal=reveal))
    if found is None:
        where = shown(settings.database_url)
        raise Refusal(f"no message {message_uuid!r} in {where}; `ackstream stats` shows what is not handled yet")
    if as_json:
        print_json(found)
        return
    state = {name: value for name, value in found.items() if name not in ("statuses", "events")}
    print_pairs({**state, **{f"{status} at": local_time(time) for status, time in found["statuses"].items()}})
    typer.echo()
    has_query = any(event["query"] for event in found["events"])
    print_rows([_columns(event, has_query=has_query) for event in found["events"]])


def _columns(event: Mapping[str, Any], *, has_query: bool) -> dict[str, Any]:
    from console.format import local_time

    columns = {
        "status": event["status"],
        "occurred": local_time(event["occurred_at"]),
        "received": local_time(event["received_at"]),
        "entry": event["entry"],
    }
    query = " ".join(f"{name}={value}" for name, value in event["query"].items())
    return {**columns, "query": query} if has_query else columns
