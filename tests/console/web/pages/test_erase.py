"""An admin erases one message from all places: the count, the confirmation, the result and the audit log."""

import html
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from console.web.access.roles import Role
from stream.keys import Shard
from tests.support.http.console_server import Visitor, run_console
from tests.support.samples.events import body
from tests.support.streams.stored_messages import store_stream
from tests.support.waiting import until
from tests.support.workers.failing_group import FailingGroup

UUID = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
PAGE = f"/messages/{UUID}/erase"
WHY = f"asked to forget {UUID}"


async def wait_for(person: Visitor, *states: str, page: str = PAGE) -> Any:
    """Return the job as soon as it has one of these states."""
    job: Any = None

    async def has_state() -> bool:
        nonlocal job
        job = (await person.get(f"/api/v1{page}")).json()
        return job["state"] in states

    await until(has_state)
    return job


async def test_the_audit_log_keeps_no_whole_id(tmp_path: Path, valkey_url: str, server: Redis, shard: Shard) -> None:
    """The act on a message with a short id does not name it; the commands quote an id with signs of the shell."""
    group = FailingGroup(server, shard, "0;A")
    await group.start()
    await group.append(body(message_uuid="0;A"))
    await group.handle()
    await group.give_up()
    page = "/messages/0%3BA/erase"
    async with run_console(tmp_path, valkey_url, shard.name) as console:
        await store_stream(console.settings.database_url, server, shard)
        async with console.visit(Role.ADMIN) as person:
            shown = [html.unescape((await person.get(path)).text) for path in (page.removesuffix("/erase"), page)]
            await person.post(f"{page}/count")
            counted = await wait_for(person, "counted", page=page)
            await person.post(page, {"expected": str(counted["number"]), "why": "asked to"})
            done = await wait_for(person, "done", page=page)
            await person.post(f"{page}/count")
            again = await wait_for(person, "counted", page=page)
            acts = (await person.get("/api/v1/audit?action=messages.erase")).json()

    assert done["erased"] == counted["found"]
    assert again["found"] == {}
    assert "message=0…" in str(acts)
    assert ["ackstream trace '0;A'" in shown[0], "ackstream erase --message '0;A'" in shown[1]] == [True, True]


async def test_an_admin_erases_a_message(tmp_path: Path, valkey_url: str, server: Redis, shard: Shard) -> None:
    """The number that was found is confirmed; then no place has the message, others stay, and the act is audited."""
    group = FailingGroup(server, shard, UUID)
    await group.start()
    for name in (UUID, "m-other"):
        await group.append(body(message_uuid=name))
    await group.handle()
    await group.give_up()
    async with run_console(tmp_path, valkey_url, shard.name) as console:
        await store_stream(console.settings.database_url, server, shard)
        async with console.visit(Role.ADMIN) as person:
            link = (await person.get(f"/messages/{UUID}")).text
            pages = [(await person.get(PAGE)).text]
            started = await person.post(f"{PAGE}/count")
            pages.append((await person.get(PAGE)).text)
            counted = await wait_for(person, "counted")
            pages.append((await person.get(PAGE)).text)
            wrong = await person.post(PAGE, {"expected": str(counted["number"] + 1), "why": WHY})
            unchanged = await server.xlen(shard.dead("g"))
            await person.post(PAGE, {"expected": str(counted["number"]), "why": WHY})
            done = await wait_for(person, "done")
            pages.append((await person.get(PAGE)).text)
            await person.post(f"{PAGE}/count")
            again = await wait_for(person, "counted")
            message, other = await person.get(f"/messages/{UUID}"), await person.get("/messages/m-other")
            acts = (await person.get("/api/v1/audit?action=messages.erase")).text
        async with console.visit(Role.OPERATOR) as operator:
            refused = [(await operator.get(PAGE)).status, (await operator.post(f"{PAGE}/count")).status]

    assert (started.status, started.headers["Location"]) == (303, PAGE)
    assert {"stream", "dead_letters", "messages"} <= counted["found"].keys()
    assert f'action="{PAGE}/count"' in link
    assert "Not counted yet" in pages[0]
    assert f"Erase {counted['number']} records in {len(counted['found'])} places for good?" in pages[2]
    assert "Look again: it finds nothing" in pages[3]
    assert (wrong.status, unchanged) == (409, 1)
    assert (done["erased"], done["unreachable"]) == (counted["found"], [])
    assert again["number"] == 0
    assert (message.status, other.status) == (404, 200)
    assert (UUID[:8] in acts, UUID in acts) == (True, False)
    assert refused == [403, 403]
