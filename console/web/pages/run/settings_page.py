"""The settings in force with their sources, versions, and the durability of Redis. Secrets are counted, never shown."""

import platform
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from aiohttp import web

from console.queries.run.parts import RedisPart, read_database, read_nodes
from console.queries.run.settings_in_force import ProcessLines, find_ineffective, load_lines
from console.web.access.roles import Identity
from console.web.pages.run.settings_replies import SettingsReply
from console.web.render import json_reply, parameters, render_page
from console.web.route import API, Json, NoParameters, Route
from console.web.sampling.snapshot import ProcessSample, Snapshot
from console.web.settings import ConsoleSettings
from console.web.state import ConsoleState, identity_of, state_of
from ingest.settings import IngestSettings
from stream.process_report import SettingLine, describe_settings
from stream.redis.client import redact_url
from worker.settings import WorkerSettings

KINDS = (IngestSettings, WorkerSettings, ConsoleSettings)


async def read(state: ConsoleState, _chosen: NoParameters, _identity: Identity) -> Json:
    """Return settings, versions and processes. A part that does not answer is named, the others are shown."""
    settings = state.settings
    nodes, database = await read_nodes(state.server, state.shards), await read_database(state.engine)
    redis = {
        "address": redact_url(settings.redis_url),
        "stream": settings.stream,
        **RedisPart.merge(list(nodes.values())).summary(),
        "nodes": [{"node": address, **node.summary()} for address, node in nodes.items() if address],
    }
    own = ProcessLines("console", describe_settings(settings))
    return {
        "version": version("ackstream"),
        "python": platform.python_version(),
        "data": str(settings.data.resolve()),
        "started_at": state.sampler.latest.started_at,
        "redis": redis,
        "database": {"address": redact_url(settings.database_url), **database.summary()},
        "processes": _processes(state.sampler.latest),
        "is_scraping": state.sampler.latest.is_scraping,
        "without_effect": [
            {"name": setting.name, "source": setting.source, "advice": setting.advice}
            for _, setting in find_ineffective(settings, lambda: KINDS)
        ],
        "settings": [_describe(lines) for lines in (own, *_list_others(state))],
    }


def _list_others(state: ConsoleState) -> Iterator[ProcessLines]:
    """Yield the settings of each running process, equal ones once; those of this machine if no process reports any."""
    sampler = state.sampler
    for kind, samples, settings in (
        ("ingest", sampler.latest.ingest, IngestSettings),
        ("worker", sampler.latest.workers, WorkerSettings),
    ):
        addresses: dict[tuple[SettingLine, ...], list[str]] = {}
        for sample in samples:
            report = sampler.reports.find(sample.address)
            if report is not None:
                addresses.setdefault(report.settings, []).append(sample.address)
        for lines, running in addresses.items():
            yield ProcessLines(kind, lines, addresses=running)
        if not addresses:
            yield load_lines(kind, settings)


def _describe(lines: ProcessLines) -> dict[str, Any]:
    return {
        "process": lines.process,
        "addresses": list(lines.addresses),
        "fault": lines.fault or None,
        "lines": [line.summary() for line in lines.lines],
    }


def _processes(latest: Snapshot) -> list[dict[str, Any]]:
    kinds = (("ingest", latest.ingest), ("worker", latest.workers), ("unknown", latest.silent))
    return [_process(kind, process) for kind, processes in kinds for process in processes]


def _process(kind: str, process: ProcessSample) -> dict[str, Any]:
    return {
        "kind": kind,
        "address": process.address,
        "up": process.is_up,
        "since": process.since,
        "reason": process.away and process.away.reason,
    }


async def view(request: web.Request) -> web.Response:
    """Show the page."""
    data = await read(state_of(request), await parameters(request, NoParameters), identity_of(request))
    return render_page(request, "settings.html", data, title="Settings", twin=f"{API}/settings")


async def twin(request: web.Request) -> web.Response:
    """Answer the settings."""
    return json_reply(await read(state_of(request), await parameters(request, NoParameters), identity_of(request)))


ROUTES = [
    Route("GET", "/settings", view, summary="Settings"),
    Route("GET", f"{API}/settings", twin, reply=SettingsReply, summary="Settings in force, versions and processes"),
]
