from tests.test_calls import Gates, batch, made
from worker.dispatch.call import Limits
from worker.dispatch.dispatcher import KEPT_ENTRIES


async def test_a_probe_takes_the_newest_event_that_has_not_failed() -> None:
    """Of a list the last one; and however many have failed, there is room for more that have not."""
    handler = Gates(alone=lambda event: event.message_uuid.startswith("x"))
    handler.errors = {one: ValueError() for one in ("e", "d", "c")}
    async with made(handler, Limits()) as calls:
        calls.pause()
        calls.put(batch(*(f"x{number}" for number in range(KEPT_ENTRIES))))
        room = [calls.takes_more]
        for call in calls._queue:  # noqa: SLF001 - as they are once the breaker has tripped
            call.tried = True
        calls.put(batch(*"abc"))
        calls.put(batch(*"de"))
        for _ in range(3):
            room.append(calls.takes_more)
            calls.probe()
            await calls.step()
            assert calls.take() == []
    assert (handler.began, room) == ([["e"], ["d"], ["c"]], [False, True, True, True])
