"""The page of the commands' JSON: the fields that each command prints when it runs on real data."""

import asyncio
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from typer.testing import CliRunner

from console.main import make_app
from console.simulate.signing import Signer
from deploy.docs.markdown import code, page, table
from deploy.docs.running import Running, Start, await_condition, run_up, start_ackstream
from runtime import run_file
from stream.entry import Entry
from stream.keys import Shard
from stream.redis.client import client
from worker.events.samples import MESSAGE_UUID, payload

INTRODUCTION = """
With `--json` a command prints one JSON object to standard output and nothing else. `x[]` is a list of objects,
`<name>` any key. This page is made from an example run: *null* is a value that was missing there, *or null* one that
was missing in some places. New fields may be added; these stay.
"""
SECRETS = {"account": (b"a secret of at least thirty-two bytes",)}
STATUS = payload("sms", "submitted", client_ref="order-7")
HANDLERS = "store,log,reads=forward:http://127.0.0.1:9/#only=read"
"""The last one filters the status, so the message has a history."""
INVALID = b'{"no":"status"}'
DYNAMIC = frozenset(("groups", "statuses", "answered", "discarded", "query", "found", "erased", "settled"))
"""Objects whose keys are data."""
NAMES = frozenset(("store", "old-name", "example"))
"""Words of the commands below that are data."""
TYPES = {str: "text", bool: "true or false", int: "number", float: "number", type(None): "null"}

Shape = Mapping[str, str]


def render(shapes: Mapping[str, Shape]) -> str:
    """Return the page for the shapes of all outputs."""
    parts = [
        f"## ackstream {command}\n\n" + table(("field", "type"), ((code(name), kind) for name, kind in shape.items()))
        for command, shape in shapes.items()
    ]
    return page("JSON outputs", INTRODUCTION, *parts)


def parse(text: str) -> Mapping[str, Shape]:
    """Return the shapes that a rendered page has."""
    shapes: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if line.startswith("## ackstream "):
            fields = shapes.setdefault(line.removeprefix("## ackstream "), {})
        elif line.startswith("| `"):
            name, kind = line.strip("| ").split(" | ")
            fields[name.strip("`")] = kind
    return shapes


def are_compatible(kind: str, second: str) -> bool:
    """Whether two runs can give these types: a value may be null in one of them."""
    return bool(set(kind.split(" or null")) & set(second.split(" or null")) - {""}) or "null" in (kind, second)


def record_shapes(start: Start = start_ackstream) -> Mapping[str, Shape]:
    """Run every command with `--json` on a small `ackstream up`, and return the shapes of the outputs."""
    secrets = ",".join(f"{account}:{live[0].decode()}" for account, live in SECRETS.items())
    with (
        tempfile.TemporaryDirectory(prefix="ackstream-json-") as name,
        run_up(Path(name), start, signatures="required", signature_secrets=secrets, handlers=HANDLERS) as running,
    ):
        _fill(running)
        await_condition(lambda: _is_settled(running))
        return dict(_record(running))


def _fill(running: Running) -> None:
    """Send a status, an invalid payload and a wrong signature; add an unsigned invalid payload and a foreign group."""
    signer = Signer(SECRETS, "Authorization")
    forger = Signer({"account": (b"another secret of thirty-two bytes",)}, "Authorization")
    for body, signed in ((STATUS, signer), (INVALID, signer), (STATUS, forger)):
        running.post(body, signed.sign(body, time.time()))
    asyncio.run(_add_to_stream(running))


async def _add_to_stream(running: Running) -> None:
    addresses = run_file.find_running(running.data)
    assert addresses is not None  # noqa: S101 - it runs
    server = client(addresses.redis_url)
    entry = Entry(INVALID, "application/json", time.time_ns() // 1_000_000, "example", signature="missing")
    fields: Any = entry.to_fields()
    await server.xadd(Shard().stream, fields)
    await server.xgroup_create(Shard().stream, "old-name", id="0")
    await server.aclose()


def _is_settled(running: Running) -> bool:
    stats = _run(running, "stats")
    is_done = all(group["outstanding"] == 0 and group["dead"] for group in stats["groups"].values())
    groups = _run(running, "groups list")["groups"]
    return (
        is_done
        and all(group["checkpoint"] for group in groups if group["registered"])  # about a second after the last entry
        and stats["shards"][0]["invalid"]["entries"] > 0
        and bool(_run(running, "quarantine list")["quarantine"])
    )


def _record(running: Running) -> Iterator[tuple[str, Shape]]:
    """Yield each command with the shape of its output; the later ones change the data."""
    for command in ("simulate --messages 5", f"trace {MESSAGE_UUID}", "stats", "doctor --role console"):
        yield _shape(running, command)
    for command in ("groups list", "groups resume store"):
        yield _shape(running, command)
    dead = _run(running, "dead-letters list")["dead_letters"][0]["id"]
    record = _run(running, "invalid list")["invalid"][0]["id"]
    refused = _run(running, "quarantine list")["quarantine"][0]["id"]
    for command in (
        "dead-letters list",
        f"dead-letters show {dead} --reveal",
        "invalid list",
        f"invalid show {record}",
    ):
        yield _shape(running, command)
    for command in ("quarantine list", f"quarantine show {refused}", "spool list", "spool adopt --all", "replay plan"):
        yield _shape(running, command)
    yield _shape(running, "replay run --group store --rate 0.01 --detach")
    replay = _run(running, "replay list")["replays"][0]["replay"]
    for command in ("replay list", f"replay pause {replay}", f"replay resume {replay}", f"replay cancel {replay}"):
        yield _shape(running, command)
    yield _shape(running, "dead-letters discard --all")
    yield _shape(running, "invalid replay --all")
    yield _shape(running, "invalid discard --all --yes")
    yield _shape(running, "quarantine discard --all")
    yield _shape(running, "groups drop old-name --yes")
    yield _shape(running, f"erase --message {MESSAGE_UUID} --yes")
    for command in ("token add example --role viewer", "token list", "token remove example"):
        yield _shape(running, f"console {command}")
    for command in ("add example --role viewer --no-password", "list", "sign-out example", "remove example"):
        yield _shape(running, f"console user {command}")
    yield _shape(running, "plan --rate 100")
    yield _shape(running, "console link")
    for command in ("shards list", "shards set 2"):
        yield _shape(running, command)


def _shape(running: Running, command: str) -> tuple[str, Shape]:
    shape: dict[str, str] = {}
    for name, kind in _describe("", _run(running, command)):
        shape[name] = _merge(shape.get(name), kind)
    words = [word for word in command.partition(" --")[0].split() if not any(map(str.isdigit, word))]
    return " ".join(word for word in words if word not in NAMES), shape


def _describe(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        is_dynamic = path.rpartition(".")[2] in DYNAMIC
        for name, member in value.items():
            step = "<name>" if is_dynamic else name
            yield from _describe(f"{path}.{step}" if path else step, member)
    elif isinstance(value, list):
        yield path, "list"
        for member in value:
            yield from _describe(f"{path}[]", member)
    else:
        yield path, TYPES[type(value)]


def _merge(kind: str | None, second: str) -> str:
    if kind is None or kind == second:
        return second
    names = sorted({*kind.split(" or "), *second.split(" or ")} - {"null"})
    return " or ".join([*names, "null"] if "null" in (kind, second) or "or null" in kind else names)


def _run(running: Running, command: str) -> Any:
    environment = {**running.environment, "ACKSTREAM_DATA": str(running.data)}
    result = CliRunner().invoke(make_app(), [*command.split(), "--json"], env=environment)
    if result.exit_code != 0:
        raise RuntimeError(f"`ackstream {command}` ended with {result.exit_code}: {result.output} {result.exception}")
    return orjson.loads(result.stdout)
