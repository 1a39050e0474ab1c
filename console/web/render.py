"""Renders pages and JSON, and reads parameters.

A page template extends ``base.html`` and gets the keys of its data as variables, besides ``frame``, ``ui`` (the macros
of ``_macros.html``), ``static(name)`` and the filters of console.web.filters. Values are escaped.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlencode

import jinja2
import orjson
from aiohttp import web
from multidict import MultiMapping
from pydantic import ValidationError

from console.web import filters, static_files
from console.web.access.guard import IDENTITY, local_path
from console.web.access.roles import Identity, Role
from console.web.route import Json, Parameters
from console.web.state import state_of

NOTE = "ackstream-note"
THEME = "ackstream-theme"
ZONE = "ackstream-zone"
STEPS = "ackstream-steps"
"""Cookies."""

NOTE_LENGTH = 500
NOTE_SECONDS = 60
BODY_SECONDS = 10.0
"""For the whole body of a request."""

P = TypeVar("P", bound=Parameters)


class WrongParameter(Exception):  # noqa: N818 - named for what is wrong
    """Parameters of a request cannot be used. ``fields`` has a sentence for each."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__(", ".join(fields))
        self.fields = fields


@dataclass(frozen=True, slots=True)
class Note:
    """One message above a page. ``tone`` is ok, warn, bad or empty; ``link`` is a path with its text."""

    title: str
    text: str = ""
    tone: str = "ok"
    link: str = ""
    link_text: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """The contents of the frame around a page."""

    path: str
    back: str
    """The path with its query."""
    now: datetime
    identity: Identity | None = None
    theme: str = ""
    zone: str = ""
    has_steps: bool = True
    counts: Mapping[str, int | None] | None = None
    note: Note | None = None
    live: str = ""
    """The URL of the page's live stream."""
    fault: str = ""
    """The nodes of a cluster that do not answer; empty on Overview, whose verdict names them."""
    command: str = ""
    twin: str = ""

    @property
    def can_act(self) -> bool:
        """Whether the person is at least an operator."""
        return self.identity is not None and self.identity.can(Role.OPERATOR)

    @property
    def is_admin(self) -> bool:
        """Whether the person is an admin."""
        return self.identity is not None and self.identity.can(Role.ADMIN)


@cache
def environment() -> jinja2.Environment:
    """Return the environment of all templates."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters.update(filters.FILTERS)
    made.globals.update(static=static_files.url_of)
    made.globals["ui"] = made.get_template("_macros.html").module
    return made


def render_page(
    request: web.Request,
    template: str,
    data: Mapping[str, Any],
    *,
    title: str,
    command: str = "",
    twin: str = "",
    live: str = "",
    live_query: Mapping[str, str] | None = None,
    status: int = 200,
) -> web.Response:
    """Return a page. ``command`` and ``twin`` are its equivalents in a terminal and as JSON.

    ``live`` is the name of its console.web.live.LivePage; without one only the frame is live. The stream gets the
    parameters of the page and those of ``live_query``.
    """
    frame = make_frame(request, command=command, twin=twin, live=live, live_query=live_query)
    text = environment().get_template(template).render(data, frame=frame, title=title)
    response = web.Response(text=text, status=status, content_type="text/html", charset="utf-8")
    response.enable_compression()
    if frame.note is not None:
        response.del_cookie(NOTE)
    return response


def make_frame(
    request: web.Request,
    *,
    command: str = "",
    twin: str = "",
    live: str = "",
    live_query: Mapping[str, str] | None = None,
) -> Frame:
    """Return the frame for the person who sends this request."""
    identity = request.get(IDENTITY)
    query = {"page": "frame"}
    if live:
        chosen = {name: value for name, value in request.query.items() if value}
        query = {**chosen, **request.match_info, **(live_query or {}), "page": live}
    return Frame(
        path=request.path,
        back=request.path_qs if request.method in ("GET", "HEAD") else "/",
        now=datetime.now(UTC),
        identity=identity,
        theme=request.cookies.get(THEME, ""),
        zone=request.cookies.get(ZONE, ""),
        has_steps=STEPS not in request.cookies,
        counts=count_open_work(request) if identity else None,
        note=_read_note(request),
        live=f"/live?{urlencode(query)}" if identity else "",
        fault=state_of(request).fault if identity and live != "overview" else "",
        command=command,
        twin=f"{twin}?{request.query_string}" if twin and request.query_string else twin,
    )


def count_open_work(request: web.Request) -> Mapping[str, int | None]:
    """Return the numbers of the menu."""
    latest = state_of(request).sampler.latest
    return {
        "dead": sum(group.dead for group in latest.groups.values()),
        "invalid": latest.redis.invalid,
        "quarantine": latest.redis.quarantined,
        "replays": latest.redis.running_replays,
    }


def json_reply(data: object, status: int = 200) -> web.Response:
    """Return JSON."""
    body = orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    response = web.Response(body=body, status=status, content_type="application/json")
    response.enable_compression()
    return response


def see_other(_request: web.Request, path: str, note: Note | None = None) -> web.Response:
    """Return the end of an action: 303 to a page of the console, which shows the note once."""
    response = web.Response(status=303, headers={"Location": path})
    if note is not None:
        parts = [note.tone, note.title[:NOTE_LENGTH], note.text[:NOTE_LENGTH], note.link, note.link_text]
        value = quote(orjson.dumps(parts))
        response.set_cookie(NOTE, value, max_age=NOTE_SECONDS, httponly=True, samesite="Strict")
    return response


def _read_note(request: web.Request) -> Note | None:
    try:
        tone, title, text, link, link_text = map(str, orjson.loads(unquote(request.cookies.get(NOTE, ""))))
    except ValueError:
        return None
    return Note(title, text, tone if tone in ("ok", "warn", "bad") else "", link and local_path(link), link_text)


async def parameters(request: web.Request, model: type[P]) -> P:
    """Parse the query of a GET, or the form or JSON of a POST, with the parts of the path. Raises WrongParameter."""
    values = dict(request.match_info)
    if request.method in ("GET", "HEAD"):
        return _validate(values | _collect(request.query, model), model)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            is_json = request.content_type == "application/json"
            body = await _read_json(request) if is_json else _collect(await _read_form(request), model)
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    return _validate(values | body, model)


def parse_query(query: MultiMapping[str], model: type[P]) -> P:
    """Parse the query of a live stream. Raises WrongParameter."""
    return _validate(_collect(query, model), model)


def _validate(values: Json, model: type[P]) -> P:
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        faults = {str(fault["loc"][0]) if fault["loc"] else "body": _sentence(fault["msg"]) for fault in exc.errors()}
        raise WrongParameter(faults) from None


async def _read_form(request: web.Request) -> Any:
    try:
        return await request.post()
    except (LookupError, ValueError):  # of an unknown charset, and of bytes that are not in it
        raise WrongParameter({"body": "It is not a form in UTF-8."}) from None


async def _read_json(request: web.Request) -> Json:
    try:
        body = orjson.loads(await request.read() or b"{}")
    except ValueError:
        raise WrongParameter({"body": "It is not JSON."}) from None
    if not isinstance(body, dict):
        raise WrongParameter({"body": "It is not a JSON object."})
    return body


def _collect(pairs: Any, model: type[Parameters]) -> Json:
    """Return the values by name: a list if the field takes several, and nothing for an empty field of a form."""
    values: Json = {}
    for name in dict.fromkeys(pairs):
        field = model.model_fields.get(name)
        several = [value for value in pairs.getall(name) if value != ""]
        takes_several = field is not None and "Sequence" in str(field.annotation)
        if len(several) > 1 and not takes_several:
            raise WrongParameter({name: "It is given twice."})
        if several:
            values[name] = several if takes_several else several[0]
    return values


def _sentence(text: str) -> str:
    words = text.removeprefix("Value error, ").strip().rstrip(".")
    return f"{words[:1].upper()}{words[1:]}."
