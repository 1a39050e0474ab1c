"""The console's process: its connections, and the order in which its parts start and stop."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import structlog
from aiohttp import web
from aiosqlite import Connection

from console.doctor.board import open_board
from console.queries.run.replay_plans import open_plans
from console.web import failures, routes
from console.web.access.control import AccessControl
from console.web.access.guard import ACCESS, add_headers, make_guard
from console.web.access.links import format_link
from console.web.access.perimeter import Perimeter
from console.web.access.roles import Role
from console.web.database import open_console_database
from console.web.erasure.board import ErasureBoard
from console.web.live import LiveStreams
from console.web.metrics.gauges import REGISTRY
from console.web.overview.simulation import run_simulation
from console.web.route import Route
from console.web.sampling.sampler import run_sampler
from console.web.settings import ConsoleSettings
from console.web.site.listener import keep_connection, limit_request, open_site
from console.web.state import STATE, ConsoleState
from runtime import health
from runtime.disk import make_folder, try_lock
from runtime.errors import CommandError
from runtime.metrics import PROCESS
from stream.redis.client import client, redact_url
from stream.shard_watch import watch_shards
from worker.store.database import close_engine, open_engine

log = structlog.get_logger("console")

BODY_BYTES = 64 * 1024


async def serve(
    settings: ConsoleSettings, stop: asyncio.Event, print_link: Callable[[str], None] | None = None
) -> None:
    """Serve the console until ``stop``. Live streams end at once, other requests may finish.

    If the console has no users, ``print_link`` is called with a link that signs in once. Raises CommandError if another
    console runs on the data folder.
    """
    _lock_data(settings)
    server = client(settings.redis_url)
    engine = open_engine(settings.database_url, read_only=True)
    try:
        async with (
            open_console_database(settings.console_database) as database,
            watch_shards(server, settings, stop, creates=False) as watch,
            run_sampler(settings, server, watch.find_shards, engine, database) as sampler,
            open_plans(server) as plans,
            run_simulation(settings) as simulation,
            open_board() as checks,
        ):
            access = _open_access(settings, database)
            await access.audit.drop_old()
            erasures = ErasureBoard(settings, access.audit)
            parts = access.audit, plans, simulation, checks, erasures
            state = ConsoleState(settings, server, watch.shards, watch.find_shards, engine, sampler, *parts)
            async with (
                aclosing(erasures),
                open_site(make_app(state, access, stop), settings) as port,
                health.run_health_server(
                    settings.admin_host, settings.admin_port, lambda: None, REGISTRY
                ) as admin_port,
            ):
                PROCESS.labels("console").set(1)
                redis = redact_url(settings.redis_url)
                log.info("console.started", host=settings.console_host, port=port, admin_port=admin_port, redis=redis)
                if print_link is not None and not access.users.users():
                    url = settings.model_copy(update={"console_port": port}).browser_url
                    print_link(format_link(url, await access.links.create(Role.ADMIN)))
                await stop.wait()
    finally:
        await close_engine(engine)
        await server.aclose()
    log.info("console.stopped")


def _lock_data(settings: ConsoleSettings) -> None:
    """Lock the folder of the console's own data until this process ends: two samplers would count webhooks twice."""
    folder = settings.console_database.parent
    make_folder(folder)
    if try_lock(folder / "console.lock") is None:
        raise CommandError(f"another console runs on {folder}: stop it, or choose another data folder (--data)")


def _open_access(settings: ConsoleSettings, database: Connection) -> AccessControl:
    perimeter = Perimeter(
        settings.hosts,
        allowed_hosts=settings.allowed_hosts,
        proxies=settings.proxies,
        user_header=settings.console_user_header,
    )
    return AccessControl.open(database, settings.users_file, perimeter, audit_seconds=settings.audit_seconds)


def make_app(state: ConsoleState, access: AccessControl, stop: asyncio.Event) -> web.Application:
    """Return the application with all routes, behind the guard."""
    app = web.Application(middlewares=[limit_request, failures.explain_failures], client_max_size=BODY_BYTES)
    app[STATE], app[ACCESS] = state, access
    app.on_response_prepare.append(add_headers)
    listed = routes.collect(LiveStreams(routes.LIVE, stop))
    roles = {(str(route.method), _add_route(app, route)): route.role for route in listed}
    app.middlewares.extend([make_guard(access, roles), keep_connection])
    return app


def _add_route(app: web.Application, route: Route) -> str:
    """Add the route; return its path in the form that the guard sees."""
    if route.method == "GET" and not route.is_stream:
        resource = app.router.add_get(route.path, route.handler).resource  # HEAD too
    else:
        resource = app.router.add_route(route.method, route.path, route.handler).resource
    assert resource is not None  # noqa: S101 - it was added with a path
    return resource.canonical
