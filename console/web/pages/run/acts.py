"""Handlers of acts: one function acts, for the form of a page and for its API route."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from pydantic import BaseModel
from redis.exceptions import RedisError

from console.web.access.roles import Role
from console.web.render import Note, json_reply, see_other
from console.web.route import API, Handler, Json, Parameters, Route
from console.web.state import identity_of, state_of
from runtime.errors import CommandError


@dataclass(frozen=True, slots=True)
class ActOutcome:
    """The result of an act: for JSON, as a note for the next page, and the path of that page."""

    result: Json
    note: Note
    path: str


INTERRUPTED = Note("Redis does not answer.", "Perhaps it was done: look again when Redis is back.", "bad")

Act = Callable[[web.Request], Awaitable[ActOutcome]]
"""Raises CommandError if the act is not possible now; then nothing was changed."""


def make_act_routes(
    name: str,
    path: str,
    act: Act,
    model: type[Parameters],
    summary: str,
    *,
    reply: type[BaseModel],
    back: Callable[[web.Request], str],
    role: Role,
) -> list[Route]:
    """Return the routes of a form and of the API. After a failure the form returns to the page ``back``.

    ``name`` is the act in the audit log, which also has the acts that Redis has interrupted.
    """
    return [
        Route("POST", path, _handle_form(name, act, back), role, model, summary=summary),
        Route("POST", f"{API}{path}", _handle_json(name, act), role, model, reply, summary),
    ]


def _handle_form(name: str, act: Act, back: Callable[[web.Request], str]) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        try:
            outcome = await act(request)
        except CommandError as exc:
            return see_other(request, back(request), Note("Nothing was changed.", str(exc), "bad"))
        except RedisError:
            await record_interruption(request, name)
            return see_other(request, back(request), INTERRUPTED)
        return see_other(request, outcome.path, outcome.note)

    return handle


def _handle_json(name: str, act: Act) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        try:
            return json_reply((await act(request)).result)
        except CommandError as exc:
            return json_reply({"error": str(exc)}, 409)
        except RedisError:
            await record_interruption(request, name)
            raise

    return handle


async def record_interruption(request: web.Request, name: str, scope: str = "") -> None:
    """Record an act that Redis has interrupted: perhaps it was done."""
    scope = scope or " ".join(f"{part}={value}" for part, value in request.match_info.items())
    result = "interrupted: Redis does not answer"
    await state_of(request).audit.record(identity_of(request), action=name, scope=scope, result=result)
