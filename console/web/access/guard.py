"""The checks of every request, in this order: host, origin, identity, route, role. And the headers of every answer."""

from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import quote, urlsplit

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from console.web.access.control import AccessControl
from console.web.access.roles import Identity, Role

API = "/api/v1"
SIGN_IN = "/sign-in"
LONGEST_NEXT = 2000

# Referrer-Policy is not no-referrer: browsers would then send Origin: null with the console's own forms, and over HTTP
# they send no Sec-Fetch-Site (https://fetch.spec.whatwg.org/#append-a-request-origin-header).
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

ACCESS = web.AppKey("access", AccessControl)
IDENTITY = web.RequestKey("identity", Identity)

Roles = Mapping[tuple[str, str], Role | None]
"""The role that each route needs, by method and path; None for a route without sign-in."""


def make_guard(control: AccessControl, roles: Roles) -> Middleware:
    """Return the middleware that checks each request. A route that ``roles`` lacks is answered 404."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not control.perimeter.is_known_host(request):
            _refuse(
                request,
                web.HTTPMisdirectedRequest,
                "The console does not accept this host name: add it to ACKSTREAM_CONSOLE_ALLOWED_HOSTS.",
            )
        resource = request.match_info.route.resource
        path = resource.canonical if resource else request.path
        method = "GET" if request.method == "HEAD" else request.method
        is_listed, role = (method, path) in roles, roles.get((method, path))
        if is_listed and role is None:
            _check_origin(control, request)
            return await handler(request)
        request[IDENTITY] = identity = await _find_identity(control, request, is_api=_is_api(path))
        if not is_listed:
            if request.match_info.http_exception is not None:  # 404 or 405, which only a known person may learn
                return await handler(request)
            _refuse(request, web.HTTPNotFound, "The console has no such page.")
        if role is not None and not identity.can(role):
            sentence = f"This needs the role {role}; {identity.name} has the role {identity.role}."
            _refuse(request, web.HTTPForbidden, sentence)
        return await handler(request)

    return guard


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Add the security headers to a response; connect it to ``on_response_prepare``.

    Responses are not stored, unless the handler has set Cache-Control.
    """
    response.headers.popall("Server", None)
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


class GuardedHandler(web.RequestHandler):
    """A connection on which answers to malformed HTTP have the security headers too, and do not quote the request."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - quotes the request
    ) -> web.StreamResponse:
        """Return the answer; aiohttp closes the connection after it."""
        response = super().handle_error(request, status, exc, "The request is not valid HTTP.\n")
        response.headers.update({**HEADERS, "Cache-Control": "no-store", "Server": "Ackstream"})
        return response


def local_path(path: str) -> str:
    """Return a path of this console to go to after sign-in; ``/`` unless the argument is one."""
    is_local = path.startswith("/") and path[1:2] not in ("/", "\\") and path.isascii() and path.isprintable()
    return path if is_local and len(path) <= LONGEST_NEXT and not path.startswith(SIGN_IN) else "/"


async def _find_identity(control: AccessControl, request: web.Request, *, is_api: bool) -> Identity:
    """Return who sends the request. Raises the answer to a stranger, and to a page of another site."""
    if is_api and (token := _bearer_token(request)) is not None:
        identity = await control.identify_token(request, token)
    else:
        _check_origin(control, request)
        identity = await control.identify(request)
    if identity is None:
        _ask_to_sign_in(request, control, is_api=is_api)
    return identity


def _bearer_token(request: web.Request) -> str | None:
    """Return the token; browsers never add one by themselves, so it needs no check of the origin."""
    values = request.headers.getall("Authorization", [])
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else None


def _check_origin(control: AccessControl, request: web.Request) -> None:
    """Refuse a request that changes something and comes from a page of another site."""
    if request.method in ("GET", "HEAD"):
        return
    if control.perimeter.is_cross_site(request, has_credentials=control.has_credentials(request)):
        _refuse(
            request,
            web.HTTPForbidden,
            "The console accepts this only from its own pages. Behind a reverse proxy: pass the Host header, and name "
            "the proxy in ACKSTREAM_CONSOLE_PROXIES.",
        )


def _ask_to_sign_in(request: web.Request, control: AccessControl, *, is_api: bool) -> NoReturn:
    if is_api:
        sentence = "Sign in, or send a token of `ackstream console token add` as Authorization: Bearer."
        _refuse(request, web.HTTPUnauthorized, sentence, {"WWW-Authenticate": "Bearer"})
    if control.perimeter.named_user(request) is not None:
        _refuse(
            request,
            web.HTTPForbidden,
            "This console does not know your name: its operator adds it with "
            "`ackstream console user add NAME --no-password`.",
        )
    if "HX-Request" in request.headers:  # a redirect would put the sign-in page into a part of the page
        target = _sign_in_path(_current_page(request))
        _refuse(request, web.HTTPUnauthorized, "Sign in.", {"HX-Redirect": target})
    raise web.HTTPSeeOther(_sign_in_path(request.path_qs if request.method in ("GET", "HEAD") else "/"))


def _current_page(request: web.Request) -> str:
    """Return the path and query of the page that htmx sends a request from."""
    try:
        url = urlsplit(request.headers.get("HX-Current-URL", ""))
    except ValueError:
        return "/"
    return f"{url.path}?{url.query}" if url.query else url.path


def _sign_in_path(page: str) -> str:
    """Return the path of the sign-in page, which leads to this page afterwards."""
    return SIGN_IN if local_path(page) == "/" else f"{SIGN_IN}?next={quote(page, safe='/')}"


def _is_api(path: str) -> bool:
    return path == API or path.startswith(f"{API}/")


def _refuse(
    request: web.Request, answer: type[web.HTTPException], sentence: str, headers: Mapping[str, str] | None = None
) -> NoReturn:
    """Raise the answer with a sentence, in JSON on an API route."""
    if _is_api(request.path):
        body = orjson.dumps({"error": sentence}).decode()
        raise answer(text=body, content_type="application/json", headers=headers)
    raise answer(text=sentence, headers=headers)
