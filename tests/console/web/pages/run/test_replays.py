"""Replays through the pages and the API of a console, with a real worker that copies."""

import html
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from console.queries.run import replay_plans
from console.web.access.roles import Role
from console.web.pages.run.replies import ReplaysReply, StartReply
from stream.keys import Shard
from tests.support.http.console_server import ConsoleServer, Visitor, run_console
from tests.support.processes import run_ackstream
from tests.support.samples.events import body, entry
from tests.support.streams.retention import LARGE, trim_once
from tests.support.waiting import until
from tests.support.workers.recording import GROUP, RecordingWorkers, replay, run_recording_workers
from worker.retention.archive_writer import Archive

ENTRIES = 400
FORM = {"group": GROUP, "status": "delivered", "rate": "20"}


@pytest.fixture
async def site(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> AsyncIterator[RecordingWorkers]:
    """A worker that has handled all entries of a stream."""
    with run_recording_workers(valkey_url, server, shard, tmp_path) as site:
        await site.start()
        await site.append(*(f"m-{number}" for number in range(ENTRIES)))
        await site.is_done()
        yield site


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


async def replays(person: Visitor) -> list[dict[str, Any]]:
    data = (await person.get("/api/v1/replays")).json()
    ReplaysReply.model_validate(data)
    rows: list[dict[str, Any]] = data["replays"]
    return rows


async def is_in_state(person: Visitor, state: str, *, done: int = 0) -> None:
    """Wait until the only replay has this state and number of copies."""

    async def reached() -> bool:
        (row,) = await replays(person)
        return bool(row["state"] == state and row["done"] >= done)

    await until(reached)


async def test_a_replay_is_planned_started_slowed_paused_resumed_and_cancelled(
    site: RecordingWorkers, console: ConsoleServer
) -> None:
    """A person does all of it with the forms of the page; each act is an entry of the audit log."""
    async with console.visit() as person:
        plan = await person.get_plan(f"group={GROUP}&status=delivered&rate=20")
        assert f"Start: {ENTRIES} to {GROUP}" in plan
        started = await person.post("/replays", {**FORM, "expected": str(ENTRIES), "why": "new column"})
        assert (started.status, started.headers["Location"]) == (303, "/replays")
        page = (await person.get("/replays")).text
        assert f"Started: {ENTRIES} go to {GROUP}." in page
        (row,) = await replays(person)
        assert (row["total"], row["rate"], row["started"]["why"]) == (ENTRIES, 20, "new column")
        await is_in_state(person, "running", done=5)
        path = f"/replays/{row['replay']}"

        await person.post(f"{path}/rate", {"rate": "0.5"})
        await site.workers[0].has_logged("replay.rate")
        assert (await replays(person))[0]["rate"] == 0.5
        await person.post(f"{path}/pause", {"why": "receiver is down"})
        await site.workers[0].has_logged("replay.stopped")
        (paused,) = await replays(person)
        assert (paused["state"], paused["moved"]["why"]) == ("paused", "receiver is down")
        assert "receiver is down" in (await person.get("/replays")).text
        await person.post(f"{path}/rate", {"rate": "50"})
        await person.post(f"{path}/resume")
        await is_in_state(person, "running", done=paused["done"] + 20)
        assert "a second now" in (await person.get("/replays")).text
        assert (await person.post(f"{path}/cancel")).status == 400
        await person.post(f"{path}/cancel", {"why": "enough"})
        (cancelled,) = await replays(person)
        assert (cancelled["state"], cancelled["moved"]["why"]) == ("cancelled", "enough")
        assert 20 < cancelled["done"] < ENTRIES
        refused = await person.post(f"{path}/resume")
        assert "is cancelled already" in (await person.get(refused.headers["Location"])).text

        log = (await person.get("/api/v1/audit?action=replays")).json()["entries"]
    assert [row["action"] for row in log] == [
        f"replays.{act}" for act in ("cancel", "resume", "rate", "pause", "rate", "start")
    ]
    assert (log[-1]["count"], log[-1]["why"]) == (ENTRIES, "new column")
    assert f"group={GROUP}" in log[-1]["scope"]


async def test_a_replay_started_here_is_in_the_list_of_the_command(
    site: RecordingWorkers, console: ConsoleServer
) -> None:
    """`ackstream replay list` shows its person and its reason, and the entries reach the handler again."""
    async with console.visit() as person:
        request = {**FORM, "rate": 1000, "expected": ENTRIES, "why": "new column"}
        answer = await person.post("/api/v1/replays", json=request)
        assert answer.status == 200
        StartReply.model_validate(answer.json())
        await is_in_state(person, "done")
        await site.is_done()

    listed = orjson.loads(run_ackstream("replay", "list", "--json", folder=site.folder, **site.settings).stdout)
    (row,) = listed["replays"]
    assert (row["replay"], row["state"]) == (answer.json()["replay"], "done")
    assert (row["started"]["by"][:5], row["started"]["why"]) == ("link:", "new column")
    assert set(site.times("done").values()) == {2}


async def test_archived_entries_are_replayed(site: RecordingWorkers, tmp_path: Path, valkey_url: str) -> None:
    """With an archive the form offers it as a source; a replay from it brings back what retention has removed."""
    folder = tmp_path / "archive"
    archive = Archive(folder, rest_seconds=0)
    archive.prepare()
    site.workers[0].kill()
    await site.server.delete(site.shard.trimmer)
    await trim_once(valkey_url, site.shard, LARGE, archive)
    kept = await site.server.xlen(site.shard.stream)
    assert kept < ENTRIES
    await site.start(archive=str(folder))
    data = tmp_path / "console"
    data.mkdir()
    async with (
        run_console(data, valkey_url, site.shard.name, archive=folder) as console,
        console.visit() as person,
    ):
        assert f"Start: {kept} to {GROUP}" in await person.get_plan(f"group={GROUP}")
        page = await person.get_plan(f"group={GROUP}&source=archive")
        assert f"Start: {ENTRIES} to {GROUP}" in page
        form = {"group": GROUP, "source": "archive", "rate": "1000", "expected": str(ENTRIES), "why": "lost"}
        assert (await person.post("/replays", form)).status == 303
        await is_in_state(person, "done", done=ENTRIES)
        assert "the archive" in (await person.get("/replays")).text
    await site.is_done()
    assert set(site.times("done").values()) == {2}


@pytest.mark.usefixtures("site")
async def test_a_changed_number_starts_nothing(server: Redis, shard: Shard, console: ConsoleServer) -> None:
    """The page returns to the plan with the new number, the API answers 409; entries that arrive later do not count."""
    async with console.visit() as person:
        await person.get_plan(f"group={GROUP}&status=delivered&rate=20")
        wrong = await person.post("/replays", {**FORM, "expected": "399", "why": "x"})
        assert wrong.headers["Location"].endswith("changed=399#plan")
        page = (await person.get(wrong.headers["Location"].partition("#")[0])).text
        assert "It was 399 before. Nothing was started." in page
        assert f"Start: {ENTRIES} to {GROUP}" in page
        refused = await person.post("/api/v1/replays", json={**FORM, "rate": 20, "expected": 399, "why": "x"})
        assert (refused.status, refused.json()["entries"]) == (409, ENTRIES)

        await server.xtrim(shard.stream, maxlen=ENTRIES - 10, approximate=False)
        trimmed = await person.post("/api/v1/replays", json={**FORM, "rate": 20, "expected": ENTRIES, "why": "x"})
        assert (trimmed.status, trimmed.json()["entries"]) == (409, ENTRIES - 10)
        assert await replays(person) == []

        await server.xadd(shard.stream, entry(body(message_uuid="later")).to_fields())  # type: ignore[arg-type]
        request = {**FORM, "rate": 20, "expected": ENTRIES - 10, "why": "x"}
        assert (await person.post("/api/v1/replays", json=request)).status == 200


@pytest.mark.usefixtures("site")
async def test_a_choice_that_cannot_be_planned_says_why(console: ConsoleServer) -> None:
    """The form keeps the choice and shows the reason; the API answers 400."""
    async with console.visit(Role.VIEWER) as person:
        page = (await person.get(f"/replays?group={GROUP}&since=2026-01-02T00:00&until=2026-01-01T00:00")).text
        assert "--since must be before --until" in html.unescape(page)
        assert 'value="2026-01-02T00:00"' in page
        for query in ("group=nobody", f"group={GROUP}&source=archive", f"group={GROUP}&since=yesterday"):
            answer = await person.get(f"/api/v1/replays?{query}")
            assert (answer.status, set(answer.json())) == (400, {"error"}), query
        empty = await person.get_plan(f"group={GROUP}&status=read")
        assert "Nothing matches." in empty


@pytest.mark.usefixtures("site")
async def test_too_many_plans_are_asked_to_wait(console: ConsoleServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """While others are being counted, a plan is answered 503 with Retry-After, and the page says why."""
    monkeypatch.setattr(replay_plans, "MOST_RUNNING", 0)
    async with console.visit(Role.VIEWER) as person:
        page, twin = [await person.get(f"{path}?group={GROUP}") for path in ("/replays", "/api/v1/replays")]

    assert (page.status, twin.status) == (503, 503)
    assert int(page.headers["Retry-After"]) == int(twin.headers["Retry-After"]) > 0
    assert "replays are being counted" in page.text


@pytest.mark.usefixtures("site")
async def test_ages_become_times(console: ConsoleServer) -> None:
    """A link with an age leads to a URL that means the same a minute later."""
    async with console.visit(Role.VIEWER) as person:
        answer = await person.get(f"/replays?group={GROUP}&since=2h")
        assert answer.status == 303
        assert re.fullmatch(rf"/replays\?group={GROUP}&since=\d{{4}}-\d\d-\d\dT\d\d:\d\d", answer.headers["Location"])
        assert (await person.get(answer.headers["Location"])).status == 200


async def test_an_open_page_shows_the_progress(site: RecordingWorkers, console: ConsoleServer) -> None:
    """The stream of the page sends the replays and the plan, and later only the replays, which change."""
    await replay(site.server, site.shard, GROUP, 20)
    async with (
        console.visit(Role.VIEWER) as person,
        person.http.get(f"{console.url}/live?page=replays&group={GROUP}&status=delivered&rate=20") as stream,
    ):
        first = await stream.content.readuntil(b"\r\n\r\n")
        while b"a second now" not in (later := await stream.content.readuntil(b"\r\n\r\n")):
            pass

    assert all(f"[data-live={region}]".encode() in first for region in ("active", "plan"))
    assert b'role="progressbar"' in later
    assert b"[data-live=plan]" not in later


@pytest.mark.usefixtures("site")
async def test_a_viewer_starts_and_stops_nothing(console: ConsoleServer) -> None:
    """The server refuses, and the buttons are disabled."""
    async with console.visit(Role.VIEWER) as person:
        for path in ("/replays", "/replays/1f2e3d4c/pause", "/api/v1/replays", "/api/v1/replays/1f2e3d4c/cancel"):
            assert (await person.post(path, {**FORM, "expected": "1", "why": "x"})).status == 403
        page = await person.get_plan(f"group={GROUP}")
        assert '<button class="btn main" disabled>Start' in page
        assert await replays(person) == []


@pytest.mark.parametrize(
    "query",
    ["rate=0", "rate=nan", "rate=100001", "group=" + "x" * 201, "source=other", "colour=red", "id=" + "1" * 501],
)
async def test_parameters_have_limits(console: ConsoleServer, query: str) -> None:
    """A value beyond its limit is answered 400."""
    async with console.visit(Role.VIEWER) as person:
        assert (await person.get(f"/api/v1/replays?{query}")).status == 400
        assert (await person.get(f"/replays?{query}")).status == 400
