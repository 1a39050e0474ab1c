"""The page of one entry, without its private parts, and their reveal, which is in the audit log."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from aiohttp import web
from pydantic import BaseModel

from console.web.access.roles import Role
from console.web.actions.bulk import EntryText, Why
from console.web.render import json_reply, parameters
from console.web.route import API, Json, Parameters, Route
from console.web.state import ConsoleState, identity_of, state_of
from stream.entry import EntryId


class EntryPage(Parameters):
    """One entry."""

    id: EntryText

    @property
    def scope(self) -> str:
        """The entry as text, for the audit log."""
        return f"id={self.id}"


class RevealBody(EntryPage):
    """The entry to reveal, and why."""

    why: Why


P = TypeVar("P", bound=EntryPage)


@dataclass(frozen=True, slots=True)
class EntryView(Generic[P]):
    """Shows one entry as page and as JSON.

    ``read`` returns the entry, with its private parts only on request, or None. ``reveal_body`` has the fields of
    ``page`` and ``why``. ``name`` starts the name of a reveal in the audit log.
    """

    name: str
    home: str
    kind: str
    reply: type[BaseModel]
    page: type[P]
    reveal_body: type[P]
    read: Callable[[ConsoleState, P, bool], Awaitable[Json | None]]
    render: Callable[[web.Request, Json], web.Response]
    summary: str

    def routes(self) -> list[Route]:
        """Return the routes of the page, of its twin, and of the reveal."""
        path, reveal = f"{self.home}/{self.kind}", f"{self.home}/reveal"
        body, operator, summary = self.reveal_body, Role.OPERATOR, f"Reveal: {self.summary.lower()}"
        return [
            Route("GET", path, self._view, parameters=self.page, summary=self.summary),
            Route("GET", f"{API}{path}", self._answer, Role.VIEWER, self.page, self.reply, self.summary),
            Route("POST", reveal, self._view_revealed, operator, body, summary=summary),
            Route("POST", f"{API}{reveal}", self._answer_revealed, operator, body, self.reply, summary),
        ]

    async def _view(self, request: web.Request) -> web.StreamResponse:
        return self.render(request, await self._read(request, await parameters(request, self.page)))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        return json_reply(await self._read(request, await parameters(request, self.page)))

    async def _view_revealed(self, request: web.Request) -> web.StreamResponse:
        return self.render(request, await self._reveal(request))

    async def _answer_revealed(self, request: web.Request) -> web.StreamResponse:
        return json_reply(await self._reveal(request))

    async def _reveal(self, request: web.Request) -> Json:
        body = await parameters(request, self.reveal_body)
        entry = await self._read(request, body, reveal=True)
        action, why = f"{self.name}.reveal", body.model_dump()["why"]
        await state_of(request).audit.record(
            identity_of(request), action=action, scope=body.scope, count=1, why=why, result="shown"
        )
        return entry

    async def _read(self, request: web.Request, chosen: P, *, reveal: bool = False) -> Json:
        state = state_of(request)
        await state.require(EntryId.from_text(chosen.id).shard)
        entry = await self.read(state, chosen, reveal)
        if entry is None:
            raise web.HTTPNotFound(text=f"{chosen.id} is not here any more. {self.summary}: see the list.")
        return entry
