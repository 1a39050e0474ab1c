"""Loads, checks and calls a function of the user as a handler.

::

    async def handle(event: StatusEvent) -> None: ...
    async def handle(events: list[StatusEvent]) -> None: ...

The annotation decides between the two; a function without one takes single events. After a list has failed, each of
its events is retried alone, so that one bad event does not block the others.
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

from runtime.errors import CommandError
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
        """Call the function with the event. Raises TimedOut, or the exception of the function."""
        await self._deadlines.call(self._function, events[0])


class ListFunction:
    """A function of a list of events."""

    def __init__(self, function: Function, timeout_seconds: float) -> None:
        self._function = function
        self._deadlines = Deadlines(timeout_seconds)

    def alone(self, event: StatusEvent) -> bool:
        """Return whether the event has failed before. The function then gets it in a list of one."""
        return event.attempt > 1

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        """Call the function with the list. Raises TimedOut, or the exception of the function."""
        await self._deadlines.call(self._function, list(events))


def load(target: str) -> tuple[Function, bool]:
    """Import ``package.module:function``. Return the function and whether it takes lists. Raises CommandError.

    The working folder comes last on the module path, so a file in it does not hide a library.
    """
    module_name, _, name = target.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - a module may raise any exception when it is imported
        raise CommandError(_not_imported(target, module_name, folder, exc)) from None
    try:
        function = getattr(module, name)
    except AttributeError:
        raise CommandError(
            f"handler {target!r}: the module {module_name!r} has no {name!r}{_suggest(module, name)}"
        ) from None
    return function, takes_lists(target, function)


def _not_imported(target: str, module_name: str, folder: str, exc: BaseException) -> str:
    if isinstance(exc, ModuleNotFoundError) and exc.name:
        if f"{module_name}.".startswith(f"{exc.name}."):
            return f"handler {target!r}: no module {exc.name!r} on PYTHONPATH or in {folder}; correct the name"
        return f"handler {target!r}: its module needs {exc.name!r}, which is not installed{_place(exc)}; install it"
    return (
        f"handler {target!r}: importing {module_name!r} raises {type(exc).__name__}{_place(exc)}; "
        f"`python -c 'import {module_name}'` shows the traceback"
    )


def _place(exc: BaseException) -> str:
    """Return the file, without its folder, and the line at which the import of a module failed."""
    if isinstance(exc, SyntaxError) and exc.filename:
        return f" at {Path(exc.filename).name}:{exc.lineno}"
    frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(exc.__traceback__)]
    files = [(file, line) for file, line in frames if file != __file__ and not file.startswith("<frozen")]
    files = [place for place in files if Path(place[0]) != Path(importlib.__file__)]
    return f" at {Path(files[-1][0]).name}:{files[-1][1]}" if files else ""


def _suggest(module: object, name: str) -> str:
    """Return a hint with the coroutine functions of the module, the most similar name first."""
    functions = [key for key, value in vars(module).items() if inspect.iscoroutinefunction(value)]
    close = difflib.get_close_matches(name, functions, 1) or functions[:3]
    return f"; it has {', '.join(close)}" if close else ""


def takes_lists(target: str, function: Function) -> bool:
    """Whether a handler takes lists, by its annotation. Raises CommandError, which names the target."""
    name = target.rpartition(":")[2]
    if not inspect.iscoroutinefunction(function):
        raise CommandError(f"handler {target!r}: {name!r} {_describe(function)}; {EXPECTED}")
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not parameters or parameters[0].kind not in positional or not _takes_one_argument(signature):
        raise CommandError(f"handler {target!r}: it cannot be called with one argument; {EXPECTED}")
    if parameters[0].annotation is inspect.Parameter.empty:
        return False
    try:
        annotation = typing.get_type_hints(function)[parameters[0].name]
    except Exception as exc:  # noqa: BLE001 - an annotation is code and may raise any exception
        why = f"its annotations cannot be read ({type(exc).__name__})"
        raise CommandError(f"handler {target!r}: {why}; import their names outside of `if TYPE_CHECKING:`") from None
    if annotation is StatusEvent:
        return False
    if typing.get_origin(annotation) in (list, Sequence) and typing.get_args(annotation) == (StatusEvent,):
        return True
    raise CommandError(
        f"handler {target!r}: the annotation of {parameters[0].name!r} is neither StatusEvent nor list[StatusEvent]; "
        f"{EXPECTED}"
    )


def _describe(function: object) -> str:
    if inspect.isasyncgenfunction(function):
        return "is an async generator, because it has a `yield`"
    if inspect.isclass(function):
        return "is a class"
    return "is not `async def`" if callable(function) else "is not a function"


def _takes_one_argument(signature: inspect.Signature) -> bool:
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True
