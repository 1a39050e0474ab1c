"""Makes the handlers that ``ACKSTREAM_HANDLERS`` names."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import aiohttp
import structlog
from yarl import URL

from runtime.errors import CommandError
from worker.dispatch.call import Handler, Limits
from worker.dispatch.target_check import Check
from worker.events.event import StatusEvent
from worker.handler_tracing import TracedHandler, trace_requests
from worker.handlers.forward import Forward, open_session
from worker.handlers.function import ListFunction, SingleEventFunction, load
from worker.handlers.log import Log
from worker.handlers.request import parse_url, read_headers
from worker.handlers.spec import BUILT_IN, Options, Spec
from worker.settings import WorkerSettings
from worker.settle.retry_policy import RetryPolicy

if TYPE_CHECKING:
    from runtime.tracing.tracer import Tracing

log = structlog.get_logger("forward")


@dataclass(frozen=True, slots=True)
class LoadedHandler:
    """A handler with its limits and options."""

    handler: Handler
    limits: Limits
    policy: RetryPolicy
    uses_dedup: bool = True
    """Whether the group skips events that it has handled before; False if handling an event twice does no harm."""
    accepts: Callable[[StatusEvent], bool] | None = None
    """Selects the events that the handler is called with. The others are settled without a call. None selects all."""
    uses_order: bool = True
    """Whether order mode applies; False if the effect does not depend on the order of the events."""
    traced: Handler | None = None
    """The same handler for calls that may have a traced event; None without traces."""
    check: Check | None = None
    """Checks, while no event comes, that the target can take events. None if only a call can find out."""


@asynccontextmanager
async def load_handlers(
    settings: WorkerSettings, tracing: "Tracing | None" = None
) -> AsyncIterator[Mapping[str, LoadedHandler]]:
    """Yield the handlers by the name of their group. Opens no connection: a database that is away stops only ``store``.

    Without ``tracing`` no code of tracing runs for a call. Raises CommandError if a function, a file of handlers or the
    file of a header cannot be read.
    """
    async with AsyncExitStack() as stack:
        specs = settings.specs
        configs = [] if tracing is None else [trace_requests(tracing)]
        client = await stack.enter_async_context(open_session(configs)) if any(spec.url for spec in specs) else None
        handlers = {spec.group: _open(settings, spec, client, stack) for spec in specs}
        if tracing is not None:
            for group, loaded in handlers.items():
                traced = TracedHandler(loaded.handler, tracing, settings.stream, group)
                handlers[group] = replace(loaded, traced=traced)
        yield handlers


def _open(
    settings: WorkerSettings, spec: Spec, client: aiohttp.ClientSession | None, stack: AsyncExitStack
) -> LoadedHandler:
    if client is not None and spec.url is not None:
        return _forward(settings, spec, client, parse_url(spec.url))
    return _built_in(settings, spec, stack) if spec.target in BUILT_IN else _function(settings, spec)


def _function(settings: WorkerSettings, spec: Spec) -> LoadedHandler:
    function, takes_lists = load(spec.target)
    policy = settings.retry_policy(spec.options)
    timeout_seconds = spec.options.timeout or settings.handler_timeout_seconds
    batch_entries = spec.options.batch or settings.handler_batch
    if not takes_lists:
        concurrency = spec.options.concurrency or settings.handler_concurrency
        return LoadedHandler(
            SingleEventFunction(function, timeout_seconds),
            Limits(concurrency, timeout_seconds, batch_entries, policy.attempts, judged_attempts=1),
            policy,
        )
    if policy.attempts == 1:
        raise CommandError(
            f"handler {spec.target!r} takes lists, so it needs at least 2 attempts: the second one has each event "
            "of a failed list alone"
        )
    limits = Limits(spec.options.concurrency or 1, timeout_seconds, batch_entries, policy.attempts)
    return LoadedHandler(ListFunction(function, timeout_seconds), limits, policy)


def _forward(settings: WorkerSettings, spec: Spec, client: aiohttp.ClientSession, url: URL) -> LoadedHandler:
    timeout_seconds = spec.options.timeout or settings.handler_timeout_seconds
    concurrency = spec.options.concurrency or settings.handler_concurrency
    policy = settings.retry_policy(spec.options)
    batch_entries = spec.options.batch or settings.handler_batch
    limits = Limits(concurrency, timeout_seconds, batch_entries, policy.attempts, judged_attempts=1)
    secrets = settings.secrets_of(spec.group)
    if not secrets:
        log.warning("forward.unsigned", group=spec.group, what="set ACKSTREAM_FORWARD_SECRETS to sign the requests")
    handler = Forward(
        client,
        url,
        secrets,
        timeout_seconds,
        headers=read_headers(spec.options.headers),
        raw=bool(spec.options.raw),
        query=bool(spec.options.query),
    )
    return LoadedHandler(handler, limits, policy, accepts=_filter_of(spec.options))


def _filter_of(options: Options) -> Callable[[StatusEvent], bool] | None:
    only, channel = options.only, options.channel
    if only is None and channel is None:
        return None

    def accepts(event: StatusEvent) -> bool:
        return (only is None or event.status.lower() in only) and (
            channel is None or (event.channel or "").lower() in channel
        )

    return accepts


def _built_in(settings: WorkerSettings, spec: Spec, stack: AsyncExitStack) -> LoadedHandler:
    timeout_seconds = spec.options.timeout or settings.handler_timeout_seconds
    policy = settings.retry_policy(spec.options)
    limits = Limits(1, timeout_seconds, spec.options.batch or settings.batch_entries, policy.attempts)
    if spec.target == "log":
        return LoadedHandler(Log(reveal=settings.log_reveal), limits, policy, uses_dedup=False)
    from worker.store.database import close_engine, open_engine  # noqa: PLC0415 - it takes a quarter of a worker's start
    from worker.store.handler import Store  # noqa: PLC0415 - the same

    engine = open_engine(settings.database_url, keeps_plans=True)
    stack.push_async_callback(close_engine, engine)
    store = Store(engine, timeout_seconds, settings.number_hash)
    return LoadedHandler(store, limits, policy, uses_dedup=False, uses_order=False, check=store.check)
