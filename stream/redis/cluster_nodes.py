"""Asks the nodes of a cluster which of them has a slot, and connects to that node.

A key of a shard has the shard's number as hash tag, so all keys of a shard are in one slot, and one primary has them.
For a client this primary is like one that sentinels name: each new connection asks for it, and a lost connection is
replaced by one to the node that has the slot now. A node that does not have the slot says so itself (MOVED), so nobody
has to ask in the background.

While a slot moves, some of its keys are still on the old node and others already on the new one. The nodes then answer
ASK for a single key and TRYAGAIN for a script. Both count like MOVED: the shard is away until all its keys have moved.
No node has executed the command.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import AuthenticationError, RedisError, ResponseError

from stream.redis.connection import Tcp, Tls
from stream.redis.errors import PrimaryUnknown, SlotDown, SlotMoved, error_code
from stream.redis.primary import Locator, PrimaryConnection
from stream.redis.url import Host, Target
from stream.redis.votes import count_votes

ASKED_NODES = 5
"""More nodes know nothing more."""
MOVED_CODES = frozenset(("MOVED", "ASK", "TRYAGAIN"))

Slots = frozenset[tuple[int, int, Host]]
"""First slot, last slot, and the primary that has them."""


class ClusterNodes:
    """The nodes of a cluster. Callers that ask at the same time share one query. Each query opens new connections."""

    def __init__(self, target: Target, limits: Mapping[str, Any]) -> None:
        self._seeds = target.nodes
        self._nodes: frozenset[Host] = frozenset()
        self._kind = Tls if target.scheme == "rediss" else Tcp
        self._options = {**target.options, **limits}
        self._asking = asyncio.Lock()
        self._asked_at = 0.0
        self._outcome: Sequence[Slots] | RedisError = ()

    async def find_owners(self, slots: Sequence[int]) -> list[list[Host]]:
        """Return for each slot the primaries that are named for it, most votes first. Raises RedisError."""
        now = time.monotonic()
        async with self._asking:
            if self._asked_at < now:
                started = time.monotonic()
                try:
                    self._outcome = await self._ask_nodes()
                except RedisError as exc:
                    self._outcome = exc
                self._asked_at = started
            outcome = self._outcome
        if isinstance(outcome, RedisError):
            raise outcome
        ranges = [named for answer in outcome for named in sorted(answer)]
        return [list(dict.fromkeys(host for first, last, host in ranges if first <= slot <= last)) for slot in slots]

    async def find_primaries(self) -> frozenset[Host]:
        """Return all primaries that have slots. Raises RedisError."""
        return frozenset(host for _, _, host in await self.find_ranges())

    async def find_ranges(self) -> Slots:
        """Return all slots that have a primary. Raises RedisError."""
        return (await self._ask_nodes())[0]

    async def _ask_nodes(self) -> Sequence[Slots]:
        """Return the answers of some nodes, most votes first; if none of them answers, those of all known nodes."""
        known = sorted(self._nodes | set(self._seeds))
        chosen = random.sample(known, min(len(known), ASKED_NODES))
        votes, error = await count_votes(chosen, self._ask)
        if not votes and len(chosen) < len(known):
            votes, error = await count_votes(known, self._ask)
        if not votes:
            if isinstance(error, ResponseError | AuthenticationError):  # no cluster, or no access
                raise error
            raise PrimaryUnknown("no node of the cluster answers") from error
        return [slots for slots, _ in votes.most_common()]

    async def _ask(self, host: str, port: int) -> Slots | None:
        connection: Any = self._kind(host=host, port=port, **self._options)
        try:
            await connection.connect()
            await connection.send_command("CLUSTER SLOTS")
            ranges = await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)
        named = [[_parse_address(node, host) for node in nodes] for _, _, *nodes in ranges]
        self._nodes = frozenset(address for addresses in named for address in addresses)
        return frozenset(
            (first, last, addresses[0]) for (first, last, *_), addresses in zip(ranges, named, strict=True)
        )


def _parse_address(node: Sequence[Any], asked: str) -> Host:
    """Return the address of a node. A node that does not know its own is the one that was asked."""
    return node[0].decode() if node[0] else asked, int(node[1])


class SlotLocator(Locator):
    """Finds the primary that has one slot."""

    def __init__(self, nodes: ClusterNodes, slot: int) -> None:
        self._nodes = nodes
        self._slot = slot

    async def find_primaries(self) -> Sequence[Host]:
        """Return the nodes that are named for the slot, most votes first. Raises RedisError."""
        hosts = (await self._nodes.find_owners([self._slot]))[0]
        if not hosts:
            raise SlotDown(f"no node of the cluster has slot {self._slot}")
        return hosts

    def refresh(self) -> None:
        """Do nothing: a node says by itself that it does not have the slot."""

    async def aclose(self) -> None:
        """Do nothing."""


class SlotConnection(PrimaryConnection):
    """A TCP connection to the primary that has the slot."""

    def check_primary(self) -> None:
        """Raise SlotMoved if another connection has learned that the slot has moved."""
        if self._has_moved:
            raise SlotMoved

    async def _require_primary(self, exc: ResponseError) -> None:
        """Close the connection and raise SlotMoved, SlotDown or Deposed if the node does not serve the slot."""
        code = error_code(exc)
        if code in MOVED_CODES or code == "CLUSTERDOWN":
            await self.disconnect(nowait=True)
            if code == "MOVED":
                self._locator.primary = None
            raise (SlotDown if code == "CLUSTERDOWN" else SlotMoved) from exc
        await super()._require_primary(exc)


class SlotTlsConnection(SlotConnection, Tls):
    """A TLS connection to the primary that has the slot."""
