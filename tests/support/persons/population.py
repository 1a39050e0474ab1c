"""A population of people whose webhooks are in every place that can store one."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from console.web.access.audit import AuditLog
from console.web.access.roles import Identity, Role
from console.web.database import open_console_database
from ingest.auth.quarantine import KEEP
from ingest.encoding import pack
from ingest.spool.file import SpoolFile
from ingest.spool.folder import folders_in
from runtime.disk import make_folder
from stream.entry import Entry, EntryId
from stream.keys import Shard
from tests.support.persons.payloads import PersonWebhook, message_id
from tests.support.samples.events import RECEIVED_MS, flat
from worker.dispatch.pause import pause_by_hand
from worker.events.event import InvalidStatus
from worker.events.vonage import parse
from worker.group.group_ref import GroupRef
from worker.replay.entry_filter import EntryFilter
from worker.replay.job import Place, Replay, State
from worker.replay.repository import Replays
from worker.retention.archive_writer import Archive
from worker.settle.history import EntryOutcome, History
from worker.settle.invalid import InvalidRecord, UnverifiedPayload
from worker.store.handler import Store

ARCHIVED_AT_ONCE = 100
PACK = "return redis.call('ZADD', KEYS[1], ARGV[1], cmsgpack.pack({unpack(ARGV, 2)}))"


@dataclass(frozen=True, slots=True)
class Population:
    """The installation to fill."""

    server: Redis
    shard: Shard
    engine: AsyncEngine
    data: Path
    archive: Path

    async def fill(self, webhooks: Sequence[PersonWebhook], named: Mapping[int, str], seed: int) -> None:
        """Put each webhook into the stream and some of the other places, and let operators name these people."""
        chance = random.Random(seed)  # noqa: S311 - the same population each time
        await self._make_groups()
        entries = [
            Entry(webhook.payload, "application/json", RECEIVED_MS + n, f"receipt-{n}", query=webhook.query)
            for n, webhook in enumerate(webhooks)
        ]
        ids = await self._add(self.shard.stream, [entry.to_fields() for entry in entries])
        await self._read_some()
        stored = list(zip(map(self._id, ids), entries, strict=True))

        def choose() -> list[tuple[EntryId, Entry]]:
            return [pair for pair in stored if chance.random() < 0.1]

        await self._copy(choose)
        await self._reject(choose(), choose())
        await self._store(stored)
        self._archive([pair for number, pair in enumerate(stored) if number % 3 == 0])
        self._spool(choose(), choose())
        await self._name(named)

    async def _make_groups(self) -> None:
        await self.server.sadd(self.shard.groups, "store", "log")
        for group in ("store", "log"):
            for stream in GroupRef(self.server, self.shard, group).streams.values():
                await self.server.xgroup_create(stream, group, "0", mkstream=True)

    async def _add(self, key: str, entries: Sequence[Any]) -> list[bytes]:
        async with self.server.pipeline(transaction=False) as pipe:
            for fields in entries:
                pipe.xadd(key, fields)
            ids: list[bytes] = await pipe.execute()
        return ids

    def _id(self, entry_id: bytes) -> EntryId:
        return EntryId.from_redis(self.shard.number, entry_id)

    async def _read_some(self) -> None:
        """Let a worker that has died since have some of the entries."""
        await self.server.xreadgroup("store", "dead-worker", {self.shard.stream: ">"}, count=500)

    async def _copy(self, choose: Any) -> None:
        pack_copy = self.server.register_script(PACK)
        for group in ("store", "log", "dropped"):
            ref = GroupRef(self.server, self.shard, group)
            await self._add(ref.dead, [self._copy_of(*pair) for pair in choose()])
            if group == "dropped":
                continue
            for key in (ref.retry, ref.replay):
                await self._add(key, [self._copy_of(*pair) for pair in choose()])
            await self.server.xreadgroup(group, "dead-worker", {ref.retry: ">"}, count=50)
            for entry_id, entry in choose():
                await pack_copy(keys=[ref.delayed], args=[RECEIVED_MS, *flat(self._copy_of(entry_id, entry))])
            outcomes = [
                EntryOutcome(str(entry_id), "dead-lettered", 3, "attempts: KeyError") for entry_id, _ in choose()
            ]
            await History(ref).append(outcomes)

    @staticmethod
    def _copy_of(entry_id: EntryId, entry: Entry) -> dict[bytes, bytes]:
        return entry.to_fields() | {b"origin": str(entry_id).encode(), b"attempt": b"2", b"error": b"failed: KeyError"}

    async def _reject(self, invalid: Any, refused: Any) -> None:
        await self.server.xgroup_create(self.shard.stream, "invalid", "0")
        await self.server.xreadgroup("invalid", "worker", {self.shard.stream: ">"})
        payloads = [
            UnverifiedPayload.from_entry(
                entry_id.redis.encode(), entry.to_fields(), origin=str(entry_id), error="no id"
            )
            for entry_id, entry in invalid
        ]
        await InvalidRecord(self.server, self.shard).record(self.shard.stream, "invalid", payloads, are_copies=False)
        await self.server.xgroup_destroy(self.shard.stream, "invalid")
        keep = self.server.register_script(KEEP)
        for number, (_, entry) in enumerate(refused):
            fields = entry.to_fields() | {b"reason": b"claims", b"fingerprint": b"f%d" % number}
            args: list[Any] = [10_000, f"f{number}", "signed", 2 * len(fields), *flat(fields)]
            await keep(keys=[self.shard.quarantine, self.shard.quarantine_index], args=args)

    async def _store(self, stored: Sequence[tuple[EntryId, Entry]]) -> None:
        events = []
        for entry_id, entry in stored:
            try:
                events.append(parse(entry, str(entry_id)))
            except InvalidStatus:
                continue
        for start in range(0, len(events), 500):
            await Store(self.engine).handle(events[start : start + 500])

    def _archive(self, stored: Sequence[tuple[EntryId, Entry]]) -> None:
        archive = Archive(self.archive)
        archive.prepare()
        raw = [(entry_id.redis.encode(), flat(entry.to_fields())) for entry_id, entry in stored]
        for start in range(0, len(raw), ARCHIVED_AT_ONCE):
            with archive.draft(self.shard) as draft:
                draft.add(raw[start : start + ARCHIVED_AT_ONCE])
                draft.finish()

    def _spool(self, *folders: Sequence[tuple[EntryId, Entry]]) -> None:
        for number, stored in enumerate(folders):
            make_folder(self.data / "spool" / str(number))
            file = SpoolFile.create(folders_in(self.data)[number] / "000001.db")
            file.put([pack(entry) for _, entry in stored])
            part = file.read(5, 1 << 20)
            assert part is not None
            file.confirm(part)
            file.close()

    async def _name(self, people: Mapping[int, str]) -> None:
        """Let operators replay the messages of these people, note acts on them, and pause a group for one of them."""
        store = GroupRef(self.server, self.shard, "store")
        await pause_by_hand(store, "ada", f"+{next(iter(people.values()))} complains")
        for person in people:
            replay = Replay(
                id=f"r{person}",
                group="store",
                place=Place.ARCHIVE,
                selection=EntryFilter(messages=(message_id(person),)),
                rate=1.0,
                begin="0-0",
                end="0-0",
                total=1,
                started_ms=person,
            )
            await Replays(store).start(replay)
            await Replays(store).change_state(replay, State.CANCELLED, allowed=[State.RUNNING])
        async with open_console_database(self.data / "console" / "console.db") as database:
            for person in people:
                identity = Identity("ada", Role.OPERATOR, "127.0.0.1")
                await AuditLog(database).record(identity, action="message.reveal", scope=message_id(person), result="1")
