"""Erase one message from all places: count, confirm the number, and see the result. Only for admins."""

import shlex
from typing import Annotated
from urllib.parse import quote

from aiohttp import web
from pydantic import BaseModel, Field

from console.web.access.roles import Role
from console.web.actions.bulk import CONFLICT, Why
from console.web.erasure.board import describe_job
from console.web.pages.message import PATH, MessageId
from console.web.render import Note, json_reply, parameters, render_page, see_other
from console.web.route import API, Json, Parameters, Route
from console.web.state import identity_of, state_of
from runtime.errors import CommandError

CHANGED = "Nothing was erased: the number is not the one that was found last. Look again, then confirm it."


class ErasePath(Parameters):
    """The message."""

    message_uuid: MessageId


class EraseBody(ErasePath):
    """The message to erase, with the number of records that the person has confirmed."""

    expected: Annotated[int, Field(ge=1, le=1_000_000_000)]
    why: Why


class EraseReply(BaseModel):
    """The records of a message. ``state`` is new, counting, counted, erasing, done or failed."""

    message_uuid: str
    state: str
    number: int
    found: dict[str, int]
    erased: dict[str, int]
    unreachable: list[str]
    progress: str
    fault: str


def _read(request: web.Request, message_uuid: str) -> Json:
    return describe_job(message_uuid, state_of(request).erasures.find(message_uuid))


async def view(request: web.Request) -> web.Response:
    """Show how many records were found, the confirmation, or the result."""
    chosen = await parameters(request, ErasePath)
    return _render(request, _read(request, chosen.message_uuid))


async def twin(request: web.Request) -> web.Response:
    """Answer how many records were found and erased."""
    return json_reply(_read(request, (await parameters(request, ErasePath)).message_uuid))


async def count(request: web.Request) -> web.Response:
    """Start to count, and show the page."""
    chosen = await parameters(request, ErasePath)
    try:
        state_of(request).erasures.count(chosen.message_uuid)
    except CommandError as exc:
        return see_other(request, _path(chosen.message_uuid), Note("Nothing was counted.", str(exc), "bad"))
    return see_other(request, f"{_path(chosen.message_uuid)}/erase")


async def count_twin(request: web.Request) -> web.Response:
    """Start to count; 409 if too many messages are being erased."""
    chosen = await parameters(request, ErasePath)
    try:
        state_of(request).erasures.count(chosen.message_uuid)
    except CommandError as exc:
        return json_reply({"error": str(exc)}, CONFLICT)
    return json_reply(_read(request, chosen.message_uuid))


def _erase(request: web.Request, body: EraseBody) -> bool:
    job = state_of(request).erasures.erase(body.message_uuid, identity_of(request), body.expected, body.why)
    return job is not None


async def erase(request: web.Request) -> web.Response:
    """Start to erase, and show the page; or show it with the reason why nothing is erased."""
    body = await parameters(request, EraseBody)
    if not _erase(request, body):
        return _render(request, _read(request, body.message_uuid) | {"fault": CHANGED}, status=CONFLICT)
    return see_other(request, f"{_path(body.message_uuid)}/erase")


async def erase_twin(request: web.Request) -> web.Response:
    """Start to erase; 409 if the number has changed or was not counted."""
    body = await parameters(request, EraseBody)
    if not _erase(request, body):
        return json_reply({"error": CHANGED}, CONFLICT)
    return json_reply(_read(request, body.message_uuid))


def _path(message_uuid: str) -> str:
    return f"/messages/{quote(message_uuid, safe='')}"


def _render(request: web.Request, data: Json, status: int = 200) -> web.Response:
    path = _path(data["message_uuid"])
    return render_page(
        request,
        "erase.html",
        {"job": data, "path": path},
        title=f"Erase message {data['message_uuid'][:8]}",
        command=f"ackstream erase --message {shlex.quote(data['message_uuid'])}",
        twin=f"{API}{path}/erase",
        status=status,
    )


ROUTES = [
    Route("GET", f"{PATH}/erase", view, Role.ADMIN, ErasePath, summary="Erase a message"),
    Route("POST", f"{PATH}/erase/count", count, Role.ADMIN, ErasePath, summary="Count the records of a message"),
    Route("POST", f"{PATH}/erase", erase, Role.ADMIN, EraseBody, summary="Erase a message"),
    Route("GET", f"{API}{PATH}/erase", twin, Role.ADMIN, ErasePath, EraseReply, "Records of a message to erase"),
    Route("POST", f"{API}{PATH}/erase/count", count_twin, Role.ADMIN, ErasePath, EraseReply, "Count the records"),
    Route("POST", f"{API}{PATH}/erase", erase_twin, Role.ADMIN, EraseBody, EraseReply, "Erase a message"),
]
