"""Checks the Redis server: whether an append would succeed, its durability, memory, persistence, replicas, clock."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from console.doctor.clocks import judge_clock
from console.doctor.finding import Finding, make_finding
from console.doctor.redis.key_types import name_wrong_keys
from console.doctor.redis.memory import judge_memory
from console.doctor.setup import Setup
from console.format import format_shards
from ingest.append.connection import COMMANDS, AppendConnection
from ingest.append.server_checks import POLICY, REQUIRED, find_shortcomings
from ingest.append.shard_turns import ShardTurns, SingleShard
from ingest.settings import IngestSettings
from stream.keys import Shard
from stream.layout import Layout
from stream.redis.client import ServerUnfit, name_error, redact_url, require_commands
from stream.redis.cluster import LOST, at_key, find_gaps, find_nodes, is_cluster, is_lost
from stream.redis.errors import (
    FULL,
    READ_ONLY,
    UNSUPPORTED,
    UNWRITABLE,
    WRONG_TYPE,
    RedisFault,
    SlotDown,
    identify_fault,
    is_denied,
)
from stream.shard_watch import ShardWatch

SETTINGS = (*REQUIRED, POLICY, "maxmemory", "maxclients", "min-replicas-to-write", "stop-writes-on-bgsave-error")
EXPLAINED = frozenset((READ_ONLY, FULL, UNWRITABLE))
"""Faults of an append whose cause another finding names."""
LATE_SECONDS = 10
BUDGET_SHARE = 0.25
CLIENT_SHARE = 0.9
REPLIES = 5


@dataclass(frozen=True, slots=True)
class ServerState:
    """The answers of a server. An answer that this user may not ask for is empty, the settings None."""

    settings: Mapping[str, str] | None
    info: Mapping[str, Any]


async def find_fault(server: Redis, setup: Setup) -> Finding | None:
    """Return why Redis does not answer; None if it does. The other checks of Redis need its answers."""
    try:
        await server.ping()
        if is_cluster(server):
            with suppress(ResponseError):
                await server.exists(setup.stream.shard.stream)  # a node of a cluster that is down answers a ping
    except (RedisError, OSError) as exc:
        fault = identify_fault(exc)
        if fault in EXPLAINED:
            return None
        return await _find_home_away(server, setup, exc) or describe_fault(setup, fault, name_error(exc))
    return None


async def _find_home_away(server: Redis, setup: Setup, error: BaseException) -> Finding | None:
    """Return a finding if the node of a cluster that has shard 0 is away, and other nodes are not.

    Shard 0 has the number of shards, so the shards are those of ACKSTREAM_SHARDS.
    """
    if not (is_cluster(server) and isinstance(error, LOST)):
        return None
    shards = Layout(known=setup.stream.shards).shards(setup.stream.stream)
    try:
        nodes = await find_nodes(server, [shard.stream for shard in shards])
        if nodes[shards[0].stream] and isinstance(error, SlotDown):  # the node has answered
            return await _find_down(server)
    except RedisError:
        return None
    return _describe_away(nodes, shards[0], error)


async def _find_down(server: Redis) -> Finding | None:
    """Return why a cluster is down; None if all primaries answer, and all slots have one. Raises RedisError."""
    away, slots = await find_gaps(server)
    missing = [*(f"node {node} does not answer" for node in away), *([f"{slots} slots have no node"] if slots else [])]
    return make_finding("redis.cluster-down", missing="; ".join(missing)) if missing else None


def _describe_away(nodes: Mapping[str, str], shard: Shard, error: BaseException) -> Finding:
    """Return the finding for the node of this shard, with all its shards. ``nodes`` has the node of each stream."""
    address = nodes[shard.stream]
    if not address:
        return make_finding("redis.no-node", shard=shard.number)
    numbers = [number for number, node in enumerate(nodes.values()) if node == address]
    return make_finding("redis.node-away", node=address, error=name_error(error), shards=format_shards(numbers))


async def check_redis(server: Redis, setup: Setup) -> Sequence[Finding]:
    """Return the findings about the server, or each node that has a shard. Raises RedisError if it stops answering."""
    shards = await setup.find_shards(server)
    nodes = await find_nodes(server, [shard.stream for shard in shards])
    findings: list[Finding] = []
    checked: set[str] = set()
    away: set[str] = set()
    for shard in shards:
        address = nodes[shard.stream]
        if is_cluster(server) and not address:
            findings.append(make_finding("redis.no-node", shard=shard.number))
            continue
        if address in away:
            continue
        try:
            found = await _check_shard(server, setup, shard, is_first=address not in checked)
        except RedisError as exc:
            if not address or not is_lost(exc):
                raise
            findings.append(_describe_away(nodes, shard, exc))
            away.add(address)
            continue
        checked.add(address)
        findings += [replace(each, what=f"{each.what} Node {address}.") if address else each for each in found]
    return findings


async def _check_shard(server: Redis, setup: Setup, shard: Shard, *, is_first: bool) -> list[Finding]:
    """Return the findings about an append to the shard, and about its server if it ``is_first`` there."""
    node = at_key(server, shard.stream)
    found = await _check_server(node, setup) if is_first else []
    fault, error = await try_append(node, SingleShard(node, setup.stream, shard))
    if fault is WRONG_TYPE:
        error = await name_wrong_keys(server, setup.stream)
    if fault is not None and not (fault in EXPLAINED and any(finding.is_problem for finding in found)):
        return [describe_fault(setup, fault, error), *found]
    return found


async def _check_server(server: Redis, setup: Setup) -> list[Finding]:
    state = await read_state(server)
    return [
        *await _compare_clocks(server, setup),
        *judge_replies(await _measure_reply_ms(server), setup.ingest),
        *judge_durability(state.settings, setup.ingest),
        *judge_memory(state.info, state.settings, setup.worker),
        *judge_persistence(state.info, state.settings),
        *judge_replication(state, redact_url(setup.stream.redis_url)),
        *judge_clients(state),
    ]


async def _compare_clocks(server: Redis, setup: Setup) -> Sequence[Finding]:
    before = setup.clock()
    try:
        seconds, micros = await server.time()
    except ResponseError as exc:  # the user of ingest may not ask
        if not is_denied(exc):
            raise
        return []
    return list(judge_clock("Redis", seconds + micros / 1e6, before, setup.clock()))


async def _measure_reply_ms(server: Redis) -> float:
    """Return the shortest of some replies: the other checks use the same event loop."""
    times = []
    for _ in range(REPLIES):
        started = time.perf_counter()
        with suppress(ResponseError):  # a server that refuses writes refuses PING, too
            await server.ping()
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


async def try_append(server: Redis, watch: ShardWatch) -> tuple[RedisFault | None, str]:
    """Return the fault that an append would meet and its error, as ingest tries it at its start. Appends nothing."""
    try:
        await require_commands(server, (*COMMANDS, "FUNCTION"))
        connection = await AppendConnection.open(server, ShardTurns(watch))
        try:
            await connection.append((), LATE_SECONDS)
        finally:
            await connection.close()
    except ServerUnfit as exc:
        return UNSUPPORTED, str(exc)
    except RedisError as exc:
        return identify_fault(exc), name_error(exc)
    return None, ""


async def read_state(server: Redis) -> ServerState:
    """Return the settings and the state of the server. Raises RedisError if it does not answer."""
    info: dict[str, Any] = {}
    for section in ("server", "clients", "memory", "persistence", "replication"):
        try:
            info |= await server.info(section)
        except ResponseError as exc:
            if not is_denied(exc):
                raise
    try:
        settings: Any = await server.config_get(*SETTINGS)
    except ResponseError as exc:
        if not is_denied(exc):
            raise
        settings = None
    return ServerState(settings, info)


def judge_replies(ms: float, ingest: IngestSettings | None) -> Iterator[Finding]:
    """Yield a finding if the answers take a large part of the time that ingest leaves to Redis."""
    if ingest is not None and ms > BUDGET_SHARE * ingest.ack_budget_ms:
        yield make_finding("redis.slow", ms=round(ms), budget=ingest.ack_budget_ms)


def judge_durability(settings: Mapping[str, str] | None, ingest: IngestSettings | None) -> Iterator[Finding]:
    """Yield what makes an append less durable than the disk, by the check that ingest makes at its start."""
    if settings is None:
        yield make_finding("redis.hidden")
        return
    policy = settings.get(POLICY, "")
    if policy.startswith("allkeys-"):
        yield make_finding("redis.evicts", policy=policy)
    short = [phrase for phrase in find_shortcomings(settings) if POLICY not in phrase]
    if short:
        change = " ".join(f"{name} {value}" for name, value in REQUIRED.items() if settings.get(name) != value)
        strict = ingest is not None and ingest.ack == "fsync"
        name = "redis.not-durable" if strict else "redis.less-durable"
        yield make_finding(name, short="; ".join(short), change=change)


def judge_persistence(info: Mapping[str, Any], settings: Mapping[str, str] | None) -> Iterator[Finding]:
    """Yield the snapshots and writes to disk that failed."""
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        stops = (settings or {}).get("stop-writes-on-bgsave-error") == "yes"
        yield make_finding("redis.snapshot-failed", effect=", so that it may refuse all writes" if stops else "")
    if info.get("aof_enabled"):
        if info.get("aof_last_write_status", "ok") != "ok":
            yield make_finding("redis.append-failed")
        if info.get("aof_last_bgrewrite_status", "ok") != "ok":
            yield make_finding("redis.rewrite-failed")


def judge_replication(state: ServerState, address: str) -> Iterator[Finding]:
    """Yield a finding if the server is a replica, or if replicas are missing or behind."""
    info = state.info
    if info.get("role") == "slave":
        yield make_finding("redis.replica", address=address)
        return
    replicas = [info[f"slave{number}"] for number in range(info.get("connected_slaves", 0)) if f"slave{number}" in info]
    behind = [one for one in replicas if one.get("state") != "online" or int(one.get("lag", 0)) > LATE_SECONDS]
    wanted = int((state.settings or {}).get("min-replicas-to-write", 0))
    good = len(replicas) - len(behind)
    if good < wanted:
        yield make_finding("redis.replicas-missing", wanted=wanted, good=good)
    for replica in behind:
        lag = f"{replica.get('lag')} s behind" if replica.get("state") == "online" else str(replica.get("state"))
        yield make_finding("redis.replica-behind", replica=f"{replica.get('ip')}:{replica.get('port')}", state=lag)


def judge_clients(state: ServerState) -> Iterator[Finding]:
    """Yield a finding if nearly as many clients are connected as the server allows."""
    clients, limit = state.info.get("connected_clients", 0), int((state.settings or {}).get("maxclients", 0))
    if limit and clients > CLIENT_SHARE * limit:
        yield make_finding("redis.clients", clients=clients, limit=limit)


def describe_fault(setup: Setup, fault: RedisFault, error: str) -> Finding:
    """Return the finding for a fault, with its next step."""
    address = redact_url(setup.stream.redis_url)
    return make_finding(
        "redis.unusable", address=address, meaning=fault.meaning, error=error or fault.name, step=fault.next_step
    )
