"""The page of payloads by cause, of one payload and its reveal, which invalid payloads and the quarantine share."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aiohttp import web
from pydantic import BaseModel

from console.queries.causes.counting import Describe, Streams, count_causes, read_page
from console.web.access.roles import Identity, Role
from console.web.actions.bulk import CONFLICT, NEWS_SECONDS, BulkBody, CausePage, link, newest_keys, summarize
from console.web.actions.entry import EntryPage, EntryView, RevealBody
from console.web.live import LivePage
from console.web.render import json_reply, parameters, render_page
from console.web.route import API, Json, Route
from console.web.state import ConsoleState, state_of
from stream.entry import EntryId
from stream.keys import Shard
from worker.replay.entry_reader import Stored


@dataclass(frozen=True, slots=True)
class PayloadList:
    """The pages of one kind of payloads. ``name`` is that of the template, of the path and of the command.

    ``read`` returns the causes with the payloads of one cause (`read_causes`), and ``read_payload`` one payload, with
    its private parts only on request, or None. ``payload_template`` shows one payload, and ``kind`` names it.
    """

    name: str
    title: str
    kind: str
    payload_template: str
    reply: type[BaseModel]
    payload_reply: type[BaseModel]
    read: Callable[[ConsoleState, CausePage], Awaitable[Json]]
    read_payload: Callable[[ConsoleState, EntryId, bool], Awaitable[Json | None]]
    find_streams: Callable[[Sequence[Shard]], Streams]

    @property
    def path(self) -> str:
        """The path of the list."""
        return f"/{self.name}"

    @property
    def live(self) -> LivePage:
        """The live region, which says how many payloads are new."""
        return LivePage(self.name, f"{self.name}.html", ("news",), self._read_news, CausePage, NEWS_SECONDS)

    def routes(self) -> Sequence[Route]:
        """Return the routes of the list, of one payload, and of the reveal."""
        summary = f"{self.kind}s by cause"
        return [
            Route("GET", self.path, self._view, parameters=CausePage, summary=summary),
            Route("GET", f"{API}{self.path}", self._answer, Role.VIEWER, CausePage, self.reply, summary),
            *EntryView(
                self.name,
                self.path,
                "payload",
                self.payload_reply,
                EntryPage,
                RevealBody,
                self._read_payload,
                self._render_payload,
                f"One {self.kind.lower()}",
            ).routes(),
        ]

    async def show(self, request: web.Request, body: BulkBody, opened: str, fault: str) -> web.Response:
        """Show the page again with an open dialog and a sentence, after the number has changed."""
        return await self._render(request, CausePage(cause=body.cause), opened=opened, fault=fault, status=CONFLICT)

    async def _view(self, request: web.Request) -> web.Response:
        return await self._render(request, await parameters(request, CausePage))

    async def _answer(self, request: web.Request) -> web.Response:
        return json_reply(await self.read(state_of(request), await parameters(request, CausePage)))

    async def _render(
        self, request: web.Request, chosen: CausePage, *, opened: str = "", fault: str = "", status: int = 200
    ) -> web.Response:
        data = await self.read(state_of(request), chosen)
        shown = {"data": data, "keys": newest_keys(data), "cause": data["cause"], "chosen": chosen}
        return render_page(
            request,
            f"{self.name}.html",
            {**shown, "opened": opened, "fault": fault},
            title=self.title,
            command=f"ackstream {self.name} list",
            twin=f"{API}{self.path}",
            live=self.name,
            status=status,
        )

    async def _read_news(self, state: ConsoleState, _chosen: CausePage, _identity: Identity) -> Json:
        streams = self.find_streams(await state.find_answering())
        return {"keys": await streams.newest_keys(state.server)}

    async def _read_payload(self, state: ConsoleState, chosen: EntryPage, reveal: bool) -> Json | None:
        return await self.read_payload(state, EntryId.from_text(chosen.id), reveal)

    def _render_payload(self, request: web.Request, payload: Json) -> web.Response:
        path = f"{API}{self.path}/payload"
        return render_page(
            request,
            self.payload_template,
            {"payload": payload},
            title=self.kind,
            command=f"ackstream {self.name} show {payload['id']}" + (" --reveal" if payload["is_revealed"] else ""),
            twin=path if request.query_string else link(path, id=payload["id"]),
        )


async def read_causes(
    state: ConsoleState, chosen: CausePage, streams: Streams, describe: Describe, show: Callable[[Stored], Json]
) -> Json:
    """Return the causes, and the payloads of one cause as ``show`` returns them. Raises RedisError."""
    counted = await count_causes(state.server, streams, describe)
    data = {**summarize(counted, streams.most), "away": state.describe_away()}
    cause = counted.causes.find(chosen.cause)
    if cause is None:
        return {**data, "cause": None}
    entries, has_more = [("", stored) for stored in cause.newest], cause.count > len(cause.newest)
    if chosen.before is not None:
        older = streams.before(EntryId.from_text(chosen.before))
        entries, has_more = await read_page(state.server, older, describe, cause.id)
    rows = [show(stored) for _, stored in entries]
    page = {"payloads": rows, "position": chosen.position, "older": rows[-1]["id"] if has_more and rows else None}
    return {**data, "cause": {**cause.summary(), **page}}
