"""``GET /live``: one stream a tab, with the HTML of a page's live regions.

A live region is a block of the page's template, within an element that has ``data-live="BLOCK"``. Each tick renders the
regions once for all viewers of the same page, parameters and role; a viewer gets only the regions that changed. The
frame's clock and the numbers of the menu come with every tick.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from aiohttp_sse import sse_response
from multidict import MultiDict

from console.web.access.guard import ACCESS
from console.web.access.roles import Identity, Role
from console.web.failures import AWAY, render_away, report_fault
from console.web.filters import format_number
from console.web.render import count_open_work, environment, make_frame, parse_query
from console.web.route import Json, NoParameters, Parameters, Route
from console.web.state import ConsoleState, identity_of, state_of

TICK_SECONDS = 1.0
CHECK_TICKS = 5
"""The ticks between two checks that the session of a stream has not ended."""
MAX_STREAMS = 500
SEND_SECONDS = 20.0

Read = Callable[[ConsoleState, Any, Identity], Awaitable[Json]]


@dataclass(frozen=True, slots=True)
class LivePage:
    """A page with live regions: the blocks of its template that the stream renders again.

    ``read`` returns the data of these blocks. ``seconds`` is the time between two calls.
    """

    name: str
    template: str
    regions: Sequence[str]
    read: Read
    parameters: type[Parameters] = NoParameters
    seconds: float = TICK_SECONDS


@dataclass(slots=True)
class _Rendering:
    """The regions of one page for all its viewers."""

    rendered_at: float = -1.0
    regions: Mapping[str, str] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    viewers: int = 0


class LiveStreams:
    """All streams of a console: the live pages by name, and their renderings of the last tick."""

    def __init__(self, pages: Sequence[LivePage], stop: asyncio.Event) -> None:
        self._pages = {page.name: page for page in pages}
        self._stop = stop
        self._renderings: dict[tuple[str, str, Role], _Rendering] = {}
        self._count = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Stream the live regions of a page until the tab goes, or the console stops."""
        query = MultiDict(request.query)
        name = query.pop("page", "frame")
        page = self._pages.get(name)
        if page is None and name != "frame":
            raise web.HTTPNotFound
        chosen = parse_query(query, page.parameters if page else NoParameters)
        if self._count >= MAX_STREAMS:
            raise web.HTTPServiceUnavailable(text="Too many open pages.")
        key = (name, chosen.model_dump_json(), identity_of(request).role)
        rendering = self._renderings.setdefault(key, _Rendering())
        rendering.viewers += 1
        self._count += 1
        try:
            return await self._stream(request, page, chosen, rendering)
        finally:
            self._count -= 1
            rendering.viewers -= 1
            if not rendering.viewers:
                self._renderings.pop(key, None)

    async def _stream(
        self, request: web.Request, page: LivePage | None, chosen: Parameters, rendering: _Rendering
    ) -> web.StreamResponse:
        sent: Mapping[str, str] = {}
        checks = 0
        if request.transport is None:  # the tab went before its stream started
            return web.Response()
        async with sse_response(request, send_timeout=SEND_SECONDS) as stream:
            while not self._stop.is_set():
                try:
                    regions = _render_frame(request) | await self._render(request, page, chosen, rendering)
                except Exception as exc:  # noqa: BLE001 - a fault of our code, after the head of the answer
                    report_fault(request, exc)
                    break
                changed = [text for target, text in regions.items() if sent.get(target) != text]
                sent = {**sent, **regions}
                try:
                    await stream.send("".join(changed))
                except (ConnectionResetError, TimeoutError):
                    break
                await self._wait()
                checks += 1
                if checks % CHECK_TICKS == 0 and await request.app[ACCESS].identify(request, is_use=False) is None:
                    break  # signed out elsewhere, or the session has ended
        return stream

    async def _wait(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(TICK_SECONDS - now % TICK_SECONDS):  # all viewers at the same moment
                await self._stop.wait()
        except TimeoutError:
            return

    async def _render(
        self, request: web.Request, page: LivePage | None, chosen: Parameters, rendering: _Rendering
    ) -> dict[str, str]:
        if page is None:
            return {}
        async with rendering.lock:
            now = asyncio.get_running_loop().time()
            if now - rendering.rendered_at > page.seconds / 2:
                rendering.rendered_at = now
                try:
                    data = await page.read(state_of(request), chosen, identity_of(request))
                except AWAY as exc:
                    rendering.regions = {"#away": _partial("#away", "innerMorph", render_away(request, exc))}
                else:
                    rendering.regions = {
                        "#away": _partial("#away", "innerMorph", ""),
                        **_render_regions(request, page, data),
                    }
        return dict(rendering.regions)


def _render_regions(request: web.Request, page: LivePage, data: Json) -> Mapping[str, str]:
    template = environment().get_template(page.template)
    context = template.new_context({**data, "frame": make_frame(request, live=page.name)})
    return {
        region: _partial(f"[data-live={region}]", "innerMorph", "".join(template.blocks[region](context)))
        for region in page.regions
    }


def _render_frame(request: web.Request) -> dict[str, str]:
    now = datetime.now(UTC)
    counts = {
        f"#count-{name}": _partial(f"#count-{name}", "textContent", format_number(number) if number else "")
        for name, number in count_open_work(request).items()
    }
    clock = f'<time class="soft" id="now" datetime="{now:%Y-%m-%dT%H:%M:%SZ}">{now:%H:%M:%S} UTC</time>'
    fault = state_of(request).fault if request.query.get("page") != "overview" else ""
    note = environment().get_template("_fault.html").render(fault=fault)
    return {
        **counts,
        "#now": _partial("#now", "outerMorph", clock),
        "#fault": _partial("#fault", "innerMorph", note),
    }


def _partial(target: str, swap: str, html: str) -> str:
    return f'<hx-partial hx-target="{target}" hx-swap="{swap}">{html}</hx-partial>'


def make_routes(streams: LiveStreams) -> Sequence[Route]:
    """Return the route of the streams."""
    return [Route("GET", "/live", streams.serve, Role.VIEWER, summary="Live regions of a page", is_stream=True)]
