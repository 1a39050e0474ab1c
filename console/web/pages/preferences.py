"""The choices of a person about the console itself, in cookies: appearance, time zone, and the hidden first steps."""

from typing import Annotated, Literal

from aiohttp import web
from pydantic import AfterValidator, StringConstraints

from console.web.access.guard import local_path
from console.web.access.roles import Role
from console.web.render import STEPS, THEME, ZONE, parameters, see_other
from console.web.route import Parameters, Route

COOKIE_SECONDS = 400 * 86_400  # the most that browsers keep
DEFAULTS = ("auto", "utc", "open")


class Preferences(Parameters):
    """The form of the account menu. ``back`` is the page to return to."""

    theme: Literal["auto", "light", "dark"] | None = None
    zone: Literal["utc", "device"] | None = None
    steps: Literal["open", "hidden"] | None = None
    back: Annotated[str, AfterValidator(local_path), StringConstraints(max_length=2000)] = "/"


async def save(request: web.Request) -> web.Response:
    """Keep the choices, and return to the page."""
    chosen = await parameters(request, Preferences)
    response = see_other(request, chosen.back)
    for name, value in ((THEME, chosen.theme), (ZONE, chosen.zone), (STEPS, chosen.steps)):
        if value in DEFAULTS:
            response.del_cookie(name)
        elif value is not None:
            response.set_cookie(name, value, max_age=COOKIE_SECONDS, httponly=True, samesite="Lax")
    return response


ROUTES = [Route("POST", "/preferences", save, Role.VIEWER, Preferences, summary="Choose appearance and time zone")]
