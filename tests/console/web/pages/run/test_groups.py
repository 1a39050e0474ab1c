"""The pages of groups, and the number for autoscalers."""

import html
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from console.queries.run import outstanding
from console.web.access.roles import Role
from console.web.pages.run.replies import GroupDetailsReply, GroupsReply
from stream.keys import Shard
from tests.support.http.console_server import ConsoleServer, run_console
from tests.support.servers.proxy import run_proxy, through
from tests.support.streams.retention import add, group, register
from tests.support.waiting import until
from tests.support.workers.recording import GROUP, RecordingWorkers, ids, run_recording_workers
from worker.dispatch.pause import Pause, PauseReason
from worker.group.group_ref import GroupRef

MARKUP = "<img src=x onerror=alert(1)>/\"'&?#%2e ü"


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


@pytest.fixture
async def stream(server: Redis, shard: Shard) -> Shard:
    """A stream with a group that has read half of it, and a foreign group."""
    await add(server, shard, range(1, 101))
    await group(server, shard, "slow", read=50, ack=40)
    await group(server, shard, "foreign")
    await register(server, shard, "slow")
    await server.xadd(shard.dead("slow"), {"payload": "x"})
    return shard


@pytest.mark.usefixtures("stream")
async def test_groups_are_listed_with_their_open_work(console: ConsoleServer) -> None:
    """The page and its twin have registered and foreign groups, with the part of the stream that each keeps."""
    async with console.visit(Role.VIEWER) as person:
        data = (await person.get("/api/v1/groups")).json()
        details = (await person.get("/api/v1/groups/slow")).json()
        page = (await person.get("/groups")).text
        rows = {row["group"]: row for row in data["groups"]}

    GroupsReply.model_validate(data)
    GroupDetailsReply.model_validate(details)
    slow, foreign = rows["slow"], rows["foreign"]
    assert [(consumer["name"], consumer["pending"]) for consumer in details["consumers"]] == [("c", 10)]
    assert (slow["unread"], slow["pending"], slow["dead"], slow["outstanding"]) == (50, 10, 1, 60)
    assert (slow["state"], foreign["state"]) == ("behind", "foreign")
    assert foreign["kept"] == {**foreign["kept"], "entries": 100, "exact": True}
    assert 0 < slow["kept"]["bytes"] < foreign["kept"]["bytes"]
    for text in ('href="/groups/slow"', "Behind", "Of another program", 'href="/dead-letters?group=slow"'):
        assert text in page


async def test_a_group_whose_target_is_away_says_so(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path
) -> None:
    """While the handler raises Unavailable, the group is shown as waiting and not as healthy; afterwards as healthy."""
    with run_recording_workers(valkey_url, server, shard, tmp_path) as site:
        worker = await site.start()
        await site.append("away-1")
        await worker.has_logged("handler.unavailable")
        url = f"http://127.0.0.1:{worker.read_log('worker.started')[0]['admin_port']}"
        data = tmp_path / "console"
        data.mkdir()
        async with (
            run_console(data, valkey_url, shard.name, console_scrape=url) as console,
            console.visit(Role.VIEWER) as person,
        ):

            async def has_states(group: str, overview: str) -> bool:
                rows = (await person.get("/api/v1/groups")).json()["groups"]
                shown = (await person.get("/api/v1/overview")).json()["groups"]
                return [row["state"] for row in rows] == [group] and [row["state"] for row in shown] == [overview]

            await until(lambda: has_states("waiting", "Target away"))
            (site.folder / "back").touch()
            await until(lambda: has_states("healthy", "Healthy"))


@pytest.mark.parametrize(
    ("query", "regions"), [("page=groups", ("groups",)), ("page=group&name=slow", ("facts", "consumers"))]
)
@pytest.mark.usefixtures("stream")
async def test_an_open_page_is_live(console: ConsoleServer, query: str, regions: tuple[str, ...]) -> None:
    """The stream of each page sends its regions."""
    async with console.visit(Role.VIEWER) as person, person.http.get(f"{console.url}/live?{query}") as stream:
        first = await stream.content.readuntil(b"\r\n\r\n")

    assert all(f"[data-live={region}]".encode() in first for region in regions)


async def test_an_operator_lets_a_failing_group_try_at_once(
    server: Redis, shard: Shard, console: ConsoleServer
) -> None:
    """The next probe is due at once; a group that is not failing is left alone."""
    await register(server, shard, "g")
    await group(server, shard, "g")
    pause = Pause(GroupRef(server, shard, "g"), 100)
    async with console.visit() as person:
        refused = await person.post("/groups/g/probe")
        assert "is not paused, so nothing is tried" in (await person.get(refused.headers["Location"])).text
        await pause.start(PauseReason.FAILING)
        await server.hset(shard.paused("g"), "probe", str(int(time.time() * 1000) + 14_000))
        assert not await pause.take_probe(60, "c")
        assert "Try now" in (await person.get("/groups")).text

        assert (await person.post("/groups/g/probe")).status == 303
        await server.hset(shard.alive("g"), "c", "1")
        assert await pause.take_probe(60, "c")
        assert (await person.post("/api/v1/groups/g/probe")).json() == {"group": "g", "probe": "running"}

    log = await console.read_audit("groups")
    assert [(row["action"], row["scope"]) for row in log] == [("groups.probe", "group=g")] * 2


async def test_an_operator_pauses_and_resumes_a_group(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path, console: ConsoleServer
) -> None:
    """The pause stops the calls of a real worker, a probe does not end it, and it survives a restart of the worker."""
    with run_recording_workers(valkey_url, server, shard, tmp_path, pace=0.3) as site:
        worker = await site.start()
        async with console.visit() as person:
            paused = await person.post(f"/groups/{GROUP}/pause", {"why": "receiver is down"})
            assert (paused.status, paused.headers["Location"]) == (303, f"/groups/{GROUP}")
            await worker.has_logged("group.paused")
            page = (await person.get(f"/groups/{GROUP}")).text
            assert "“receiver is down”" in page
            await site.append(*ids("ok", range(5)))
            worker.kill()
            second = await site.start()
            await second.has_logged("group.paused")
            pause = Pause(GroupRef(server, shard, GROUP), 100)
            await pause.end(PauseReason.FAILING)
            await pause.refresh()
            (row,) = (await person.get("/api/v1/groups")).json()["groups"]
            assert (row["state"], row["paused"]["reason"], row["outstanding"]) == ("paused", "operator", 5)
            assert len(site.times("done")) == 0
            await person.post(f"/groups/{GROUP}/resume")
            await _is_done(site)
            again = await person.post(f"/groups/{GROUP}/resume")
            assert "is not paused" in (await person.get(again.headers["Location"])).text

    log = await console.read_audit("groups")
    assert [(row["action"], row["why"]) for row in log] == [
        ("groups.pause", "receiver is down"),
        ("groups.resume", ""),
        ("groups.resume", ""),
    ]


async def _is_done(site: RecordingWorkers) -> None:
    await site.is_done()
    assert site.times("done") == dict.fromkeys(ids("ok", range(5)), 1)


async def test_a_drop_needs_an_admin_and_the_typed_name(server: Redis, stream: Shard, console: ConsoleServer) -> None:
    """Anything less drops nothing; the page says what is lost, and the dead letters stay unless they are chosen."""
    form = {"typed": "slow", "why": "old"}
    async with console.visit() as operator, console.visit(Role.ADMIN) as admin:
        assert (await operator.post("/groups/slow/drop", form)).status == 403
        assert (await operator.post("/api/v1/groups/slow/drop", json=form)).status == 403
        assert "drop-dialog" not in (await operator.get("/groups/slow")).text.replace('commandfor="drop-dialog"', "")
        for wrong in ({"typed": "Slow", "why": "old"}, {"typed": "slow"}, {"why": "old"}):
            assert (await admin.post("/groups/slow/drop", wrong)).status == 400
        assert (await admin.post("/groups/nobody/drop", {"typed": "nobody", "why": "old"})).status == 404
        assert await server.sismember(stream.groups, "slow")
        page = html.unescape((await admin.get("/groups/slow")).text)
        assert "50 unread, 10 in flight" in page

        dropped = await admin.post("/groups/slow/drop", form)
        assert (dropped.status, dropped.headers["Location"]) == (303, "/groups")
        assert "60 entries will not reach it any more." in (await admin.get("/groups")).text
        assert (await admin.get("/groups/slow")).status == 404
        assert (await admin.post("/api/v1/groups/foreign/drop", json={"typed": "foreign", "why": "old"})).status == 200
    assert await server.xinfo_groups(stream.stream) == []
    assert await server.xlen(stream.dead("slow")) == 1
    first, second = await console.read_audit("groups.drop")
    assert (first["scope"], first["count"], first["why"]) == ("group=slow", 60, "old")
    assert second["count"] == 100


async def test_a_group_with_a_live_worker_is_not_dropped(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path, console: ConsoleServer
) -> None:
    """The form says that its workers must be stopped first; the API answers 409."""
    with run_recording_workers(valkey_url, server, shard, tmp_path, pace=0.3) as site:
        await site.start()
        form = {"typed": GROUP, "why": "old"}
        async with console.visit(Role.ADMIN) as admin:
            answer = await admin.post(f"/groups/{GROUP}/drop", form)
            assert "stop its workers first" in (await admin.get(answer.headers["Location"])).text
            assert (await admin.post(f"/api/v1/groups/{GROUP}/drop", json=form)).status == 409
    assert await server.sismember(shard.groups, GROUP)


async def test_a_name_may_hold_any_character(server: Redis, shard: Shard, console: ConsoleServer) -> None:
    """Markup in a name is escaped, and its links lead to its page, its number and its acts."""
    await add(server, shard, range(1, 11))
    await group(server, shard, MARKUP)
    await register(server, shard, MARKUP)
    path = f"/groups/{quote(MARKUP, safe='')}"
    async with console.visit(Role.ADMIN) as admin:
        for page in (await admin.get("/groups"), await admin.get(path), await admin.get("/replays")):
            assert page.status == 200
            assert "<img" not in page.text
            assert html.escape(MARKUP) in page.text.replace("&#39;", "&#x27;").replace("&#34;", "&quot;")
        assert f'href="{path}"' in (await admin.get("/groups")).text
        assert (await admin.get(f"/api/v1{path}")).json()["group"] == MARKUP
        assert (await admin.get(f"/api/v1{path}/outstanding")).json() == {"outstanding": 10}
        paused = await admin.post(f"{path}/pause", {"why": "<b>why</b>"})
        assert paused.headers["Location"] == path
        page = await admin.get(paused.headers["Location"])
        assert "&lt;b&gt;why&lt;/b&gt;" in page.text
        assert "<b>why" not in page.text
        assert (await admin.post(f"{path}/drop", {"typed": MARKUP, "why": "old"})).status == 303
    assert await server.smembers(shard.groups) == set()


@pytest.mark.usefixtures("stream")
async def test_the_number_for_autoscalers_is_exact_or_an_error(
    server: Redis, stream: Shard, console: ConsoleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown group is 404; a lag that cannot be known is 503, never a number."""
    async with console.visit(Role.VIEWER) as person:
        assert (await person.get("/api/v1/groups/slow/outstanding")).json() == {"outstanding": 60}
        assert (await person.get("/api/v1/groups/nobody/outstanding")).status == 404
        await server.xdel(stream.stream, "70-0")
        monkeypatch.setattr(outstanding, "COUNTED_AT_MOST", 10)
        inexact = await person.get("/api/v1/groups/slow/outstanding")
        assert (inexact.status, set(inexact.json())) == (503, {"error"})
        await server.xgroup_destroy(stream.stream, "slow")
        missing = await person.get("/api/v1/groups/slow/outstanding")
        assert (missing.status, set(missing.json())) == (503, {"error"})


async def test_pages_come_back_with_redis(tmp_path: Path, valkey_url: str, server: Redis, stream: Shard) -> None:
    """While Redis is away each page says so, the number is an error, and an interrupted act is recorded."""
    paths = ("/groups", "/groups/slow", "/replays", "/api/v1/groups/slow/outstanding", "/api/v1/replays")
    async with (
        run_proxy(int(valkey_url.rpartition(":")[2])) as proxy,
        run_console(tmp_path, through(proxy, valkey_url), stream.name) as console,
        console.visit() as person,
    ):
        proxy.refuses = True
        proxy.cut()
        away = [await person.get(path) for path in paths]
        settings = await person.get("/settings")
        interrupted = await person.post("/groups/slow/pause", {"why": "x"})
        proxy.refuses = False

        async def is_back() -> bool:
            return all([(await person.get(path)).status == 200 for path in paths])

        await until(is_back)
        log = await console.read_audit("groups.pause")

    assert [answer.status for answer in away] == [503] * len(paths)
    assert all("Redis does not answer" in answer.text for answer in away)
    assert (settings.status, "Away" in settings.text) == (200, True)
    assert interrupted.status == 303
    assert [(row["why"], row["result"]) for row in log] == [("x", "interrupted: Redis does not answer")]
    assert not await server.exists(stream.paused("slow"))


async def test_an_empty_console_says_what_to_do(console: ConsoleServer) -> None:
    """Without a stream every page has an empty state, and nothing is created."""
    async with console.visit(Role.VIEWER) as person:
        pages = {path: (await person.get(path)).text for path in ("/groups", "/replays", "/audit?who=nobody")}
        assert (await person.get("/groups/nobody")).status == 404

    assert "No group yet." in pages["/groups"]
    assert "No replay has ended yet." in pages["/replays"]
    assert "No action matches." in pages["/audit?who=nobody"]
