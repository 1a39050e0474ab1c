"""All routes and live pages of the console."""

from collections.abc import Sequence
from itertools import chain

from console.web import openapi, static_files
from console.web.live import LivePage, LiveStreams, make_routes
from console.web.pages import (
    dead_letters,
    erase,
    invalid,
    message,
    messages,
    overview,
    preferences,
    quarantine,
    runbooks,
    sign_in,
    statuses,
)
from console.web.pages.run import audit, checks, group, groups, replay_acts, replays, settings_page
from console.web.route import Route

PAGES = (
    sign_in.ROUTES,
    overview.ROUTES,
    runbooks.ROUTES,
    preferences.ROUTES,
    statuses.ROUTES,
    messages.ROUTES,
    message.ROUTES,
    erase.ROUTES,
    dead_letters.ROUTES,
    invalid.ROUTES,
    quarantine.ROUTES,
    replays.ROUTES,
    replay_acts.ROUTES,
    groups.ROUTES,
    group.ROUTES,
    settings_page.ROUTES,
    checks.ROUTES,
    audit.ROUTES,
)
LIVE: Sequence[LivePage] = (
    overview.LIVE,
    statuses.LIVE,
    messages.LIVE,
    dead_letters.LIVE,
    dead_letters.LIVE_CAUSE,
    invalid.LIVE,
    quarantine.LIVE,
    replays.LIVE,
    groups.LIVE,
    group.LIVE,
    checks.LIVE,
)
STATIC = Route(
    "GET", f"{static_files.PREFIX}/{{digest}}/{{name:.+}}", static_files.serve_file, None, summary="A static file"
)


def collect(streams: LiveStreams) -> Sequence[Route]:
    """Return all routes."""
    routes = [STATIC, *chain.from_iterable(PAGES), *make_routes(streams)]
    return [*routes, openapi.make_route(routes)]
