"""Turns URLs of PostgreSQL, as managed databases give them, into arguments of the driver. Does not connect.

``postgres://`` or ``postgresql://``, ``user:password@host:port,host:port/database`` and the parameters of libpq:
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
"""

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from runtime.errors import CommandError, WrongValue

SCHEMES = ("postgres://", "postgresql://")
CONNECT_SECONDS = 5.0
PORT = 5432
SYSTEM = "system"
"""The ``sslrootcert`` that means the certificate authorities of this machine."""

_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]\s]*)(:\d{1,9})?", re.ASCII)
_VALUES: Mapping[str, frozenset[str]] = {
    "sslmode": frozenset(("disable", "allow", "prefer", "require", "verify-ca", "verify-full")),
    "channel_binding": frozenset(("disable", "prefer", "require")),
    "target_session_attrs": frozenset(("any", "primary", "standby", "read-write", "read-only", "prefer-standby")),
    "gssencmode": frozenset(("disable", "prefer")),
    "client_encoding": frozenset(("utf8", "UTF8", "utf-8", "UTF-8", "auto")),
}
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_FOR_THE_DRIVER = frozenset(
    ("host", "port", "dbname", "user", "password", "sslmode", "sslpassword", "target_session_attrs", *_FILES)
)
_FOR_THE_SERVER = frozenset(("application_name", "options"))
_WITHOUT_EFFECT = frozenset(("gssencmode", "client_encoding", "pgbouncer", "supa"))
"""Parameters of some providers without effect here, because the code always works behind a pooler."""
_OURS = frozenset(("connect_timeout", "channel_binding"))
_KNOWN = _FOR_THE_DRIVER | _FOR_THE_SERVER | _WITHOUT_EFFECT | _OURS


def check(url: str) -> None:
    """Raise WrongValue, which names the parameter, if the URL is invalid."""
    _parse(url)


def list_hosts(url: str) -> list[tuple[str, int]]:
    """Return host and port of each server that the URL names. Raises WrongValue."""
    base, _, parameters = _parse(url)
    hosts = urlsplit(base).netloc
    if not hosts:
        names, ports = parameters.get("host", "").split(","), parameters.get("port", "").split(",")
        hosts = ",".join(f"{name}:{ports[min(place, len(ports) - 1)]}".rstrip(":") for place, name in enumerate(names))
    matches = map(_HOST.fullmatch, hosts.split(","))
    return [(match[1].strip("[]"), int((match[2] or f":{PORT}")[1:])) for match in matches if match and match[1]]


def connect_arguments(url: str) -> dict[str, Any]:
    """Return the keyword arguments of ``asyncpg.connect`` for this URL. Raises WrongValue, or CommandError for a file.

    ``sslmode=verify-full`` and ``verify-ca`` without ``sslrootcert`` use the authorities of this machine. The driver
    has no channel binding, so ``channel_binding=require`` means ``sslmode=verify-full``, which also prevents
    interception.
    """
    base, auth, parameters = _parse(url)
    for name in _FILES:
        path = parameters.get(name)
        if path and path != SYSTEM and not os.access(path, os.R_OK):
            raise CommandError(
                f"ACKSTREAM_DATABASE_URL: the file of {name} cannot be read; correct its path or its rights"
            )
    arguments: dict[str, Any] = {**auth, "timeout": float(parameters.get("connect_timeout", 0)) or CONNECT_SECONDS}
    mode = "verify-full" if parameters.get("channel_binding") == "require" else parameters.get("sslmode", "")
    driver = {name: value for name, value in parameters.items() if name in _FOR_THE_DRIVER}
    if mode.startswith("verify-"):
        arguments["ssl"] = _make_ssl_context(mode, parameters)
        driver = {name: value for name, value in driver.items() if not name.startswith("ssl")}
    arguments["dsn"] = f"{base}?{urlencode(driver)}" if driver else base
    server = {name: value for name, value in parameters.items() if name in _FOR_THE_SERVER}
    arguments["server_settings"] = {"application_name": "ackstream", **server}
    return arguments


def _parse(url: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """Split the URL: the rest without user, password and parameters; user and password; the parameters."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise WrongValue("it is not a URL; write special characters of the password as %XX") from None
    auth, _, hosts = parts.netloc.rpartition("@")
    user, _, password = auth.partition(":")
    if parts.fragment or "#" in url or not all(_HOST.fullmatch(host) for host in hosts.split(",")):
        raise WrongValue("its host or port cannot be read; write special characters of the password as %XX")
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in parameters.items():
        if name not in _KNOWN:
            raise WrongValue(f"its parameter {name!r} is not supported; remove it")
        if name in _VALUES and value not in _VALUES[name]:
            raise WrongValue(f"its parameter {name} must be one of {', '.join(sorted(_VALUES[name]))}")
    _check_addresses(hosts, parameters)
    if not re.fullmatch(r"\d{1,5}", parameters.get("connect_timeout", "0"), re.ASCII):
        raise WrongValue("its parameter connect_timeout is not a whole number of seconds")
    login = {"user": unquote(user), "password": unquote(password)} if auth else {}
    base = f"postgresql://{hosts}{parts.path}"
    return base, {name: value for name, value in login.items() if value}, parameters


def _check_addresses(hosts: str, parameters: Mapping[str, str]) -> None:
    """Raise WrongValue for a port or a name of a host that is not possible."""
    names, ports = parameters.get("host", "").split(","), parameters.get("port", "").split(",")
    if any(not name.startswith("/") and re.search(r"\s", name) for name in names):
        raise WrongValue("its parameter host contains a blank")
    ports += [host.rpartition(":")[2] for host in hosts.split(",") if not host.endswith("]") and ":" in host]
    if not all(re.fullmatch(r"\d+", port, re.ASCII) and 0 < int(port) < 2**16 for port in filter(None, ports)):
        raise WrongValue("a port is not from 1 to 65535")


def _make_ssl_context(mode: str, parameters: Mapping[str, str]) -> ssl.SSLContext:
    """Return a context that verifies the certificate of the server, and its host only with ``verify-full``."""
    root = parameters.get("sslrootcert", SYSTEM)
    try:
        context = ssl.create_default_context(cafile=None if root == SYSTEM else root)
        if crl := parameters.get("sslcrl"):
            context.load_verify_locations(crl)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        if certificate := parameters.get("sslcert"):
            key, password = parameters.get("sslkey"), parameters.get("sslpassword", "")
            context.load_cert_chain(Path(certificate), key, password)
    except (OSError, ValueError) as exc:
        names = "sslrootcert, sslcrl, sslcert and sslkey"
        raise CommandError(
            f"ACKSTREAM_DATABASE_URL: a file of {names} is not valid PEM ({type(exc).__name__})"
        ) from None
    context.check_hostname = mode == "verify-full"
    return context
