"""Each action and each reveal of the console is in the audit log, with its person and reason."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from console.web import routes
from console.web.access.roles import Role
from console.web.live import LiveStreams
from console.web.route import API
from stream.keys import Shard
from tests.support.http.console_server import ConsoleServer, Visitor, run_console
from tests.support.samples.events import body
from tests.support.samples.tokens import ACCOUNT, OTHER_SECRET, SECRET, claims, token
from tests.support.streams.causes import add_dead, add_invalid, add_refused
from tests.support.streams.stored_messages import store_stream
from tests.support.waiting import until
from tests.support.workers.failing_group import FailingGroup
from worker.dispatch.pause import Pause, PauseReason

WHY = "asked by ann"
UNAUDITED = {"/sign-in", "/sign-out", "/preferences"}
"""Sign-in and sign-out have entries of their own; preferences change only the person's browser."""
ACTIONS = {
    route.path
    for route in routes.collect(LiveStreams(routes.LIVE, asyncio.Event()))
    if route.method == "POST" and route.path not in UNAUDITED
}


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    secrets = f"{ACCOUNT}:{SECRET.decode()}"
    url = "http://127.0.0.1:9/webhooks/message-status"
    async with run_console(
        tmp_path, valkey_url, shard.name, signature_secrets=secrets, console_ingest_url=url
    ) as running:
        yield running


async def test_each_action_has_one_entry(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """Forms and the API: an entry with the name of the action, the person and the reason; a new route is noticed."""
    acted = {"/simulate", "/checks", f"{API}/doctor"}
    async with console.visit(Role.ADMIN) as person:
        assert (await person.post("/simulate")).status == 303
        assert (await person.post("/checks")).status == 303
        assert (await person.post(f"{API}/doctor", json={})).status == 200
        for prefix in ("", API):
            for path, form in (await plan_actions(server, shard, console, person, prefix)).items():
                before = len(await console.read_audit())
                await prepare(path, server, shard)
                actual = path.format(name="g", message_uuid="m-1", id=form.pop("replay", ""))
                sent = {name: value for name, value in form.items() if value is not None}
                answer = await (person.post(f"{prefix}{actual}", json=sent) if prefix else person.post(actual, sent))
                assert answer.status in (200, 303), (path, answer.text[:300])
                entries = (await console.read_audit())[before:]
                assert [(entry["why"], entry["who"][:5]) for entry in entries] == [(sent.get("why", ""), "link:")], path
                acted.add(f"{prefix}{path}")
        for prefix, message in (("", "m-0"), (API, "m-2")):
            acted |= {f"{prefix}{path}" for path in await erase(person, prefix, message)}
        assert (await person.post("/messages.csv", {"why": WHY})).status == 200
        acted.add("/messages.csv")

    assert acted == ACTIONS
    entries = await console.read_audit()
    expected = {"simulate", "messages.export", "groups.drop", "doctor.run"}
    assert {entry["action"] for entry in entries} >= expected
    assert [entry["why"] for entry in entries if entry["action"] == "messages.erase"] == [WHY, WHY]


async def erase(person: Visitor, prefix: str, message: str) -> tuple[str, str]:
    """Erase this message, by the form or the API; return the paths of the two steps."""
    page = f"/messages/{message}/erase"

    async def read() -> Any:
        return (await person.get(f"{API}{page}")).json()

    async def has_state(state: str) -> bool:
        return bool((await read())["state"] == state)

    await (person.post(f"{prefix}{page}/count", json={}) if prefix else person.post(f"{page}/count"))
    await until(lambda: has_state("counted"))
    number = (await read())["number"]
    sent: dict[str, Any] = {"expected": number if prefix else str(number), "why": WHY}
    await (person.post(f"{prefix}{page}", json=sent) if prefix else person.post(page, sent))
    await until(lambda: has_state("done"))
    return "/messages/{message_uuid}/erase/count", "/messages/{message_uuid}/erase"


async def plan_actions(
    server: Redis, shard: Shard, console: ConsoleServer, person: Visitor, prefix: str
) -> Mapping[str, dict[str, Any]]:
    """Put entries into all places; return each action with its form. The last one drops the group."""
    group = FailingGroup(server, shard)
    await group.start()
    for number in range(3):
        await group.append(body(message_uuid=f"m-{number}"))
    await group.handle()
    await store_stream(console.settings.database_url, server, shard)
    dead = [str(entry_id) for entry_id in await add_dead(server, shard, "g", 3)]
    unparsed = b'{"message_uuid":"x"}'
    invalid = await add_invalid(server, shard, unparsed, unparsed, unparsed, error="no status")
    good = [await add_refused(server, shard, body(message_uuid=f"{prefix}q-{number}")) for number in range(3)]
    payload = body(message_uuid=f"{prefix}forged")
    forged = await add_refused(
        server, shard, payload, headers=[f"Bearer {token(claims(payload), secret=OTHER_SECRET)}"]
    )
    choice = {"group": "g", "source": "stream", "status": "delivered", "rate": "0.5"}
    query = "group=g&status=delivered&rate=0.5"
    await person.get_plan(query)
    plan = (await person.get(f"/api/v1/replays?{query}")).json()["plan"]
    started = await person.post(
        "/api/v1/replays", json={**choice, "rate": 0.5, "expected": plan["entries"], "why": "for the acts below"}
    )
    replay = started.json()["replay"]
    one: dict[str, Any] = {"expected": "1", "why": WHY}
    return {
        "/messages/{message_uuid}/reveal": {"why": WHY},
        "/messages/{message_uuid}/replay": {"group": "g", "expected": "1", "why": WHY},
        "/dead-letters/reveal": {"id": dead[0], "group": "g", "why": WHY},
        "/dead-letters/replay": {"ids": ids(dead[1], prefix), "group": "g", **one},
        "/dead-letters/discard": {"ids": ids(dead[2], prefix), "group": "g", **one},
        "/invalid/reveal": {"id": invalid[0], "why": WHY},
        "/invalid/replay": {"ids": ids(invalid[1], prefix), **one},
        "/invalid/discard": {"ids": ids(invalid[2], prefix), **one},
        "/quarantine/reveal": {"id": good[0], "why": WHY},
        "/quarantine/accept": {"ids": ids(good[1], prefix), **one},
        "/quarantine/discard": {"ids": ids(good[2], prefix), **one},
        "/quarantine/accept-unverified": {"ids": ids(forged, prefix), **one},
        "/replays": {**choice, "expected": str(plan["entries"]), "why": WHY},
        "/replays/{id}/pause": {"replay": replay, "why": WHY},
        "/replays/{id}/resume": {"replay": replay, "why": WHY},
        "/replays/{id}/rate": {"replay": replay, "rate": "0.2"},
        "/replays/{id}/cancel": {"replay": replay, "why": WHY},
        "/groups/{name}/pause": {"why": WHY},
        "/groups/{name}/resume": {"why": WHY},
        "/groups/{name}/probe": {},
        "/groups/{name}/drop": {"typed": "g", "why": WHY},
    }


def ids(entry_id: str, prefix: str) -> Any:
    """Return one id as a form or as JSON has it."""
    return [entry_id] if prefix else entry_id


async def prepare(path: str, server: Redis, shard: Shard) -> None:
    """Bring the group into the state that the action needs."""
    group = FailingGroup(server, shard).ref
    if path.endswith("/probe"):
        await Pause(group, 100).start(PauseReason.FAILING)
    if path.endswith("/drop"):
        await server.delete(shard.alive("g"), shard.paused("g"))
