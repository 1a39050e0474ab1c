"""One route of the console: its path, the role that it needs, and its handler.

Every page and action declares its routes; console.web.routes collects them. The guard checks the role before the
handler runs, so a hidden button is never the only protection. GET routes change nothing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from console.web.access.roles import Role

API = "/api/v1"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Parameters(BaseModel):
    """Parameters of a route: each has a limit, and unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class NoParameters(Parameters):
    """No parameters."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route. ``role`` is None for routes that need no sign-in.

    ``parameters`` describes the query of a GET, and the form or JSON body of a POST. ``reply`` describes the JSON of an
    API route. Both become part of the OpenAPI document.
    """

    method: Literal["GET", "POST"]
    path: str
    handler: Handler
    role: Role | None = Role.VIEWER
    parameters: type[Parameters] = NoParameters
    reply: type[BaseModel] | None = None
    summary: str = ""
    is_stream: bool = False
    """The answer has no end, so the route does not answer HEAD."""

    @property
    def is_api(self) -> bool:
        """Whether the route answers JSON and takes bearer tokens."""
        return self.path.startswith(API)


Json = dict[str, Any]
