import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.errors import Refusal
from tests.support.samples.events import body, event
from worker import Discard, Retry, StatusEvent, Unavailable
from worker.events import event as status
from worker.handlers import errors as outcome
from worker.handlers.errors import TimedOut
from worker.handlers.function import ListFunction, SingleEventFunction, load
from worker.handlers.spec import Options, Spec, parse_specs

HEAD = "from __future__ import annotations\nfrom worker import StatusEvent\n"

Written = Callable[[str, str], None]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    """Writes a module into the working folder; all is forgotten afterwards."""
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
def test_a_handlers_text_is_understood(text: str, group: str, target: str, options: dict[str, float]) -> None:
    """The group bears the name or the target's text, whatever the options are."""
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
    """Whatever part of it is wrong."""
    with pytest.raises(ValueError, match=r"."):
        Spec.parse(text)


def test_two_handlers_of_one_group_are_refused() -> None:
    """Under two names the same function is two handlers; under one, neither would be seen."""
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
def test_the_annotation_tells_what_a_function_takes(written: Written, signature: str, takes_lists: bool) -> None:
    """Also where annotations are kept as texts; without one it takes single events. The working folder is searched."""
    written("signatures", HEAD + signature)
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
def test_a_function_that_cannot_be_had_is_told_in_a_sentence(written: Written, text: str, sentence: str) -> None:
    """It names the handler and what is wrong, and no text of the module's own errors."""
    written("refused", HEAD + text)
    with pytest.raises(Refusal) as caught:
        load("refused:handle")
    assert str(caught.value).startswith("handler 'refused:handle': ")
    assert sentence in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("target", ["nowhere:handle", "nowhere.inside:handle", "refused.inside:handle"])
def test_a_module_that_is_not_there_is_told_with_where_it_was_looked_for(written: Written, target: str) -> None:
    """The part of its name that is missing, and the working folder."""
    written("refused", HEAD)
    with pytest.raises(Refusal, match=r"no module '\w+(\.inside)?' on PYTHONPATH or in /"):
        load(target)


def test_a_file_of_the_working_folder_hides_no_library(written: Written) -> None:
    """It comes last: a file named like a library is not what the library's name means."""
    written("bisect", "raise ValueError")
    written("mine", HEAD + "import bisect\nbisect.bisect\nasync def handle(event: StatusEvent): ...")
    sys.modules.pop("bisect", None)
    load("mine:handle")


def test_what_a_handlers_author_imports_stands_in_one_place() -> None:
    """The package itself has the names, and they are those that the worker knows."""
    assert (Discard, Retry, StatusEvent, Unavailable) == (
        outcome.Discard,
        outcome.Retry,
        status.StatusEvent,
        outcome.Unavailable,
    )


async def test_a_function_of_one_event_gets_each_by_itself() -> None:
    """Whatever its attempt, as the event it is."""
    seen: list[StatusEvent] = []

    async def handle(event: StatusEvent) -> None:
        seen.append(event)

    handler, one = SingleEventFunction(handle, 1), event(body(), attempt=3)
    assert handler.alone(one)
    await handler.handle([one])
    assert seen == [one]


async def test_a_function_of_lists_gets_those_alone_that_failed_before() -> None:
    """A list of its own that it may change; an event that has had an attempt is not put among others again."""
    seen: list[list[StatusEvent]] = []

    async def handle(events: list[StatusEvent]) -> None:
        seen.append(events.copy())
        events.clear()

    handler, events = ListFunction(handle, 1), [event(body()), event(body(status="read"))]
    assert [handler.alone(one) for one in (*events, event(body(), attempt=1))] == [False, False, True]
    await handler.handle(events)
    assert seen == [events]
    assert len(events) == 2


async def test_a_function_is_cancelled_when_its_time_is_over() -> None:
    """That is told apart from a TimeoutError of the function's own."""

    async def slow(_event: StatusEvent) -> None:
        await asyncio.Event().wait()

    async def hasty(_event: StatusEvent) -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    with pytest.raises(TimedOut, match=r"not done within 0\.01 s"):
        await SingleEventFunction(slow, 0.01).handle([event(body())])
    with pytest.raises(TimeoutError):
        await SingleEventFunction(hasty, 60).handle([event(body())])
