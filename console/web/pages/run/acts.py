"""Handlers of acts: one function acts, for the form of a page and for its API route."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from pydantic import BaseModel
from redis.exceptions import RedisError

from console.web.access.roles import Role
from console.web.actions.interruption import record_interruption
from console.web.render import Note, json_reply, parameters, see_other
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

    ``name`` is the act in the audit log, which also has the acts that were interrupted.
    """

    async def run(request: web.Request) -> ActOutcome:
        why = getattr(await parameters(request, model), "why", "")
        scope = " ".join(f"{part}={value}" for part, value in request.match_info.items())
        audit, identity = state_of(request).audit, identity_of(request)
        async with record_interruption(audit, identity, action=name, scope=scope, why=why):
            return await act(request)

    return [
        Route("POST", path, _handle_form(run, back), role, model, summary=summary),
        Route("POST", f"{API}{path}", _handle_json(run), role, model, reply, summary),
    ]


def _handle_form(act: Act, back: Callable[[web.Request], str]) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        try:
            outcome = await act(request)
        except CommandError as exc:
            return see_other(request, back(request), Note("Nothing was changed.", str(exc), "bad"))
        except RedisError:
            return see_other(request, back(request), INTERRUPTED)
        return see_other(request, outcome.path, outcome.note)

    return handle


def _handle_json(act: Act) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        try:
            return json_reply((await act(request)).result)
        except CommandError as exc:
            return json_reply({"error": str(exc)}, 409)

    return handle
