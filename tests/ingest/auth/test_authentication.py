"""Signatures from the request to the tables: modes, secrets that change, several accounts on one URL."""

import asyncio
import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from typer.testing import CliRunner

from console.main import make_app
from ingest.settings import IngestSettings
from stream.keys import Shard
from stream.settings import InvalidSettings
from tests.support.in_process import run_ingest, run_worker
from tests.support.processes import Ingest, ackstream
from tests.support.samples.events import body
from tests.support.samples.signed import ACCOUNT, SECRETS, bearer
from tests.support.servers.proxy import run_proxy, through
from tests.support.streams.settled import is_settled
from tests.support.waiting import until


def trace(message: str) -> Any:
    trace = ["trace", message, "--json"]
    return orjson.loads(CliRunner().invoke(make_app(trace), trace, catch_exceptions=False).stdout)


async def post(url: str, payload: bytes, authorization: str) -> int:
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, data=payload, headers={"Authorization": authorization}) as answer,
    ):
        return answer.status


def count_answers() -> tuple[float, float]:
    """Return how many webhooks were answered 200, and how many are counted as signed, in this process."""
    answered = REGISTRY.get_sample_value("ackstream_webhooks_total", {"answer": "200"})
    labels = {"account": ACCOUNT, "application": "", "verified": "jwt"}
    return answered or 0.0, REGISTRY.get_sample_value("ackstream_webhooks_verified_total", labels) or 0.0


async def test_a_webhook_counts_as_signed_with_its_answer(valkey_url: str, server: Redis, shard: Shard) -> None:
    """A reading of the metrics while webhooks wait for Redis has as many signed ones as answers."""
    payload = body(message_uuid="m-1")
    async with run_proxy(urlsplit(valkey_url).port or 0) as proxy, asyncio.TaskGroup() as tasks:
        common: dict[str, Any] = {"redis_url": through(proxy, valkey_url), "stream": shard.name}
        common |= {"signatures": "required", "signature_secrets": SECRETS, "ack_budget_ms": 1000}
        async with run_ingest(**common) as ingest:
            before = count_answers()
            proxy.swallows_replies = True
            answer = tasks.create_task(post(ingest.url, payload, bearer(payload)))

            async def is_appended() -> bool:
                return bool(await server.xlen(shard.stream))

            await until(is_appended)
            waiting = count_answers()
            assert await answer == 200
            after = count_answers()

    assert waiting[0] - before[0] == waiting[1] - before[1]
    assert after == (before[0] + 1, before[1] + 1)


async def test_accounts_and_applications_on_one_url_are_told_apart(
    valkey_url: str, server: Redis, shard: Shard, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verified account and application are in the tables, in `trace` and in the metrics."""
    common: dict[str, Any] = {"redis_url": valkey_url, "stream": shard.name}
    senders = {"m-1": ("one", "app-1"), "m-2": ("one", "app-2"), "m-3": ("two", None)}
    async with run_ingest(**common, signatures="required", signature_secrets="one:secret-1,two:secret-2") as ingest:
        for message, (account, application) in senders.items():
            payload = body(message_uuid=message)
            claims = {"application_id": application} if application else {}
            secret = "secret-1" if account == "one" else "secret-2"
            assert await post(ingest.url, payload, bearer(payload, api_key=account, secret=secret, **claims)) == 200
        async with aiohttp.ClientSession() as http, http.get(ingest.ready_url.replace("ready", "metrics")) as answer:
            metrics = await answer.text()
        assert 'ackstream_webhooks_verified_total{account="one",application="app-2",verified="jwt"}' in metrics
        assert 'ackstream_webhooks_verified_total{account="two",application="",verified="jwt"}' in metrics
    async with run_worker(**common, database_url=migrated_url, handlers="store"):
        await until(lambda: is_settled(server, shard, "store"))
    for name, value in {**common, "database_url": migrated_url}.items():
        monkeypatch.setenv(f"ACKSTREAM_{name.upper()}", value)
    traced = {message: await asyncio.to_thread(trace, message) for message in senders}
    assert {message: (row["account"], row["application"]) for message, row in traced.items()} == senders


async def test_secrets_change_without_a_restart(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """SIGHUP reloads the file. An invalid file is logged without its content, and changes nothing."""
    file = tmp_path / "secrets"
    file.write_text(f"# the account of the tests\n{SECRETS}\n")
    payload = body()
    settings = {"signatures": "required", "signature_secrets_file": str(file), "log_format": "json"}
    async with Ingest(tmp_path, redis_url=valkey_url, stream=shard.name, **settings).run() as ingest:
        assert await post(ingest.url, payload, bearer(payload)) == 200
        assert await post(ingest.url, payload, bearer(payload, secret="new")) == 503
        file.write_text(f"{SECRETS}\n{ACCOUNT}:new\n")
        ingest.process.send(signal.SIGHUP)
        await ingest.process.has_logged("authentication.secrets_read")
        (line,) = ingest.process.read_log("authentication.secrets_read")
        assert (line["secrets"], line["result"]) == ("1 account, 2 secrets", "changed")
        ingest.process.send(signal.SIGHUP)
        await ingest.process.has_logged("authentication.secrets_read", times=2)
        assert ingest.process.read_log("authentication.secrets_read")[1]["result"] == "unchanged"
        assert await post(ingest.url, payload, bearer(payload)) == 200
        assert await post(ingest.url, payload, bearer(payload, secret="new")) == 200
        file.write_text(f"{ACCOUNT};canary-of-the-tests")
        ingest.process.send(signal.SIGHUP)
        await ingest.process.has_logged("authentication.secrets_not_read")
        assert await post(ingest.url, payload, bearer(payload, secret="new")) == 200
        assert "canary" not in ingest.process.said


async def test_secrets_in_a_variable_cannot_be_reloaded_and_the_log_says_so(
    valkey_url: str, shard: Shard, tmp_path: Path
) -> None:
    """Nobody can change the environment of a process: SIGHUP logs a warning with the next step, and reads nothing."""
    settings = {"signatures": "required", "signature_secrets": SECRETS, "log_format": "json"}
    async with Ingest(tmp_path, redis_url=valkey_url, stream=shard.name, **settings).run() as ingest:
        ingest.process.send(signal.SIGHUP)
        await ingest.process.has_logged("authentication.secrets_fixed")
        (line,) = ingest.process.read_log("authentication.secrets_fixed")
        assert (line["level"], "ACKSTREAM_SIGNATURE_SECRETS_FILE" in line["what"]) == ("warning", True)
        assert not ingest.process.read_log("authentication.secrets_read")


async def test_a_reload_changes_nothing_but_the_secrets(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """Other lines of .env count from the next start on: signatures are not switched off by the way."""
    (tmp_path / ".env").write_text(f"ACKSTREAM_SIGNATURE_SECRETS={SECRETS}\n")
    payload = body()
    settings = {"signatures": "required", "log_format": "json"}
    environment = Ingest(tmp_path, redis_url=valkey_url, stream=shard.name, **settings)
    async with environment.run() as ingest:
        (tmp_path / ".env").write_text(
            f"ACKSTREAM_SIGNATURE_SECRETS={ACCOUNT}:new\nACKSTREAM_DLR_SIGNATURE=off\nACKSTREAM_MAX_BODY=broken\n"
        )
        ingest.process.send(signal.SIGHUP)
        await ingest.process.has_logged("authentication.secrets_read")
        assert await post(ingest.url, payload, bearer(payload, secret="new")) == 200
        assert await post(ingest.url, payload, bearer(payload)) == 503
        assert await post(ingest.url, b"messageId=1&status=delivered", "Basic eA==") == 503


@pytest.mark.parametrize("header", ["Authorization", "X-Vonage-Token"])
async def test_a_setting_names_the_header_of_the_token(valkey_url: str, shard: Shard, header: str) -> None:
    """A gateway may need Authorization for itself; then the token comes in a header of its own, bare or not."""
    settings: dict[str, Any] = {"signatures": "required", "signature_secrets": SECRETS, "signature_header": header}
    payload = body()
    async with (
        run_ingest(redis_url=valkey_url, stream=shard.name, **settings) as ingest,
        aiohttp.ClientSession() as http,
    ):
        values = [bearer(payload), bearer(payload).replace("Bearer", "bearer")]
        if header != "Authorization":
            values.append(bearer(payload).removeprefix("Bearer "))
        for value in values:
            async with http.post(ingest.url, data=payload, headers={header: value}) as answer:
                assert answer.status == 200
        async with http.post(ingest.url, data=payload, headers={"X-Other": bearer(payload)}) as answer:
            assert answer.status == 503


@pytest.mark.parametrize("command", ["ingest", "up"])
async def test_required_without_a_secret_does_not_start(tmp_path: Path, command: str) -> None:
    """It is the default, and fails closed: exit code 1, and one sentence that says what to set."""
    settings = {"signatures": "required"} if command == "up" else {}
    with ackstream(command, folder=tmp_path, **settings) as process:
        assert await process.wait_for_end(20) == 1
    (sentence,) = [line for line in process.said.splitlines() if not line.startswith("{")]
    assert sentence.startswith("ackstream: ACKSTREAM_SIGNATURES is 'required', but no secret is set")
    assert "ACKSTREAM_SIGNATURE_SECRETS=" in sentence


@pytest.mark.parametrize("secrets", ["canary", "key:", ":canary", "key:ok,canary", ""])
def test_secrets_that_are_none_are_refused_without_telling_them(secrets: str) -> None:
    """The sentence says how they are written, and has nothing of the value."""
    with pytest.raises(
        InvalidSettings, match=r"ACKSTREAM_SIGNATURE_SECRETS: its value is not valid .*; expected"
    ) as refused:
        IngestSettings.load(signature_secrets=secrets)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n\n  # neither here\n"])
def test_a_secrets_file_without_an_item_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Compose passes such a file before anyone goes live; with signatures required ingest still refuses to start."""
    (tmp_path / "secrets").write_text(text)
    monkeypatch.setenv("ACKSTREAM_SIGNATURE_SECRETS_FILE", str(tmp_path / "secrets"))
    assert IngestSettings.load(signatures="off").signature_secrets is None
    with pytest.raises(InvalidSettings, match="no secret is set"):
        _ = IngestSettings.load().verifier
