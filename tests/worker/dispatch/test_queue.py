import pytest

from tests.support.workers.gated_handler import make_call
from worker.dispatch.call import Call
from worker.dispatch.queue import CallQueue
from worker.sources import Source


@pytest.fixture
def queue() -> CallQueue:
    """A queue that returns live calls."""
    return CallQueue()


def message(call: Call | None) -> str | None:
    return None if call is None else call.events[0].message_uuid


def test_an_empty_queue_has_no_call_to_take(queue: CallQueue) -> None:
    """Both ways of taking a call return None."""
    assert queue.take() is None
    assert queue.take_newest() is None


def test_the_newest_call_is_the_last_event_of_the_last_live_call(queue: CallQueue) -> None:
    """The other events of that call stay in the queue."""
    queue.put([make_call("a", attempt=1), make_call("b", "c", attempt=1), make_call("d", source=Source.REPLAY)])

    assert message(queue.take_newest()) == "c"

    assert [[event.message_uuid for event in call.events] for call in queue.calls] == [["a"], ["b"], ["d"]]


def test_without_live_calls_the_newest_is_a_copy_that_never_failed(queue: CallQueue) -> None:
    """A replay before its first failure is a better probe than a retry."""
    replay = make_call("replayed", source=Source.REPLAY)
    queue.put([replay, make_call("failed", attempt=1, source=Source.RETRY)])

    assert message(queue.take_newest()) == "replayed"
    assert message(queue.take_newest()) == "failed"
    assert queue.take_newest() is None


def test_a_blocked_queue_returns_copies_only() -> None:
    """Live calls stay in the queue, and do not count as calls that can be taken."""
    queue = CallQueue(lambda: True)
    queue.put([make_call("live"), make_call("retry", source=Source.RETRY)])

    assert len(queue) == 1
    assert message(queue.take()) == "retry"
    assert queue.take() is None
    assert [message(call) for call in queue.calls] == ["live"]


def test_a_cleared_queue_is_empty(queue: CallQueue) -> None:
    """Live calls and copies are forgotten."""
    queue.put([make_call("live"), make_call("retry", source=Source.RETRY)])

    queue.clear()

    assert queue.calls == []
