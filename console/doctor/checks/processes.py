"""Checks that the processes of this machine are ready, by their admin ports."""

import asyncio
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import aiohttp

from console.doctor.finding import Finding, make_finding
from console.doctor.setup import Setup
from runtime.server_socket import make_local_url
from stream.settings import ProcessSettings

ANSWER_SECONDS = 3.0
NAMES = {"ingest": "Ingest", "worker": "The worker", "console": "The console"}


async def check_processes(setup: Setup) -> Sequence[Finding]:
    """Return why a process is not ready. The self-test shows whether ingest and workers run at all."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        urls = _list_urls(setup)
        reasons = await asyncio.gather(*(_read_reason(http, url) for url in urls))
    return [
        make_finding("process.not-ready", process=process, reason=reason)
        for process, reason in zip(urls.values(), reasons, strict=True)
        if reason
    ]


def _list_urls(setup: Setup) -> Mapping[str, str]:
    """Return the admin URLs whose port is known, each with the name of its process."""
    if setup.running is not None:
        return {setup.running.ingest_admin_url: "Ingest", setup.running.worker_admin_url: "The worker"}
    urls: dict[str, str] = {}
    for role, settings in setup.loaded.items():
        port: int = getattr(settings, "admin_port", 0)
        if port and isinstance(settings, ProcessSettings):
            urls.setdefault(make_local_url(settings.admin_host, port), NAMES[role])
    return urls


async def _read_reason(http: aiohttp.ClientSession, url: str) -> str:
    try:
        async with http.get(f"{url}/ready") as response:
            if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
                return "; ".join((await response.text()).splitlines()).rstrip(".")
    except (aiohttp.ClientError, TimeoutError, OSError):
        pass
    return ""
