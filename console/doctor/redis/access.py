"""Checks who reaches the Redis server: without a password, and which commands the user lacks.

The server itself says which commands the user may run, in a script, without running them. The commands are those of
``deploy/redis-users.acl``; a test compares both.
"""

import asyncio
import socket
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from console.doctor.finding import Finding, make_finding
from console.doctor.setup import Setup
from stream.redis.client import redact_url
from stream.redis.cluster import list_nodes, split_shards
from stream.redis.errors import is_denied
from stream.redis.scripts import read_script
from stream.redis.url import Target

RIGHTS: Mapping[str, Sequence[str]] = {
    "ingest": (
        *("ping", "info memory", "config|get appendonly", "command|info xadd", "script|load x", "evalsha x 1 {s}"),
        *("xadd {s} * f v", "setnx {s}:server x", "get {s}:server", "setnx {s}:shards x", "get {s}:shards"),
        *("set {s}:shards x", "time"),
        *("xlen {s}:quarantine", "hget {s}:quarantine:x f"),
        *("hexists {s}:quarantine:x f", "hset {s}:quarantine:x f v", "hincrby {s}:quarantine:x f 1"),
        "del {s}:quarantine",
    ),
    "worker": (
        *("ping", "info memory", "time", "command|info xadd", "script|load x", "evalsha x 1 {s}", "xack {s} g 1-1"),
        *("xadd {s}:dead:g * f v", "xclaim {s} g c 0 1-1", "xdel {s} 1-1", "xgroup|create {s} g 0"),
        *("xgroup|delconsumer {s} g c", "xgroup|destroy {s} g", "xgroup|setid {s} g 0", "xinfo|groups {s}"),
        *("xlen {s}", "xpending {s} g", "xrange {s} - +", "xrevrange {s} + -", "xtrim {s} MAXLEN 0"),
        *("xreadgroup GROUP g c STREAMS {s} >", "hdel {s}:alive:g f", "hget {s}:removed f", "hgetall {s}:alive:g"),
        *("hincrby {s}:alive:g f 1", "hset {s}:alive:g f v", "zadd {s}:delayed:g 1 m", "zcard {s}:delayed:g"),
        *("zrangebyscore {s}:delayed:g 0 1", "zrem {s}:delayed:g m", "zremrangebyrank {s}:handled:g 0 0"),
        *(
            "xread STREAMS {s} 0",
            "zscan {s}:delayed:g 0",
            "zremrangebyscore {s}:handled:g 0 0",
            "zmscore {s}:handled:g m",
            "hexists {s}:paused:g f",
        ),
        *("hlen {s}:alive:g", "hmget {s}:removed f", "unlink {s}:poison:g", "sadd {s}:groups g"),
        *("sismember {s}:groups g", "smembers {s}:groups", "get {s}:checkpoint:g", "set {s}:checkpoint:g 0"),
        "setnx {s}:shards x",
        *("del {s}:trimmer", "exists {s}", "pexpire {s}:paused:g 1", "memory|usage {s}"),
    ),
    "console": (
        *("ping", "info memory", "time", "command|info xadd", "script|load x", "evalsha x 1 {s}", "xadd {s} * f v"),
        *("xdel {s}:dead:g 1-1", "xgroup|create {s} g 0", "xgroup|destroy {s} g", "xinfo|groups {s}", "xlen {s}"),
        *("xpending {s} g", "xrange {s} - +", "xrevrange {s} + -", "hgetall {s}:alive:g", "hmget {s}:removed f"),
        *("hget {s}:paused:g f", "hkeys {s}:replays:g", "hset {s}:replays:g f v", "hdel {s}:replays:g f"),
        *("hincrby {s}:invalid:totals f 1", "zcard {s}:delayed:g", "zrange {s}:delayed:g 0 1"),
        *("zrem {s}:delayed:g m", "smembers {s}:groups", "sismember {s}:groups g", "srem {s}:groups g"),
        *("get {s}:checkpoint:g", "del {s}:dead:g", "exists {s}", "unlink {s}:dead:g", "multi", "exec"),
        *("set {s}:shards x", "sadd {s}:groups g", "xgroup|setid {s} g 0"),
        *("memory|usage {s}", "scan 0", "zscan {s}:delayed:g 0", "hexists {s}:paused:g f", "xack {s} g 1-1"),
    ),
}
"""Role → an example of each command that its user runs. ``{s}`` is the stream; a ``|`` precedes a subcommand."""

ORDER_RIGHTS = {"xread", "zscan"}
"""The commands that workers run in order mode only."""

CHECK = read_script(__file__, "check_rights.lua")


async def check_access(server: Redis, setup: Setup) -> Sequence[Finding]:
    """Return the findings about passwords and rights. Raises RedisError."""
    shards = await setup.find_shards(server)
    findings = [*await _check_password(server, setup)]
    answering, _ = await split_shards(server, shards)
    for address, node in (await list_nodes(server, [shard.stream for shard in answering])).items():
        for role in _find_roles(setup):
            missing = await find_missing(node, setup.stream.shard.stream, role)
            if names := [name for name in missing if _needs(setup, role, name)]:
                commands = ", ".join(names) + (f" on node {address}" if address else "")
                findings.append(make_finding("redis.rights", role=role, commands=commands))
    return findings


def _find_roles(setup: Setup) -> Sequence[str]:
    """Return the role that the user is named after (deploy/redis-users.acl), else all roles that run here."""
    user = Target.from_url(setup.stream.redis_url).options.get("username")
    return [str(user)] if user in RIGHTS else setup.roles


def _needs(setup: Setup, role: str, name: str) -> bool:
    is_in_order = setup.worker is None or setup.worker.order == "message"
    return role != "worker" or is_in_order or name not in ORDER_RIGHTS


async def find_missing(server: Redis, stream: str, role: str) -> list[str]:
    """Return the commands of the role that this user may not run. Raises RedisError."""
    examples = [example.format(s=stream).split() for example in RIGHTS[role]]
    args: list[str | int] = []
    for name, *rest in examples:
        words = [*name.split("|"), *rest]
        args += [len(words), *words]
    try:
        allowed: Any = await server.register_script(CHECK)(args=args)
    except ResponseError as exc:
        if "NOPERM" not in str(exc) and "permission" not in str(exc):
            raise
        return ["evalsha", "script|load"]
    return [words[0] for words, may in zip(examples, allowed, strict=True) if not may]


async def _check_password(server: Redis, setup: Setup) -> Iterator[Finding]:
    target = Target.from_url(setup.stream.redis_url)
    if target.scheme == "unix" or target.options.get("password"):
        return iter(())
    hosts = [host for host, _ in target.sentinels or target.nodes] or [target.options.get("host", "localhost")]
    addresses = [address for host in hosts for address in await _resolve(host)]
    try:
        settings: Any = await server.config_get("bind", "protected-mode")
    except ResponseError as exc:
        if not is_denied(exc):
            raise
        settings = {}
    return judge_password(redact_url(setup.stream.redis_url), addresses, settings)


async def _resolve(host: str) -> Sequence[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return [str(address[0]).partition("%")[0] for *_, address in found]


def judge_password(address: str, addresses: Sequence[str], settings: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding if others reach a server without a password: at these addresses, or where it listens."""
    public = next((one for one in addresses if ip_address(one).is_global), None)
    near = next((one for one in addresses if not ip_address(one).is_loopback), None)
    if public is not None:
        yield make_finding("redis.open", address=address, host=public)
    elif near is not None:
        yield make_finding("redis.no-password", address=address, host=near)
    elif settings.get("protected-mode") == "no":
        listens = [host for host in settings.get("bind", "").replace("-", "").split() if not _is_loopback(host)]
        if listens or not settings.get("bind"):
            yield make_finding("redis.no-password", address=address, host=" ".join(listens) or "all addresses")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # "*" is all addresses
        return False
