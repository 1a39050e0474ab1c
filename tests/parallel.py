"""Run the tests in several processes: ``pytest --processes 8``.

One process imports and collects all tests and then forks. The forks take the numbers of tests from a pipe and send
reports back. The tests of one mark ``one_process(NAME)`` run in one fork, in their order. With pytest-xdist each
process imports and collects everything itself, and sends seven messages for a test: 1,195 tests took a third less
processor time without it.
"""

import multiprocessing
import os
import signal
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import pytest

NUMBER = struct.Struct("H")
PIPE_BYTES = 1 << 16
END_SECONDS = 30.0
"""The time to end what the fixtures of a process have started."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--processes", type=int, default=0, metavar="N", help="run the tests in N processes")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests in processes. Leave it to pytest without the option, and if a file cannot be imported."""
    count = session.config.getoption("processes")
    if not count or session.testsfailed or session.config.option.collectonly:
        return None
    session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined] # noqa: SLF001 - one folder for all
    left = set(range(len(session.items)))
    while left:  # again if processes have ended that had taken further tests
        before = len(left)
        run_in_processes(session, count, left)
        if len(left) == before and not session.shouldfail:
            session.shouldfail = "the processes end before their first test"
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
    return True


def run_in_processes(session: pytest.Session, count: int, left: set[int]) -> None:
    """Run the tests of these numbers, and remove those that have started."""
    queue = Queue(split_into_groups(session, sorted(left)))
    workers = [Worker(session, queue) for _ in range(min(count, len(left)))]
    try:
        report_results(session, workers, left)
    finally:
        queue.clear()
        for worker in workers:
            worker.end()


def split_into_groups(session: pytest.Session, numbers: Iterable[int]) -> list[list[int]]:
    """Return the tests of each mark `one_process`, and each other test by itself; the largest groups come first."""
    groups: dict[object, list[int]] = {}
    for number in numbers:
        mark = session.items[number].get_closest_marker("one_process")
        groups.setdefault(mark.args if mark else number, []).append(number)
    return sorted(groups.values(), key=len, reverse=True)


class Queue:
    """The groups of tests that no process has taken yet: a pipe with their numbers."""

    def __init__(self, groups: list[list[int]]) -> None:
        self._groups = groups
        self._pipe, end = os.pipe()
        os.write(end, b"".join(map(NUMBER.pack, range(len(groups)))))  # a pipe holds 32,000 of them
        os.close(end)

    def take(self) -> Iterator[int]:
        """Yield tests until no group is left."""
        while data := os.read(self._pipe, NUMBER.size):
            yield from self._groups[NUMBER.unpack(data)[0]]

    def clear(self) -> None:
        """Remove all groups."""
        os.read(self._pipe, PIPE_BYTES)
        os.close(self._pipe)


class Worker:
    """A process that runs tests, as the process that has forked it sees it."""

    def __init__(self, session: pytest.Session, queue: Queue) -> None:
        self.test: int | None = None
        """The test that it runs."""
        self.connection, end = multiprocessing.Pipe(duplex=False)
        self._process = ForkProcess(target=run_tests, args=(session, queue, end))
        self._process.start()
        end.close()

    def wait(self) -> int | None:
        """Return its exit code once it has ended."""
        self._process.join()
        return self._process.exitcode

    def end(self) -> None:
        """Interrupt it if it still runs."""
        if self._process.is_alive():
            os.kill(self._process.pid or 0, signal.SIGINT)
            self._process.join(END_SECONDS)
            self._process.kill()
            self._process.join()


class Reports:
    """The reports of a test of this process."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._reports: list[Any] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._reports.append(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))

    def take(self) -> list[Any]:
        """Return them, and forget them."""
        reports, self._reports = self._reports, []
        return reports


def run_tests(session: pytest.Session, queue: Queue, connection: Connection) -> None:
    """Run tests in this process until none is left. Send the reports of each with the number of the next one."""
    hook, plugins = session.config.hook, session.config.pluginmanager
    reports = Reports(session.config)
    plugins.register(reports)
    give_own_output(plugins.getplugin("capturemanager"))
    with suppress(KeyboardInterrupt):
        try:
            tests = queue.take()
            test = next(tests, None)
            while test is not None and not session.shouldfail:
                following = next(tests, None)
                connection.send((reports.take(), test))
                after = None if following is None else session.items[following]
                hook.pytest_runtest_protocol(item=session.items[test], nextitem=after)
                test = following
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            plugins.getplugin("runner").pytest_sessionfinish(session)  # ends what the fixtures have started
    connection.send((reports.take(), None))


def give_own_output(capture: Any) -> None:
    """Capture the output of tests in a file of this process, and show none of its terminal reporter."""
    capture.stop_global_capturing()
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    capture.start_global_capturing()
    capture.suspend_global_capture()


def report_results(session: pytest.Session, workers: Iterable[Worker], left: set[int]) -> None:
    """Report what the processes send, until all have ended or there are too many failures."""
    hook = session.config.hook
    running = list(workers)
    while running and not session.shouldfail:
        ready = wait([worker.connection for worker in running])
        for worker in [worker for worker in running if worker.connection in ready]:
            try:
                reports, worker.test = worker.connection.recv()
            except EOFError:
                running.remove(worker)
                if (code := worker.wait()) and worker.test is not None:
                    reason = f"the process that ran the test has ended with {code}"
                    item = session.items[worker.test]
                    report = pytest.TestReport(item.nodeid, item.location, {}, "failed", reason, "call")
                    hook.pytest_runtest_logreport(report=report)
                continue
            left.discard(worker.test)
            for data in reports:
                report = hook.pytest_report_from_serializable(config=session.config, data=data)
                hook.pytest_runtest_logreport(report=report)
