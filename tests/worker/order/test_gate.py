"""The gate against a model: any order of arrivals, ends and retries."""

from hypothesis import given
from hypothesis import strategies as st

from stream.entry import EntryId
from tests.support.samples.events import body, event
from worker.events.event import StatusEvent
from worker.order.gate import MessageGate
from worker.sources import Source

MESSAGES = "abc"
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.sampled_from(MESSAGES)),
        st.tuples(st.sampled_from(("settle", "fail", "return", "vanish")), st.integers(0, 5)),
    ),
    max_size=60,
)


class World:
    """A gate, the events in flight and the delayed ones, as a worker has them."""

    def __init__(self) -> None:
        self.gate = MessageGate(0)
        self.count = 0
        self.in_flight: dict[tuple[Source, bytes], StatusEvent] = {}
        self.events: dict[tuple[Source, bytes], StatusEvent] = {}
        self.delayed: list[StatusEvent] = []
        self.settled: list[StatusEvent] = []

    def arrive(self, message: str) -> None:
        entry_id = self._next_id()
        self._admit(Source.LIVE, entry_id, event(body(message_uuid=message), at=f"0/{entry_id.decode()}"))

    def end(self, word: str, number: int) -> None:
        if not self.in_flight:
            return
        (source, entry_id), ended = list(self.in_flight.items())[number % len(self.in_flight)]
        del self.in_flight[source, entry_id]
        if word == "fail":
            self.delayed.append(ended)
            self.gate.delay(source, entry_id, EntryId.from_text(ended.entry), 0.0)
        else:
            self.settled.append(ended)
            self.gate.settle(source, [entry_id])

    def bring_back(self, word: str, number: int) -> None:
        if not self.delayed:
            return
        retry = self.delayed.pop(number % len(self.delayed))
        if word == "vanish":
            self.settled.append(retry)
            self.gate.remove_away(retry.message_uuid, EntryId.from_text(retry.entry))
        else:
            self._admit(Source.RETRY, self._next_id(), retry)

    def load(self) -> None:
        for source, entry_ids in self.gate.take_due(100).items():
            for entry_id in entry_ids:
                self._admit(source, entry_id, self.events[source, entry_id])

    def _next_id(self) -> bytes:
        self.count += 1
        return b"%d-0" % self.count

    def _admit(self, source: Source, entry_id: bytes, arrived: StatusEvent) -> None:
        self.events[source, entry_id] = arrived
        if self.gate.admit(source, [entry_id], [arrived]):
            return
        assert all(other.message_uuid != arrived.message_uuid for other in self.in_flight.values())
        earlier = (other for other in self.settled if other.message_uuid == arrived.message_uuid)
        assert all(EntryId.from_text(other.entry) < EntryId.from_text(arrived.entry) for other in earlier)
        self.in_flight[source, entry_id] = arrived


@given(ACTIONS)
def test_events_of_a_message_go_one_at_a_time_and_in_order(actions: list[tuple[str, object]]) -> None:
    """No event passes beside another of its message, or after a later one is settled; in the end all are settled."""
    world = World()
    for word, value in actions:
        if word == "arrive":
            world.arrive(str(value))
        elif word in {"settle", "fail"}:
            world.end(word, int(str(value)))
        else:
            world.bring_back(word, int(str(value)))
        world.load()
    arrived = sum(source is Source.LIVE for source, _ in world.events)
    while world.in_flight or world.delayed:
        world.bring_back("return", 0)
        world.end("settle", 0)
        world.load()

    assert len(world.settled) == arrived
    assert not world.gate.waiting.total()


def test_a_replay_does_not_end_the_wait_for_a_retry() -> None:
    """If an event that is delayed is also replayed, later events of its message still wait for its retry."""
    gate = MessageGate(0)
    first, second = (event(body(message_uuid="m"), at=f"0/{number}-0") for number in (1, 2))
    gate.admit(Source.LIVE, [b"1-0", b"2-0"], [first, second])
    gate.delay(Source.LIVE, b"1-0", EntryId.from_text(first.entry), 0.0)

    gate.admit(Source.REPLAY, [b"7-0"], [first])
    gate.settle(Source.REPLAY, [b"7-0"])
    has_due_after_replay = gate.has_due
    gate.admit(Source.RETRY, [b"8-0"], [first])
    gate.settle(Source.RETRY, [b"8-0"])

    assert not has_due_after_replay
    assert gate.take_due(10) == {Source.LIVE: [b"2-0"]}
