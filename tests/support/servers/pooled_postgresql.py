"""A PostgreSQL that speaks TLS with a test certificate, and a PgBouncer in transaction mode before a PostgreSQL."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from console.up.valkey import find_free_port

PASSWORD = "hunter2"  # noqa: S105 - of a server that lives for one test
START_SECONDS = 30
_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def _program(name: str) -> str:
    path = shutil.which(name, path=os.pathsep.join([*map(str, reversed(_FOLDERS)), os.defpath, "/usr/sbin"]))
    if not path:
        pytest.skip(f"{name} is not installed: apt-get install pgbouncer postgresql")
    return path


def _user(name: str) -> str | None:
    """Return the user of a server: PostgreSQL refuses root, so root uses this user; other users keep theirs."""
    return name if os.geteuid() == 0 else None


@contextmanager
def _folder(user: str | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ackstream-test-") as name:
        if user:
            shutil.chown(name, user)
        yield Path(name)


def _write(path: Path, text: bytes, user: str | None) -> None:
    path.write_bytes(text)
    path.chmod(0o600)
    if user:
        shutil.chown(path, user)


@contextmanager
def _run_process(*command: str, folder: Path, port: int, user: str | None, ready: str = "") -> Iterator[None]:
    """Run a server until the block ends; it is up when its port answers and its log has the words ``ready``."""
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command, cwd=folder, user=user, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    if ready in (folder / "log").read_text():
                        break
                assert child.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, "it does not listen"
                time.sleep(0.02)
            yield
        finally:
            child.terminate()
            child.wait(START_SECONDS)


@contextmanager
def tls_postgresql() -> Iterator[tuple[str, Path]]:
    """Debian's PostgreSQL with a certificate for ``localhost``; yields host and port, and the authority's file."""
    initdb, postgres = _program("initdb"), _program("postgres")
    authority, port, user = trustme.CA(), find_free_port(), _user("postgres")
    certificate = authority.issue_cert("localhost")
    with _folder(user) as folder:
        _write(folder / "password", PASSWORD.encode(), user)
        data = folder / "data"
        authentication = ("-U", "postgres", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}")
        subprocess.run(
            [initdb, "-D", data, *authentication, "-N", "--locale=C.UTF-8"],
            user=user,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        _write(data / "server.key", certificate.private_key_pem.bytes(), user)
        _write(data / "server.crt", b"".join(blob.bytes() for blob in certificate.cert_chain_pems), user)
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        root = folder / "root.pem"
        authority.cert_pem.write_to_path(root)
        options = ("-c", "ssl=on", "-c", f"port={port}", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off")
        ready = "ready to accept connections"
        with _run_process(postgres, "-D", str(data), *options, folder=folder, port=port, user=user, ready=ready):
            yield f"localhost:{port}", root


@contextmanager
def pgbouncer(socket_folder: str, database: str) -> Iterator[str]:
    """Debian's PgBouncer in transaction mode before the server with this socket; yields the database's URL."""
    program, port, user = _program("pgbouncer"), find_free_port(), _user(Path(socket_folder).owner())
    with _folder(user) as folder:
        _write(folder / "users", f'"postgres" "{PASSWORD}"\n'.encode(), user)
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "md5",
            "auth_file": folder / "users",
            "pool_mode": "transaction",
            "default_pool_size": 3,
            "server_round_robin": 1,
        }
        lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
        text = f"[databases]\n{database} = host={socket_folder} user=postgres\n[pgbouncer]\n{lines}\n"
        _write(folder / "pgbouncer.ini", text.encode(), user)
        with _run_process(program, str(folder / "pgbouncer.ini"), folder=folder, port=port, user=user):
            yield f"postgres://postgres:{PASSWORD}@127.0.0.1:{port}/{database}"
