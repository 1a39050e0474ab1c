"""A real Prometheus with our rules: an alert fires when the workers stop, and ends when they are back."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from string import Template
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from console.up.valkey import find_free_port
from deploy.docs.alerts_page import render_rules
from stream.keys import Shard
from tests.support.http.console_server import run_console
from tests.support.processes import quick_worker, start_process
from tests.support.samples.events import body, entry
from tests.support.waiting import until

PROMETHEUS = shutil.which("prometheus")
PACE = 0.3
SECONDS = 90.0
ALERT = "AckstreamNobodyReads"
CONFIGURATION = Template("""
global: {scrape_interval: 1s, evaluation_interval: 1s, external_labels: {console: "$console"}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: ackstream-console
    static_configs: [{targets: ["127.0.0.1:$admin_port"]}]
""")


@asynccontextmanager
async def run_prometheus(folder: Path, console_url: str, admin_port: int) -> AsyncIterator[str]:
    """Run Prometheus on the console's metrics, with alerts that hold for a second or two; yield its address."""
    (folder / "prometheus.yml").write_text(CONFIGURATION.substitute(console=console_url, admin_port=admin_port))
    (folder / "rules.yml").write_text(render_rules(hold_share=1 / 60))
    address = f"127.0.0.1:{find_free_port()}"
    options = f"--config.file=prometheus.yml --storage.tsdb.path=tsdb --web.listen-address={address}"
    process = start_process((PROMETHEUS or "", *options.split()), folder, "prometheus", None)
    try:
        yield f"http://{address}"
    finally:
        process.end()


async def query(address: str, path: str, **parameters: str) -> Any:
    """Ask Prometheus's API; return the data, or an empty dict while it starts."""
    try:
        async with aiohttp.ClientSession(address) as http, http.get(f"/api/v1/{path}", params=parameters) as answer:
            return (await answer.json())["data"]
    except aiohttp.ClientError:
        return {}


async def find_firing(address: str) -> list[dict[str, Any]]:
    """Return the alerts of the rule that fire."""
    alerts = (await query(address, "alerts")).get("alerts", ())
    return [alert for alert in alerts if alert["state"] == "firing" and alert["labels"]["alertname"] == ALERT]


@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is missing: apt install prometheus")
async def test_an_alert_fires_while_the_workers_are_stopped(
    tmp_path: Path, valkey_url: str, server: Redis, shard: Shard
) -> None:
    """Without a worker the group's alert fires and links to a runbook of the console; with a worker it ends."""
    settings = {"redis_url": valkey_url, "stream": shard.name, "database_url": f"sqlite:///{tmp_path / 'ackstream.db'}"}
    fields: Any = entry(body()).to_fields()
    admin_port = find_free_port()
    async with run_console(tmp_path, valkey_url, shard.name, admin_port=admin_port) as console:
        async with run_prometheus(tmp_path, console.url, admin_port) as address:

            async def read(metric: str) -> list[str]:
                lines = (await query(address, "query", query=f'{metric}{{group="log"}}')).get("result", ())
                return [line["value"][1] for line in lines]

            async def works() -> bool:
                return await read("ackstream:live_consumers:max") == ["1"] and await read(
                    "ackstream:outstanding:max"
                ) == ["0"]

            async def fires() -> bool:
                return bool(await find_firing(address))

            async def is_over() -> bool:
                return not await fires() and await works()

            with quick_worker(PACE, "log", tmp_path, settings) as worker:
                await server.xadd(shard.stream, fields)
                await until(works, seconds=SECONDS)
                assert not await fires()
                worker.kill()
            await server.xadd(shard.stream, fields)
            await until(fires, seconds=SECONDS)
            (alert,) = await find_firing(address)
            with quick_worker(PACE, "log", tmp_path, settings):
                await until(is_over, seconds=SECONDS)

        path = alert["annotations"]["runbook_url"].removeprefix(console.url)
        async with console.visit() as person:
            runbook = await person.get(path)

    assert (alert["labels"]["group"], alert["labels"]["severity"]) == ("log", "page")
    assert (path, runbook.status) == ("/runbooks/nobody-reads", 200)
    assert "A group has no worker" in runbook.text
