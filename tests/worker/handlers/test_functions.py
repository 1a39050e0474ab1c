import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.errors import CommandError
from tests.support.samples.events import body, event
from worker import Discard, Retry, StatusEvent, Unavailable
from worker.events import event as status
from worker.handlers import errors as outcome
from worker.handlers.errors import TimedOut
from worker.handlers.function import ListFunction, SingleEventFunction, load
from worker.handlers.spec import Options, Spec, parse_specs

HEAD = "from __future__ import annotations\nfrom worker import StatusEvent\n"

WriteModule = Callable[[str, str], None]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """Return a function that writes a module into the working folder. Its modules are unloaded afterwards."""
    before = set(sys.modules)
    monkeypatch.setattr("sys.path", sys.path.copy())

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "group", "target", "options"),
    [
        ("store", "store", "store", {}),
        ("log#batch=10", "log", "log", {"batch": 10}),
        ("mine:handle", "mine:handle", "mine:handle", {}),
        (" shop.orders:on_status ", "shop.orders:on_status", "shop.orders:on_status", {}),
        ("orders=shop.orders:on_status", "orders", "shop.orders:on_status", {}),
        (
            "orders=mine:handle#concurrency=8&timeout=2.5&base=0&cap=60&attempts=3",
            "orders",
            "mine:handle",
            {"concurrency": 8, "timeout": 2.5, "base": 0.0, "cap": 60.0, "attempts": 3},
        ),
        ("second=store", "second", "store", {}),
    ],
)
def test_the_text_of_a_handler_is_parsed(text: str, group: str, target: str, options: dict[str, float]) -> None:
    """The group has the name or else the text of the target, with any options."""
    assert Spec.parse(text) == Spec(group=group, target=target, options=Options.model_validate(options))


@pytest.mark.parametrize(
    "text",
    [
        *("", "nothing", "mine", "mine.handle", ":handle", "mine:", "mine:a:b", "1mine:handle", "a b:handle"),
        *("=mine:handle", "a=b=mine:handle", "n/a=mine:handle", "store=mine:handle", "x" * 65 + "=mine:handle"),
        *("mine:handle#a", "mine:handle#speed=1", "mine:handle#batch=0", "mine:handle#batch=1&batch=2"),
        *("mine:handle#timeout=nan", "mine:handle#attempts=1001", "mine:handle#cap=", "store#concurrency=2"),
    ],
)
def test_a_text_that_names_no_handler_is_refused(text: str) -> None:
    """Each part of the text can be invalid."""
    with pytest.raises(ValueError, match=r"."):
        Spec.parse(text)


def test_two_handlers_of_one_group_are_refused() -> None:
    """The same function needs two names to be two handlers."""
    assert [spec.group for spec in parse_specs("a=mine:handle,b=mine:handle,log")] == ["a", "b", "log"]
    with pytest.raises(ValueError, match="handler 2: the group 'mine:handle' has a handler already"):
        parse_specs("mine:handle,mine:handle#batch=5")


@pytest.mark.parametrize(
    ("signature", "takes_lists"),
    [
        ("async def handle(event: StatusEvent) -> None: ...", False),
        ("async def handle(event: StatusEvent, /): ...", False),
        ("async def handle(events: list[StatusEvent]) -> None: ...", True),
        ("from collections.abc import Sequence\nasync def handle(events: Sequence[StatusEvent]): ...", True),
        ("async def handle(event): ...", False),
        ("async def handle(event) -> Nothing: ...", False),
        ("async def handle(event, tries: int = 3, *more, **others): ...", False),
        ("async def handle(events: list[StatusEvent], tries: int = 3): ...", True),
    ],
)
def test_the_annotation_decides_between_single_events_and_lists(
    write_module: WriteModule, signature: str, takes_lists: bool
) -> None:
    """Annotations may be strings; without one a function takes single events. The working folder is searched."""
    write_module("signatures", HEAD + signature)
    assert load("signatures:handle")[1] is takes_lists


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the module 'refused' has no 'handle'"),
        ("async def handel(event): ...", "has no 'handle'; it has handel"),
        ("def handle(event: StatusEvent): ...", "'handle' is not `async def`; write it `async def handle(event: S"),
        ("async def handle(event):\n    yield", "'handle' is an async generator, because it has a `yield`; write it"),
        ("class handle: ...", "'handle' is a class; write it"),
        ("handle = 5", "'handle' is not a function; write it"),
        ("handle = None", "'handle' is not a function; write it"),
        ("async def handle(): ...", "it cannot be called with one argument"),
        ("async def handle(event: StatusEvent, more: int): ...", "it cannot be called with one argument"),
        ("async def handle(*, event: StatusEvent): ...", "it cannot be called with one argument"),
        (
            "async def handle(event: dict): ...",
            "the annotation of 'event' is neither StatusEvent nor list[StatusEvent]",
        ),
        ("async def handle(events: list[dict]): ...", "the annotation of 'events' is neither StatusEvent nor list["),
        ("async def handle(event: Nothing): ...", "its annotations cannot be read (NameError)"),
        ("import nothing_of_this_name", "needs 'nothing_of_this_name', which is not installed at refused.py:3"),
        ("raise ValueError('hunter2')", "importing 'refused' raises ValueError at refused.py:3; `python -c "),
        ("import sys\nsys.exit(3)", "importing 'refused' raises SystemExit"),
        ("a b", "importing 'refused' raises SyntaxError at refused.py:3"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_refused_in_a_sentence(
    write_module: WriteModule, text: str, sentence: str
) -> None:
    """The sentence names the handler and the fault, and shows no text of an error of the module."""
    write_module("refused", HEAD + text)
    with pytest.raises(CommandError) as caught:
        load("refused:handle")
    assert str(caught.value).startswith("handler 'refused:handle': ")
    assert sentence in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("target", ["nowhere:handle", "nowhere.inside:handle", "refused.inside:handle"])
def test_a_missing_module_is_named_with_the_search_path(write_module: WriteModule, target: str) -> None:
    """The sentence has the missing part of the name, and the working folder."""
    write_module("refused", HEAD)
    with pytest.raises(CommandError, match=r"no module '\w+(\.inside)?' on PYTHONPATH or in /"):
        load(target)


def test_a_file_of_the_working_folder_hides_no_library(write_module: WriteModule) -> None:
    """The working folder is searched last, so a file with the name of a library does not replace it."""
    write_module("bisect", "raise ValueError")
    write_module("mine", HEAD + "import bisect\nbisect.bisect\nasync def handle(event: StatusEvent): ...")
    sys.modules.pop("bisect", None)
    load("mine:handle")


def test_the_package_exports_the_names_for_handlers() -> None:
    """The names of the package are the classes that the worker uses."""
    assert (Discard, Retry, StatusEvent, Unavailable) == (
        outcome.Discard,
        outcome.Retry,
        status.StatusEvent,
        outcome.Unavailable,
    )


async def test_a_function_of_one_event_gets_each_by_itself() -> None:
    """The function is called with the event itself, at any attempt."""
    calls: list[StatusEvent] = []

    async def handle(event: StatusEvent) -> None:
        calls.append(event)

    handler, status_event = SingleEventFunction(handle, 1), event(body(), attempt=3)
    assert handler.alone(status_event)
    await handler.handle([status_event])
    assert calls == [status_event]


async def test_a_function_of_lists_gets_failed_events_alone() -> None:
    """The function may change its list; an event that has failed before comes alone."""
    calls: list[list[StatusEvent]] = []

    async def handle(events: list[StatusEvent]) -> None:
        calls.append(events.copy())
        events.clear()

    handler, events = ListFunction(handle, 1), [event(body()), event(body(status="read"))]
    assert [handler.alone(status_event) for status_event in (*events, event(body(), attempt=1))] == [False, False, True]
    await handler.handle(events)
    assert calls == [events]
    assert len(events) == 2


async def test_a_function_is_cancelled_when_its_time_is_over() -> None:
    """TimedOut differs from a TimeoutError that the function raises."""

    async def slow(_event: StatusEvent) -> None:
        await asyncio.Event().wait()

    async def hasty(_event: StatusEvent) -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    with pytest.raises(TimedOut, match=r"not done within 0\.01 s"):
        await SingleEventFunction(slow, 0.01).handle([event(body())])
    with pytest.raises(TimeoutError):
        await SingleEventFunction(hasty, 60).handle([event(body())])
