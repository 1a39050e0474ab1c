"""`store` and the commands handle the parameters of the URL of a webhook."""

from urllib.parse import urlencode

import orjson
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from console.queries.trace import read_message
from stream.payload import FORM
from tests.support.samples.events import RECEIVED_MS, body, event
from tests.support.workers.store_rows import clear_tables, read_rows
from worker.store.handler import Store

RECEIPT = {"messageId": "0A", "msisdn": "447700900000", "status": "delivered", "client-ref": "a b"}


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        (b"order=7&shop=a%20b", {"order": "7", "shop": "a b"}),
        (b"order=1&order=2&empty=&bare", {"order": "2", "empty": "", "bare": ""}),
        (b"caf%E9=%00", {"caf\xe9": "\ufffd"}),
        (b"long=" + b"x" * 5000 + b"&short=1", {"short": "1"}),
        (None, {}),
    ],
)
def test_an_event_has_the_parameters_of_the_url(query: bytes | None, parameters: dict[str, str]) -> None:
    """The parameters are decoded, the last one of a name counts, and one that is too long is skipped."""
    assert event(body(), query=query).query == parameters


def test_a_receipt_by_get_has_the_parameters_of_the_url() -> None:
    """The provider sends the fields of a receipt and the parameters of the URL in one query."""
    payload = urlencode({"order": "7", **RECEIPT, "sig": "x", "nonce": "y", "timestamp": "1"}).encode()
    status_event = event(payload, content_type=FORM)
    assert status_event.query == {"order": "7"}
    assert status_event.client_ref == "a b"
    assert event(body(), query=b"a=1").query == {"a": "1"}


@pytest.mark.parametrize(
    "queries", [(b"order=7", b"order=8"), (b"order=7", None), (b"messageId=x&status=read", b"a=b")]
)
async def test_another_query_changes_neither_identity_nor_state(
    engine: AsyncEngine, queries: tuple[bytes, bytes | None]
) -> None:
    """The same payload with another query is the same event, and the tables have the first query."""
    payloads = (body(), orjson.dumps(RECEIPT))
    first, again = (
        [event(payload, RECEIVED_MS + n, f"0/{n}-0", query=query) for payload in payloads]
        for n, query in enumerate(queries)
    )
    states = []
    for order in ([*first], [*first, *again], [*again, *first]):
        await clear_tables(engine)
        for status_event in order:
            await Store(engine).handle([status_event])
        states.append(await read_rows(engine))
    assert [status_event.event_id for status_event in first] == [status_event.event_id for status_event in again]
    assert states[0] == states[1] == states[2]


def test_another_query_of_a_receipt_by_get_is_the_same_event() -> None:
    """The event id is the same although the parameters are mixed with the fields of the receipt."""
    ids = {
        event(urlencode({**parameters, **RECEIPT}).encode(), content_type=FORM).event_id
        for parameters in ({}, {"order": "7"}, {"order": "8", "x": "y"})
    }
    assert len(ids) == 1
    assert event(urlencode(RECEIPT | {"status": "failed"}).encode(), content_type=FORM).event_id not in ids


async def test_trace_hides_the_values_unless_asked(engine: AsyncEngine) -> None:
    """Values may be tokens, so `trace` hides them; the row has them."""
    await Store(engine).handle([event(body(), query=b"order=7&token=%00secret")])
    message = await read_message(engine, "m-1")
    assert message is not None
    hidden, shown = [message.describe(reveal=reveal) for reveal in (False, True)]
    assert hidden["events"][0]["query"] == {"order": "***", "token": "***"}
    assert shown["events"][0]["query"] == {"order": "7", "token": "\ufffdsecret"}
