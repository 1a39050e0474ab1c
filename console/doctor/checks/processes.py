"""Checks that the processes of this machine are ready, by their admin ports."""

import asyncio
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import aiohttp

from console.doctor.finding import Finding, make_finding
from console.doctor.setup import Setup

ANSWER_SECONDS = 3.0


async def check_processes(setup: Setup) -> Sequence[Finding]:
    """Return why a process is not ready. The self-test shows whether ingest and workers run at all."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        urls = _list_urls(setup)
        reasons = await asyncio.gather(*(_read_reason(http, url) for url in urls.values()))
    return [
        make_finding("process.not-ready", process=process, reason=reason)
        for process, reason in zip(urls, reasons, strict=True)
        if reason
    ]


def _list_urls(setup: Setup) -> Mapping[str, str]:
    if setup.running is not None:
        return {"Ingest": setup.running.ingest_admin_url, "The worker": setup.running.worker_admin_url}
    if setup.ingest is None or not setup.ingest.admin_port:
        return {}
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(setup.ingest.admin_host, setup.ingest.admin_host)  # noqa: S104 - compared, not listened on
    return {"Ingest": f"http://{host}:{setup.ingest.admin_port}"}


async def _read_reason(http: aiohttp.ClientSession, url: str) -> str:
    try:
        async with http.get(f"{url}/ready") as response:
            if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
                return "; ".join((await response.text()).splitlines()).rstrip(".")
    except (aiohttp.ClientError, TimeoutError, OSError):
        pass
    return ""
