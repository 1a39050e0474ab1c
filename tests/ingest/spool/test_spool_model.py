"""The spool as a state machine: puts, drains, kills, damage and servers that come and go, in any order."""

import os
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingest.spool.file_set import SpoolFiles
from tests.support.faults.redis_outages import read_metric
from tests.support.samples.spool_folders import ENOUGH_BYTES, OWNER, HourlyClock, drain_files
from tests.support.samples.spooled import numbers, pack_entries

COUNTERS = ("found", "drained", "set_aside")
SERVERS = ("one", "two")

operations = st.lists(
    st.tuples(st.just("put"), st.integers(1, 4))
    | st.tuples(st.just("drain"), st.integers(1, 6))
    | st.tuples(st.just("bind"), st.integers(0, 1))
    | st.tuples(st.sampled_from(["kill", "stop", "take_over"]), st.just(0)),
    max_size=30,
)


def start(data: Path) -> SpoolFiles:
    files = SpoolFiles(data, OWNER, ENOUGH_BYTES, HourlyClock())
    files.open()
    return files


def kill(data: Path) -> Path:
    """The data folder as a killed process leaves it."""
    return Path(shutil.copytree(data, Path(tempfile.mkdtemp(dir=data.parent.parent)) / "data"))


class Machine:
    """One process after the other on a data folder, and a model of a correct spool."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.files = start(data)
        self.server = ""
        self.number = 0
        self.put_by = defaultdict[str, set[int]](set)
        self.got_by = defaultdict[str, set[int]](set)

    def put(self, count: int) -> None:
        new = range(self.number, self.number + count)
        self.files.put(pack_entries(*new, size=300))
        self.put_by[self.server].update(new)
        self.number += count

    def drain(self, limit: int) -> bool:
        if not self.server or (part := self.files.read(limit)) is None:  # nobody drains before Redis has answered
            return False
        self.got_by[self.server].update(numbers(part.slice))
        self.files.confirm(part)
        return True

    def bind(self, place: int) -> None:
        self.server = SERVERS[place]
        self.files.bind(self.server)

    def take_over(self, _: int) -> None:
        self.files.take_over()

    def kill(self, _: int) -> None:
        self.data, old = kill(self.data), self.files
        old.close()
        self.files, self.server = start(self.data), ""

    def stop(self, _: int) -> None:
        self.files.close()
        self.files, self.server = start(self.data), ""


@given(operations)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_entries_go_to_their_server_alone_and_none_is_lost(tmp_path: Path, steps: list[tuple[str, int]]) -> None:
    """Entries of a known server are drained only to it; entries from before a server was known go to the first one."""
    machine = Machine(Path(tempfile.mkdtemp(dir=tmp_path)) / "data")

    for name, value in steps:
        getattr(machine, name)(value)
    for place in range(len(SERVERS)):
        machine.stop(0)
        machine.bind(place)
        while machine.drain(100):
            pass
    machine.files.close()

    put, drained_by = machine.put_by, machine.got_by
    assert set.union(*drained_by.values(), set()) == set(range(machine.number))
    for server, foreign in (SERVERS, SERVERS[::-1]):
        assert not drained_by[server] & put[foreign]
        assert put[server] <= drained_by[server]
    assert not list(machine.data.glob("spool/*/*.db"))


@given(
    st.integers(1, 400),
    st.integers(0, 400),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 3)), max_size=3),
)
@example(1, 0, [(0, 1)])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_counters_add_up_whatever_is_damaged(
    tmp_path: Path, entries: int, before: int, damage: list[tuple[int, int]]
) -> None:
    """Any pages of any file, after any number was drained: found = drained + set aside, and the spool is empty then."""
    data = Path(tempfile.mkdtemp(dir=tmp_path)) / "data"
    files = start(data)
    for first in range(0, entries, 100):
        files.put(pack_entries(*range(first, min(first + 100, entries)), size=900))
    while before > 0 and (part := files.read(min(before, 50))):
        files.confirm(part)
        before -= len(part.slice.entries)
    files.close()
    for path in data.glob("spool/*/*.db"):
        content = bytearray(path.read_bytes())
        for place, pages in damage:
            first = place % (len(content) // 4096)
            content[first * 4096 : (first + pages) * 4096] = os.urandom(len(content[first * 4096 :][: pages * 4096]))
        path.write_bytes(content)
    counts = {name: read_metric(f"spool_{name}_entries_total") for name in COUNTERS}

    files = start(data)
    numbers_read = drain_files(files)
    files.close()

    recovered, given_back, lost = (read_metric(f"spool_{name}_entries_total") - counts[name] for name in COUNTERS)
    assert numbers_read == sorted(set(numbers_read))
    assert (recovered, given_back) == (given_back + lost, len(numbers_read))
    assert (files.held.entries, read_metric("spool_entries")) == (0, 0)
