"""Signatures from the request to the tables: modes, secrets that change, several accounts on one URL."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from console.main import app
from ingest.settings import IngestSettings
from stream.keys import Shard
from stream.settings import InvalidSettings
from tests.events import body
from tests.processes import Ingest, ackstream
from tests.serving import ingesting, working
from tests.signed import ACCOUNT, SECRETS, bearer
from tests.test_worker import settled
from tests.waiting import until
from worker.store.migrate import migrate_at


def trace(message: str) -> Any:
    return orjson.loads(CliRunner().invoke(app, ["trace", message, "--json"], catch_exceptions=False).output)


async def post(url: str, payload: bytes, authorization: str) -> int:
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, data=payload, headers={"Authorization": authorization}) as answer,
    ):
        return answer.status


async def test_accounts_and_applications_on_one_url_are_told_apart(
    valkey_url: str, server: Redis, shard: Shard, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the signature proves stands in the tables, in `trace` and in the metrics."""
    common: dict[str, Any] = {"redis_url": valkey_url, "stream": shard.name}
    senders = {"m-1": ("one", "app-1"), "m-2": ("one", "app-2"), "m-3": ("two", None)}
    await migrate_at(database_url)
    async with ingesting(**common, signatures="required", signature_secrets="one:secret-1,two:secret-2") as ingest:
        for message, (account, application) in senders.items():
            payload = body(message_uuid=message)
            claims = {"application_id": application} if application else {}
            secret = "secret-1" if account == "one" else "secret-2"
            assert await post(ingest.url, payload, bearer(payload, api_key=account, secret=secret, **claims)) == 200
        async with aiohttp.ClientSession() as http, http.get(ingest.ready_url.replace("ready", "metrics")) as answer:
            metrics = await answer.text()
        assert 'ackstream_webhooks_proved_total{account="one",application="app-2",verified="jwt"}' in metrics
        assert 'ackstream_webhooks_proved_total{account="two",application="",verified="jwt"}' in metrics
    async with working(**common, database_url=database_url, handlers="store"):
        await until(lambda: settled(server, shard, "store"))
    monkeypatch.setenv("ACKSTREAM_DATABASE_URL", database_url)
    traced = {message: await asyncio.to_thread(trace, message) for message in senders}
    assert {message: (found["account"], found["application"]) for message, found in traced.items()} == senders


async def test_secrets_change_without_a_restart(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """SIGHUP reads the file again; one that is wrong is told, with nothing of it, and changes nothing."""
    file = tmp_path / "secrets"
    file.write_text(f"# the account of the tests\n{SECRETS}\n")
    payload = body()
    settings = {"signatures": "required", "signature_secrets_file": str(file), "log_format": "json"}
    async with Ingest(tmp_path, redis_url=valkey_url, stream=shard.name, **settings).running() as ingest:
        assert await post(ingest.url, payload, bearer(payload)) == 200
        assert await post(ingest.url, payload, bearer(payload, secret="new")) == 401
        file.write_text(f"{SECRETS}\n{ACCOUNT}:new\n")
        ingest.process.send(signal.SIGHUP)
        await ingest.process.has_logged("authentication.secrets_read")
        assert await post(ingest.url, payload, bearer(payload)) == 200
        assert await post(ingest.url, payload, bearer(payload, secret="new")) == 200
        file.write_text(f"{ACCOUNT};canary-of-the-tests")
        ingest.process.send(signal.SIGHUP)
        await ingest.process.has_logged("authentication.secrets_not_read")
        assert await post(ingest.url, payload, bearer(payload, secret="new")) == 200
        assert "canary" not in ingest.process.said


@pytest.mark.parametrize("command", ["ingest", "up"])
async def test_required_without_a_secret_does_not_start(tmp_path: Path, command: str) -> None:
    """It is the default, and fails closed: exit code 1, and one sentence that says what to set."""
    settings = {"signatures": "required"} if command == "up" else {}
    with ackstream(command, folder=tmp_path, **settings) as process:
        assert await process.ended(20) == 1
    assert process.said.startswith("ackstream: ACKSTREAM_SIGNATURES is 'required', but there is no secret")
    assert "ACKSTREAM_SIGNATURE_SECRETS=" in process.said
    assert process.said.count("\n") == 1


@pytest.mark.parametrize("secrets", ["canary", "key:", ":canary", "key:ok,canary", ""])
def test_secrets_that_are_none_are_refused_without_telling_them(secrets: str) -> None:
    """The sentence says how they are written, and has nothing of the value."""
    with pytest.raises(
        InvalidSettings, match="ACKSTREAM_SIGNATURE_SECRETS: its value is not valid; expected"
    ) as refused:
        IngestSettings.load(signature_secrets=secrets)
    assert "canary" not in str(refused.value)
