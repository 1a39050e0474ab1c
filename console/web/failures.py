"""Turns errors of handlers into pages in the frame of the console, or into JSON for the API."""

import sqlite3
from pathlib import Path
from traceback import extract_tb

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from console.format import NODE_STEP, PARTLY_DONE
from console.queries.statuses.reading import QueryTooSlow
from console.web.render import WrongParameter, environment, json_reply, render_page
from console.web.route import API, Json
from console.web.state import ShardsAway, state_of
from runtime.errors import PartlyDone
from stream.redis.client import describe_error
from stream.redis.cluster import is_lost
from worker.store.database import DatabaseAway

log = structlog.get_logger("console")

AWAY_STATUS = 503
AWAY = (QueryTooSlow, RedisError, DatabaseAway, DBAPIError, PoolTimeoutError, OSError, sqlite3.Error)
"""Errors of a part that does not answer, or not in time."""
KEPT_HEADERS = frozenset(("Allow", "HX-Redirect", "Retry-After", "WWW-Authenticate"))
TEXTS = {
    400: ("This request is not valid.", "Go back and correct it."),
    401: ("Sign in first.", ""),
    403: ("You may not do this.", "Your role allows you to look, but not to act. An admin can change it."),
    404: ("The console has no such page.", "Check the address, or choose a page in the menu."),
    405: ("This address does not take such a request.", ""),
    408: ("The request did not arrive in time.", "Try again."),
    413: ("The request is too large.", ""),
    421: ("The console does not answer under this name.", "Add it to ACKSTREAM_CONSOLE_ALLOWED_HOSTS."),
    429: ("Too many tries.", "Wait a minute, then try again."),
    503: ("This takes too long.", "Choose a shorter time or more filters."),
    500: ("The console failed at this request.", "Its log has the error. Nothing else stopped."),
}
NODE_AWAY = "A node of the cluster does not answer."
OWN_FILES = ("The console cannot use its own files.", None, "Its log has the reason. Webhooks are handled as before.")


@web.middleware
async def explain_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer an error of the handler with its page or JSON. Redirects pass through."""
    try:
        return await handler(request)
    except web.HTTPException as exc:
        if exc.status < 400 or exc.content_type == "application/json":  # noqa: PLR2004 - the first status of an error
            raise
        has_text = exc.text and exc.text != f"{exc.status}: {exc.reason}"
        answer = _refuse(request, exc.status, exc.text if has_text else None)
        answer.headers.update({name: value for name, value in exc.headers.items() if name in KEPT_HEADERS})
        return answer
    except WrongParameter as exc:
        return _refuse_parameters(request, exc)
    except (ShardsAway, PartlyDone) as exc:
        away = isinstance(exc, ShardsAway)
        title, text = (NODE_AWAY, f"{exc} S{NODE_STEP[1:]}.") if away else ("Not finished.", f"{exc}.")
        return _explain(request, AWAY_STATUS, title, text, "")
    except AWAY as exc:
        return await _report_away(request, exc)
    except Exception as exc:  # noqa: BLE001 - a fault of our code
        report_fault(request, exc)
        return _refuse(request, 500, None)


def report_fault(request: web.Request, exc: Exception) -> None:
    """Log an error of our code by its class and place only: its text may quote private data."""
    frame = extract_tb(exc.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    log.error("console.failed", error=describe_error(exc), at=place, path=request.path, sampled=True)


def _refuse(request: web.Request, status: int, text: str | None) -> web.Response:
    title, advice = TEXTS.get(status, TEXTS[400] if status < 500 else TEXTS[500])  # noqa: PLR2004 - the server's fault
    return _explain(request, status, title, text, advice)


def _explain(request: web.Request, status: int, title: str, text: str | None, advice: str) -> web.Response:
    if request.path.startswith(API):
        return json_reply({"error": text or " ".join(filter(None, (title, advice)))}, status)
    data = {"heading": title, "advice": text or advice, "faults": {}}
    return render_page(request, "error.html", data, title=title, status=status)


def _refuse_parameters(request: web.Request, exc: WrongParameter) -> web.Response:
    title, _ = TEXTS[400]
    if request.path.startswith(API):
        return json_reply({"error": title, "fields": exc.fields}, 400)
    data = {"heading": title, "advice": "", "faults": exc.fields}
    return render_page(request, "error.html", data, title=title, status=400)


async def _report_away(request: web.Request, exc: BaseException) -> web.Response:
    if isinstance(exc, QueryTooSlow):
        return _refuse(request, AWAY_STATUS, f"{exc}.")
    if is_lost(exc) and (fault := await state_of(request).find_fault()):
        step = "Load the page again" if request.method == "GET" else PARTLY_DONE.capitalize()
        return _explain(request, AWAY_STATUS, NODE_AWAY, f"{fault} {step}.", "")
    if isinstance(exc, sqlite3.Error) or (isinstance(exc, OSError) and exc.filename is not None):
        log.error("console.files_away", error=describe_error(exc), file=str(getattr(exc, "filename", "")), sampled=True)
        return _explain(request, AWAY_STATUS, *OWN_FILES)
    data = _describe_away(request, exc)
    log.warning("console.away", part=data["part"], error=describe_error(exc), path=request.path, sampled=True)
    if request.path.startswith(API):
        name = "Redis" if data["part"] == "redis" else "the database"
        return json_reply({"error": f"{name} does not answer", "since": data["since"]}, AWAY_STATUS)
    return render_page(request, "away.html", data, title="No answer", status=AWAY_STATUS)


def render_away(request: web.Request, exc: BaseException) -> str:
    """Return the note about a part that does not answer, for a page that is shown already."""
    return environment().get_template("_away.html").render(_describe_away(request, exc))


def _describe_away(request: web.Request, exc: BaseException) -> Json:
    latest = state_of(request).sampler.latest
    part = "redis" if isinstance(exc, RedisError) else "database"
    away = latest.redis.away if part == "redis" else latest.database
    return {"part": part, "since": away.since if away else None, "spooled": latest.spooled}
