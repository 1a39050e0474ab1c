"""A handler that is a function of the user's own: found, checked, and called within its time.

::

    async def handle(event: StatusEvent) -> None: ...
    async def handle(events: list[StatusEvent]) -> None: ...

The annotation says which of both it is; without one it takes single events. A list that fails is not tried again as it
is: each of its events comes alone the next time, so that one that cannot be handled holds up no other.
"""

import difflib
import importlib
import inspect
import sys
import typing
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from traceback import walk_tb
from typing import Any

from runtime.errors import Refusal
from worker.events.event import StatusEvent
from worker.handlers.deadlines import Deadlines

EXPECTED = "write it `async def handle(event: StatusEvent)` or `async def handle(events: list[StatusEvent])`"

Function = Callable[[Any], Awaitable[None]]


class SingleEventFunction:
    """A function of one event."""

    def __init__(self, function: Function, timeout_seconds: float) -> None:
        self._function = function
        self._deadlines = Deadlines(timeout_seconds)

    def alone(self, _event: StatusEvent) -> bool:
        """Return True: every event has a call of its own."""
        return True

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        """Call the function with the one event. Raises TimedOut, and what the function raises."""
        await self._deadlines.call(self._function, events[0])


class ListFunction:
    """A function of a list of events."""

    def __init__(self, function: Function, timeout_seconds: float) -> None:
        self._function = function
        self._deadlines = Deadlines(timeout_seconds)

    def alone(self, event: StatusEvent) -> bool:
        """Whether it has failed before: then it comes as a list of one."""
        return event.attempt > 1

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        """Call the function with the list. Raises TimedOut, and what the function raises."""
        await self._deadlines.call(self._function, list(events))


def load(target: str) -> tuple[Function, bool]:
    """Import ``package.module:function``; returns it, and whether it takes lists. Raises Refusal.

    It is looked for like any module, and after all others in the working folder: a file there hides no library.
    """
    module_name, _, name = target.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever the module does when it is imported
        raise Refusal(_not_imported(target, module_name, folder, exc)) from None
    try:
        function = getattr(module, name)
    except AttributeError:
        raise Refusal(f"handler {target!r}: the module {module_name!r} has no {name!r}{_alike(module, name)}") from None
    return function, takes_lists(target, function)


def _not_imported(target: str, module_name: str, folder: str, exc: BaseException) -> str:
    if isinstance(exc, ModuleNotFoundError) and exc.name:
        if f"{module_name}.".startswith(f"{exc.name}."):
            return f"handler {target!r}: there is no module {exc.name!r} on PYTHONPATH, nor in {folder}"
        return f"handler {target!r}: its module needs {exc.name!r}, which is not installed{_place(exc)}"
    return (
        f"handler {target!r}: importing {module_name!r} raises {type(exc).__name__}{_place(exc)}; "
        f"`python -c 'import {module_name}'` shows it whole"
    )


def _place(exc: BaseException) -> str:
    """Return the file, without its folder, and the line in which a module failed that was being imported."""
    if isinstance(exc, SyntaxError) and exc.filename:
        return f" at {Path(exc.filename).name}:{exc.lineno}"
    frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(exc.__traceback__)]
    files = [(file, line) for file, line in frames if file != __file__ and not file.startswith("<frozen")]
    files = [one for one in files if Path(one[0]) != Path(importlib.__file__)]
    return f" at {Path(files[-1][0]).name}:{files[-1][1]}" if files else ""


def _alike(module: object, name: str) -> str:
    """Name the coroutine functions that the module has instead."""
    own = [one for one in vars(module) if inspect.iscoroutinefunction(getattr(module, one))]
    close = difflib.get_close_matches(name, own, 1) or own[:3]
    return f"; it has {', '.join(close)}" if close else ""


def takes_lists(target: str, function: Function) -> bool:
    """Whether a handler takes lists, by its annotation. Raises Refusal, with the target's text, if it is none."""
    name = target.rpartition(":")[2]
    if not inspect.iscoroutinefunction(function):
        raise Refusal(f"handler {target!r}: {name!r} {_what_it_is(function)}; {EXPECTED}")
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not parameters or parameters[0].kind not in positional or not _binds_one(signature):
        raise Refusal(f"handler {target!r}: it cannot be called with one argument; {EXPECTED}")
    if parameters[0].annotation is inspect.Parameter.empty:
        return False
    try:
        annotation = typing.get_type_hints(function)[parameters[0].name]
    except Exception as exc:  # noqa: BLE001 - an annotation is code like any other
        why = f"its annotations cannot be read ({type(exc).__name__})"
        raise Refusal(f"handler {target!r}: {why}; import what they name, and not for type checkers only") from None
    if annotation is StatusEvent:
        return False
    if typing.get_origin(annotation) in (list, Sequence) and typing.get_args(annotation) == (StatusEvent,):
        return True
    raise Refusal(
        f"handler {target!r}: the annotation of {parameters[0].name!r} is neither StatusEvent nor list[StatusEvent]; "
        f"{EXPECTED}"
    )


def _what_it_is(function: object) -> str:
    if inspect.isasyncgenfunction(function):
        return "is an async generator, for it has a `yield`"
    if inspect.isclass(function):
        return "is a class"
    return "is not `async def`" if callable(function) else "is not a function"


def _binds_one(signature: inspect.Signature) -> bool:
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True
